#include "table.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS 256

static struct entry *buckets[BUCKETS];

static unsigned hash(const char *word)
{
    unsigned h = 5381;

    while (*word)
        h = h * 33 + (unsigned char)*word++;
    return h % BUCKETS;
}

int table_add(const char *word)
{
    struct entry **bucket = &buckets[hash(word)];
    struct entry *e;

    for (e = *bucket; e; e = e->next)
        if (strcmp(e->word, word) == 0) {
            e->count++;
            return 1;
        }
    e = malloc(sizeof *e);
    if (!e || !(e->word = malloc(strlen(word) + 1))) {
        free(e);
        return 0;
    }
    strcpy(e->word, word);
    e->count = 1;
    e->next = *bucket;
    *bucket = e;
    return 1;
}

struct entry *table_take(void)
{
    struct entry **best = NULL;

    for (int i = 0; i < BUCKETS; i++)
        for (struct entry **at = &buckets[i]; *at; at = &(*at)->next)
            if (!best || (*at)->count > (*best)->count
                || ((*at)->count == (*best)->count && strcmp((*at)->word, (*best)->word) < 0))
                best = at;
    if (!best)
        return NULL;
    struct entry *taken = *best;
    *best = taken->next;
    return taken;
}
