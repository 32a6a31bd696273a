/* loading.h - opening the model on a thread of its own, while the daemon already says how far it
 * is. */
#ifndef SAMEBIT_LOADING_H
#define SAMEBIT_LOADING_H

#include <pthread.h>

#include "server/engine/engine.h"
#include "server/http/server.h"

struct loading {
    struct server *server; /* its engine is set when the model is there */
    struct engine_options options;
    int done; /* a byte is written into this pipe at the end */
    struct error err;
    pthread_t thread;
    int on_terminal;
    int64_t drawn; /* when the bar was, clock_ns() */
};

/* Starts.  *l stays where it is until loading_join. */
int loading_start(struct loading *l, struct server *server, const struct engine_options *options,
                  int done, struct error *err);
/* Waits for the end: 0, or -1 with the reason. */
int loading_join(struct loading *l, struct error *err);

#endif
