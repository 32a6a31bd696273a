/* answers.h - threads that turn a whole request into a reply or a run.
 *
 * Parsing a body, resolving its names and encoding its text take their time, bounded as their inputs
 * are; meanwhile the threads that own the sockets go on answering /health. */
#ifndef SAMEBIT_ANSWERS_H
#define SAMEBIT_ANSWERS_H

#include "kernels/base/error.h"

struct answers;

/* Lies in what it is part of, so that asking takes no memory. */
struct answer {
    struct answer *next;
    void (*work)(void *user); /* once, on one of the threads */
    void *user;
};

struct answers *answers_create(int threads, struct error *err);
/* In order of asking. */
void answers_ask(struct answers *a, struct answer *one);
/* After what was asked for has been done. */
void answers_free(struct answers *a);

#endif
