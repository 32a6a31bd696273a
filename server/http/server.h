/* server.h - what all requests share. */
#ifndef SAMEBIT_SERVER_H
#define SAMEBIT_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "server/engine/drivers.h"
#include "server/engine/engine.h"
#include "server/engine/scheduler.h"
#include "server/http/settings.h"

struct server {
    struct settings settings;
    struct scheduler *scheduler;
    struct drivers *drivers;
    _Atomic(struct engine *) engine;    /* NULL while it is being opened; set once */
    pthread_mutex_t lock;               /* of the three below */
    char loading[64];                   /* what is being done, */
    uint64_t loading_done, loading_all; /* and how far it has come, in bytes */
};

#endif
