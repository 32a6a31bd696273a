/* backend_cpu.h - the CPU backend. */
#ifndef SAMEBIT_CPU_BACKEND_CPU_H
#define SAMEBIT_CPU_BACKEND_CPU_H

#include "kernels/backend.h"

/* See backend_open and backend_close. */
struct backend *backend_cpu_open(const struct numerics *numerics, const char *isa, int threads,
                                 struct error *err);
void backend_cpu_close(struct backend *b);

#endif
