#include "words.h"

#include <ctype.h>

int next_word(FILE *from, char *word, size_t size)
{
    size_t length = 0;
    int c;

    while ((c = getc(from)) != EOF && !isalpha(c))
        ;
    for (; c != EOF && isalpha(c); c = getc(from))
        if (length + 1 < size)
            word[length++] = (char)tolower(c);
    word[length] = '\0';
    return length > 0;
}
