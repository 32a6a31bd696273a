/* torch.h - asks a live PyTorch what it computes. */
#ifndef SAMEBIT_TORCH_H
#define SAMEBIT_TORCH_H

#include "server/probe.h"

struct torch {
    char version[64], capability[32]; /* "2.13.0+cpu"; "AVX2" */
    int threads;                      /* torch.get_num_threads() */
    bf16 *result[PROBES];
};

/* Runs script (configs/probe_torch.py) by python, a path or a name in PATH, with this process's
 * environment, for two minutes at most.  The caller clears *out, also after an error: 400, naming python
 * and what went wrong. */
int torch_ask(const char *python, const char *script, struct torch *out, struct error *err);
void torch_clear(struct torch *t);

#endif
