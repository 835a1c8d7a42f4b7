#ifndef TABLE_H
#define TABLE_H

/* How often each word came. */
struct entry {
    char *word;
    unsigned long count;
    struct entry *next;
};

/* Counts a word; 0 when there is no memory. */
int table_add(const char *word);

/* The entry with the highest count, the first in the alphabet among equals. It is taken out. */
struct entry *table_take(void);

#endif
