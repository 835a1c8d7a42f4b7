#ifndef WORDS_H
#define WORDS_H

#include <stdio.h>

/* The next word of the file in small letters, cut to size - 1 bytes; 0 at the end. */
int next_word(FILE *from, char *word, size_t size);

#endif
