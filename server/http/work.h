/* work.h - a run on its way through the scheduler, and the writer that turns it into a reply. */
#ifndef SAMEBIT_WORK_H
#define SAMEBIT_WORK_H

#include "server/engine/run.h"
#include "server/http/replace.h"
#include "server/http/request.h"

struct work;

/* Called on the worker's thread.  What they append to work->out goes to the reader. */
struct writer {
    /* A piece of the run's entry.  NULL: the run gives no values. */
    int (*value)(struct work *w, int64_t entry, const void *data, size_t bytes, struct error *err);
    /* As run_sink.token; may be NULL. */
    int (*token)(struct work *w, int64_t call, int64_t id, struct error *err);
    /* After the run. */
    int (*close)(struct work *w, struct error *err);
    void (*free)(void *state); /* of work->state; may be NULL */
};

struct work {
    struct engine *engine;
    struct run *run;
    struct replacements replace; /* borrowed by run */
    struct buffer out;           /* filled before the run with what precedes the first value */
    const struct writer *writer;
    void *state; /* the writer's */
    struct stream *stream;
    int joins;          /* the run shares its thread with others: what has no room waits in out */
    int over;           /* and its reply is complete */
    size_t due;         /* bytes of out that are to go as soon as there is room */
    struct error error; /* how the run ended */
};

/* All zero but the engine; NULL with err when there is no memory. */
struct work *work_create(const struct request *r, struct error *err);
void work_free(struct work *w);

/* Hands work to the scheduler, which frees it (also after an error), and sets reply to its
 * stream.  size: bytes of the reply, -1 when that is not known. */
int work_submit(struct work *w, const struct request *r, struct reply *reply, const char *type,
                int64_t size, struct error *err);

/* ---- for writers ---- */

enum { WORK_PIECE = 32 * 1024 };

/* Sends what is in work->out when it is at least `least` bytes (1: whatever there is). */
int work_send(struct work *w, size_t least, struct error *err);
/* Sends it, and then these: from where they lie, where the run has its thread for itself. */
int work_send_bytes(struct work *w, const void *bytes, size_t size, struct error *err);

#endif
