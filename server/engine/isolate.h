/* isolate.h - a run that judges each operation alone, on the values of another program.
 *
 * The values that are given do not replace what is computed: each is taken after its own step has been
 * computed and shown, so that every step works on the other program's inputs.  Inputs that are not
 * given are computed forward from the nearest values that are.  What nothing that is shown depends on
 * is not computed at all. */
#ifndef SAMEBIT_ISOLATE_H
#define SAMEBIT_ISOLATE_H

#include "server/engine/run.h"

struct isolate; /* opaque; read-only once made */

/* r's names and replacements are resolved; formulas: as the request has them.  Errors: 400 with param
 * "formulas.NAME". */
struct isolate *isolate_create(const struct run *r, const struct run_request *request,
                               const struct run_limits *limits, struct error *err);
void isolate_free(struct isolate *x);
/* Bytes that it takes. */
uint64_t isolate_bytes(const struct isolate *x);

/* Sets what a call of the model does at each step beyond what it shows. */
void isolate_taps(const struct isolate *x, int64_t call, struct tap *taps);
/* Computes a step by its formula; that of a cache gives the rows of this call, or all rows, and one that
 * reads what was `before` leaves the first call as it is.  sink: whose poll may end it.  Errors, which name
 * the step: 400 with param "formulas.NAME", or the sink's. */
int isolate_compute(const struct isolate *x, const struct run_sink *sink, int64_t call, int step,
                    const struct op_call *op, struct error *err);

#endif
