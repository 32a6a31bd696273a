/* stream.h - the bounded pipe between a worker that computes a reply and the thread that sends it.
 *
 * A ring of fixed size: a reader who stalls holds back the run, not the memory.  The worker either
 * waits while the ring is full (stream_write; the reader meanwhile copies what had no room straight
 * from the worker's own bytes), or puts in what fits and comes back later (stream_offer).  The reader
 * never waits: when there is nothing to read it is put to sleep through a callback and woken, exactly
 * once, through another.
 * A stream ends in one of three ways: complete, failed (an error of the worker, the deadline, a
 * reader who takes nothing for too long, the daemon stopping), or left by its reader.  Shared by
 * counting; all functions lock as needed. */
#ifndef SAMEBIT_STREAM_H
#define SAMEBIT_STREAM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernels/base/error.h"

enum { STREAM_RING = 2 << 20 };

struct stream;

/* deadline: clock_ns() after which it fails with 504; stall: ns after which it does so when the
 * worker has more than there is room for and the reader takes none of it.  One reference, the
 * caller's.  NULL: no memory. */
struct stream *stream_create(int64_t deadline, int64_t stall);
struct stream *stream_share(struct stream *s);
void stream_release(struct stream *s);

/* ---- the worker's side ---- */

/* Puts bytes into the ring, blocking while it has no room for the rest of them; they are the
 * caller's again afterwards.  -1: the stream has failed or was left; err says why (499, 503, 504). */
int stream_write(struct stream *s, const void *bytes, size_t size, struct error *err);
/* Puts as many bytes as there is room for; how many, or -1 as above. */
ssize_t stream_offer(struct stream *s, const void *bytes, size_t size, struct error *err);
/* Its bytes are lines of JSON: where it fails later, the reader is told why in one more line
 * ({"error": ...}) and the end is whole. */
void stream_tells(struct stream *s);
/* Says how many bytes it will give in all, before the first. */
void stream_set_length(struct stream *s, int64_t bytes);
/* Bytes that there is room for. */
size_t stream_space(struct stream *s);
/* Gives what was written to the reader now (otherwise within about 20 ms, by stream_poll). */
void stream_flush(struct stream *s);
/* -1 when nobody wants the rest; costs next to nothing. */
int stream_poll(struct stream *s, struct error *err);
/* The last word: complete where error->code is 0, else failed.  Does not block. */
void stream_end(struct stream *s, const struct error *error);

/* ---- the reader's side: one thread at a time ---- */

/* sleep is called (by the reader's own calls) when there is nothing to read, wake by any thread
 * when that has changed; never twice without the other between. Both under the stream's lock. */
void stream_attach(struct stream *s, void (*sleep)(void *user), void (*wake)(void *user),
                   void *user);
/* Nothing is called any more; the reader is gone. */
void stream_detach(struct stream *s);

enum stream_state { STREAM_WAITING, STREAM_FLOWING, STREAM_FAILED };
/* Whether the first byte (or the end) is there.  WAITING: the reader has been put to sleep.
 * FAILED: *error is set, no byte was given out and none will be. */
enum stream_state stream_first(struct stream *s, struct error *error);

/* Bytes that it gives in all; -1: not known.  After stream_first said FLOWING. */
int64_t stream_length(struct stream *s);

enum { STREAM_NOTHING = 0, STREAM_COMPLETE = -1, STREAM_BROKEN = -2 };
/* Up to size bytes; or NOTHING (put to sleep), COMPLETE, BROKEN (what was not read yet is lost). */
ssize_t stream_read(struct stream *s, void *out, size_t size);

/* ---- anybody's ---- */

/* Fails the stream unless it has ended; wakes both sides. */
void stream_fail(struct stream *s, int code, const char *message);
/* Returns whether the worker has waited for the reader for over 0.1 s.  Takes no lock. */
int stream_stalled(struct stream *s);
/* Fails the stream with 504 when its deadline is before now, or its reader stalls for too long. */
void stream_expire(struct stream *s, int64_t now);

#endif
