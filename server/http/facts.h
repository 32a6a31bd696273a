/* facts.h - what made a result: stated in every reply, since its bits mean nothing without. */
#ifndef SAMEBIT_FACTS_H
#define SAMEBIT_FACTS_H

#include <jansson.h>

#include "kernels/base/buffer.h"
#include "server/engine/engine.h"

/* Appends `"model":"...",...,"version":"..."`: members of an object, without the braces. attention,
 * torch_threads: the run's; the engine's default where nothing ran (torch_threads 0). */
void facts_json(struct buffer *out, const struct engine *e, enum attention attention,
                int64_t torch_threads);
/* Appends `,"notice":"..."` where a run of so many positions goes beyond what the model was made for:
 * transformers computes that too. */
void facts_notice_json(struct buffer *out, const struct engine *e, int64_t positions);
/* Sets the same as strings in an object (metadata of a safetensors file).  -1: no memory. */
int facts_metadata(json_t *object, const struct engine *e, enum attention attention,
                   int64_t torch_threads);
int facts_notice_metadata(json_t *object, const struct engine *e, int64_t positions);

#endif
