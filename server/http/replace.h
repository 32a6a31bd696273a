/* replace.h - the two forms of a request's body, and the values it brings to put into the run. */
#ifndef SAMEBIT_REPLACE_H
#define SAMEBIT_REPLACE_H

#include <jansson.h>

#include "server/engine/run.h"
#include "server/http/request.h"

/* All zero is none.  Owns names and data. */
struct replacements {
    struct run_replace *at;
    int64_t count;
};

/* Reads a body: JSON whose "replace" object holds nested lists of numbers (rounded to bf16 once;
 * "NaN", "Infinity", "-Infinity" as strings), or a safetensors file whose metadata has that JSON as
 * text under "request" and whose tensors are more of them.  *root: the JSON object; the caller
 * decrefs it and clears the replacements, also after an error. */
int body_read(const struct request *r, json_t **root, struct replacements *out, struct error *err);
void replacements_clear(struct replacements *r);

#endif
