/* write.h - the three forms in which a run's values leave. */
#ifndef SAMEBIT_WRITE_H
#define SAMEBIT_WRITE_H

#include "server/http/work.h"

/* Each sets up work's writer, whose run is already there, and puts the reply's head into work->out.
 *
 * only: NULL for a trace.  Else the run has one entry, and it is called that ("logits");
 * `positions` then are its rows. */
struct write_spec {
    const char *only;
    const int64_t *positions;
    int64_t position_count;
};

/* {facts, "prompt_tokens", "aliases", "values": {name: {"dtype", "shape", "data"}}, "tokens"}
 * with only: {facts, "prompt_tokens", "positions", "logits": {...}, "tokens"} */
int write_json(struct work *w, const struct write_spec *spec, struct error *err);
/* The same with "sha256" (of the bytes that the binary form has) in place of "data". */
int write_digest(struct work *w, const struct write_spec *spec, struct error *err);
/* A safetensors file: the values in execution order, then `tokens`; facts, aliases, prompt_tokens
 * (and positions) as JSON text in the metadata.  *size: bytes of it. */
int write_binary(struct work *w, const struct write_spec *spec, int64_t *size, struct error *err);

/* Appends `{facts,"prompt_tokens":[...]` and, where the spec has only, `,"positions":[...]`. */
void write_head(struct work *w, const struct write_spec *spec);
/* Appends {"alias": ["path", ...], ...}. */
void write_aliases(const struct run *run, struct buffer *out);

#endif
