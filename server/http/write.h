/* write.h - the three forms in which a run's values leave. */
#ifndef SAMEBIT_WRITE_H
#define SAMEBIT_WRITE_H

#include "server/http/prompt.h"
#include "server/http/work.h"

/* Each sets up work's writer, whose run is already there, and puts the reply's head into work->out.
 * What is asked for again in the words of the head ("attention", "prompt_tokens", "positions",
 * "padding", "position_ids", "batch", "chunks", "torch_threads") gives the same bits.
 *
 * only: NULL for a trace.  Else the run has one entry, and it is called that ("logits");
 * `positions` then are its rows, otherwise what the request says. */
struct write_spec {
    const char *only;
    enum run_positions which;
    const int64_t *positions; /* LIST */
    int64_t position_count;
    const struct prompt *prompt;
};

/* {facts, "prompt_tokens", "positions", "aliases",
 *  "values": {name: {"dtype", "shape", "data"}}, "tokens"}
 * with only: {facts, "prompt_tokens", "positions", "logits": {...}, "tokens"}
 * "padding", "position_ids", "batch" and "chunks" where they were given. */
int write_json(struct work *w, const struct write_spec *spec, struct error *err);
/* The same with "sha256" (of the bytes that the binary form has) in place of "data". */
int write_digest(struct work *w, const struct write_spec *spec, struct error *err);
/* A safetensors file: the values in execution order, then `tokens`; the facts, and
 * prompt_tokens, positions, padding, position_ids, batch, chunks and aliases as JSON text ("all",
 * "last" and "mask" plain), in the metadata. */
int write_binary(struct work *w, const struct write_spec *spec, struct error *err);

/* ---- for these ---- */

/* Appends all that precedes the first value. */
void write_open(struct work *w, const struct write_spec *spec);
/* Appends `"name":{"dtype":...,"shape":...` of the run's entry, with a comma before all but the
 * first. */
void write_entry(struct work *w, int64_t entry, const char *only);
/* Appends all that follows the last value. */
void write_tail(struct work *w, const char *only);
/* Appends `{facts,"prompt_tokens":[...],"positions":...`, and padding, position_ids, batch and chunks. */
void write_head(struct work *w, const struct write_spec *spec);
/* Appends {"alias": ["path", ...], ...}. */
void write_aliases(const struct run *run, struct buffer *out);

#endif
