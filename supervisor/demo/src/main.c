/* tally: the words of a text, the most frequent first. */

#include "config.h"
#include "table.h"
#include "words.h"

#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    char word[64];

    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("tally " VERSION);
        return 0;
    }
    if (argc != 3) {
        fprintf(stderr, "usage: tally FILE HOW_MANY\n");
        return 2;
    }
    FILE *file = fopen(argv[1], "r");
    if (!file) {
        perror(argv[1]);
        return 1;
    }
    while (next_word(file, word, sizeof word))
        if (!table_add(word)) {
            fprintf(stderr, "tally: no memory\n");
            return 1;
        }
    fclose(file);
    for (int n = atoi(argv[2]); n > 0; n--) {
        struct entry *e = table_take();
        if (!e)
            break;
        printf("%4lu %s\n", e->count, e->word);
    }
    return 0;
}
