/* backend.c - finds the device by name. */
#include "kernels/backend.h"

#include <string.h>

#include "kernels/cpu/backend_cpu.h"
#include "kernels/cuda/backend_cuda.h"

#ifdef SAMEBIT_CUDA
static const int has_cuda = 1;
#else
static const int has_cuda = 0;

struct backend *backend_cuda_open(const char *device, const struct numerics *numerics,
                                  struct error *err)
{
    error_param(err, 400, "device",
                "device \"%.40s\": this samebitd was built without CUDA: make CUDA=1", device);
    (void)numerics;
    return NULL;
}
#endif

/* An option that only the CPU has is an error on a GPU: it must not be ignored. */
static struct backend *open_cuda(const char *device, const struct numerics *numerics,
                                 const char *isa, int threads, struct error *err)
{
    if (has_cuda && isa)
        error_param(err, 400, "isa", "isa \"%.40s\" is for the cpu; %.40s has its own", isa,
                    device);
    else if (has_cuda && threads)
        error_param(err, 400, "threads", "threads are for the cpu; %.40s has its own", device);
    else if (has_cuda && !numerics_runs_on(numerics, device))
        error_param(err, 400, "numerics", "numerics %s is for the device \"cpu\", not \"%.40s\"",
                    numerics->name, device);
    else
        return backend_cuda_open(device, numerics, err);
    return NULL;
}

struct backend *backend_open(const char *device, const struct numerics *numerics, const char *isa,
                             int threads, struct error *err)
{
    if (strncmp(device, "cuda:", 5) == 0)
        return open_cuda(device, numerics, isa, threads, err);
    if (strcmp(device, "cpu") != 0)
        error_param(err, 400, "device", "unknown device \"%.40s\"; known: \"cpu\", \"cuda:N\"",
                    device);
    else if (!numerics_runs_on(numerics, device))
        error_param(err, 400, "numerics", "numerics %s needs a device \"cuda:N\", not \"%s\"",
                    numerics->name, device);
    else
        return backend_cpu_open(numerics, isa, threads, err);
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
