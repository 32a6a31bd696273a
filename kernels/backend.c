/* backend.c - finds the device by name. */
#include "kernels/backend.h"

#include <string.h>

#include "kernels/cpu/backend_cpu.h"
#include "kernels/cuda/backend_cuda.h"

struct backend *backend_open(const char *device, enum numerics numerics, const char *isa,
                             int threads, struct error *err)
{
    if (strcmp(device, "cpu") == 0)
        return backend_cpu_open(numerics, isa, threads, err);
#ifdef SAMEBIT_CUDA
    if (strncmp(device, "cuda:", 5) == 0)
        return backend_cuda_open(device, numerics, err);
#endif
    error_param(err, 400, "device", "unknown device \"%s\"; known: \"cpu\"", device);
    return NULL;
}

void backend_close(struct backend *b)
{
    if (!b)
        return;
#ifdef SAMEBIT_CUDA
    if (strncmp(b->device, "cuda:", 5) == 0) {
        backend_cuda_close(b);
        return;
    }
#endif
    backend_cpu_close(b);
}
