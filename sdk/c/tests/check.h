/* What the tests say, and how often they were right. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline void check_text(const char *found, const char *expected, const char *what, const char *file, int line) {
    if (found == NULL ? expected != NULL : expected == NULL || strcmp(found, expected) != 0) {
        fprintf(stderr, "%s:%d: %s\n  found    %s\n  expected %s\n", file, line, what, found == NULL ? "nothing" : found,
                expected == NULL ? "nothing" : expected);
        exit(1);
    }
}

#define IS(found, expected) check_text(found, expected, #found, __FILE__, __LINE__)
#define TRUE(fact)                                                                                                     \
    do {                                                                                                               \
        if (!(fact)) {                                                                                                 \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #fact);                                         \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
