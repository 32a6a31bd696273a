/* backend.c - finds the device by name. */
#include "kernels/backend.h"

#include <string.h>

#include "kernels/cpu/backend_cpu.h"

struct backend *backend_open(const char *device, enum numerics numerics, const char *isa,
                             int threads, struct error *err)
{
    if (strcmp(device, "cpu") == 0)
        return backend_cpu_open(numerics, isa, threads, err);
    error_param(err, 400, "device", "unknown device \"%s\"; known: \"cpu\"", device);
    return NULL;
}

void backend_close(struct backend *b)
{
    if (b)
        backend_cpu_close(b);
}
