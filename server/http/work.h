/* work.h - a run on its way through the scheduler, and the writer that turns it into a reply.
 *
 * The writer appends to `out` whatever the form of the reply asks for, and sends it at times of its
 * choice.  What that does depends on the run's kind (scheduler.h), and on nothing else:
 *   ALONE   the driver waits until the stream has taken the bytes.
 *   SHARED  what has no room stays in `out`, and the run sits out until it has left.
 * A run's last byte is always held back until the run no longer counts (job.finish), so that a
 * client who has its whole reply finds the place free. */
#ifndef SAMEBIT_WORK_H
#define SAMEBIT_WORK_H

#include "server/engine/run.h"
#include "server/http/replace.h"
#include "server/http/request.h"

struct work;

/* Called by the driver of the run.  What they append to work->out goes to the reader. */
struct writer {
    /* The next bytes of the value run_entry(run, entry).  NULL: the run gives no values. */
    int (*value)(struct work *w, int64_t entry, const void *data, size_t bytes, struct error *err);
    /* As run_sink.token; may be NULL. */
    int (*token)(struct work *w, int64_t call, int64_t id, struct error *err);
    /* The run is complete: appends what follows the last value. */
    int (*close)(struct work *w, struct error *err);
    void (*free)(void *state); /* of work->state; may be NULL */
};

struct work {
    struct engine *engine;
    struct run *run;
    struct replacements replace; /* borrowed by run */
    struct buffer out;           /* filled before the run with what precedes the first value */
    const struct writer *writer;
    void *state;           /* the writer's */
    int alone;             /* the writer is slow at times: the run must not share a driver */
    uint64_t writer_bytes; /* that the writer takes beyond what a call gives, at most */
    struct stream *stream;
    int by_line;        /* the reply is lines of JSON: a failure is told in the last one */
    int may_wait;       /* the run is ALONE and has not ended: sending may wait for the reader */
    int over;           /* the run has ended, and out holds the rest of the reply */
    size_t due;         /* so many bytes of out are to go as soon as the stream has room */
    struct error error; /* how the run ended */
};

/* All zero but the engine; NULL with err when there is no memory. */
struct work *work_create(const struct request *r, struct error *err);
void work_free(struct work *w);

/* Hands work to the scheduler, which frees it (also after an error), and sets reply to its
 * stream. */
int work_submit(struct work *w, const struct request *r, struct reply *reply, const char *type,
                struct error *err);

/* ---- for writers ---- */

enum { WORK_PIECE = 32 * 1024 }; /* bytes that are worth sending */

/* Sends what is in work->out when it is at least `least` bytes (1: whatever there is). */
int work_send(struct work *w, size_t least, struct error *err);
/* Sends what is in work->out, and then these.  An ALONE run's are not copied into out: its reader
 * takes them from where they lie.  That is the one thing that the two kinds do apart.  A call of an
 * ALONE run may give more bytes than there is memory (all values of a long prompt are gigabytes), so
 * they cannot be kept in out, and its driver can wait; a SHARED run gives little a call, and its
 * driver has others to serve. */
int work_send_bytes(struct work *w, const void *bytes, size_t size, struct error *err);

#endif
