/* probe.h - a few operations whose bits tell the numerics of PyTorch on a CPU apart.
 *
 * The same inputs are given to a live torch (configs/probe_torch.py) and to the scalar specifications. */
#ifndef SAMEBIT_PROBE_H
#define SAMEBIT_PROBE_H

#include "kernels/backend.h"
#include "kernels/base/bf16.h"

/* Those up to PROBES_OF_EAGER are of eager attention, the rest are sdpa. */
enum { PROBES = 7, PROBES_OF_EAGER = 4 };
enum { PROBE_TEXT = 48 };

/* "linear:2:512:64", as the script takes it. */
void probe_name(int probe, char text[PROBE_TEXT]);
/* Elements of its result. */
int64_t probe_count(int probe);

/* A row's result.  host: whose, where the row's bits depend on it.  Returns 1, or 0 where the row has no
 * such operation; -1: no memory. */
int probe_compute(int probe, const struct numerics *row, const struct torch_host *host, bf16 *out,
                  struct error *err);

#endif
