/* notices.h - what a user of an opened model should know and what is no error: said once at start,
 * and in every GET /v1/model. */
#ifndef SAMEBIT_NOTICES_H
#define SAMEBIT_NOTICES_H

struct notices {
    char **at; /* one sentence each; owned */
    int count;
    int failed; /* there was no memory for one */
};

/* All zero is an empty list. */
void notices_add(struct notices *n, const char *format, ...) __attribute__((format(printf, 2, 3)));
void notices_clear(struct notices *n);

#endif
