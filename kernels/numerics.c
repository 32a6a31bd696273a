/* numerics.c - see numerics.h. */
#include "kernels/numerics.h"

#include <string.h>

static const char *const names[NUMERICS_COUNT] = {
    [NUMERICS_TORCH_CPU_AVX512_BF16] = "torch-cpu/avx512_bf16",
    [NUMERICS_TORCH_CPU_AVX2] = "torch-cpu/avx2",
    [NUMERICS_TORCH_CUDA] = "torch-cuda",
};

const char *numerics_name(enum numerics numerics)
{
    return names[numerics];
}

int numerics_find(const char *name)
{
    for (int i = 0; i < NUMERICS_COUNT; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

int numerics_runs_on(enum numerics numerics, const char *device)
{
    return numerics < NUMERICS_CPU_COUNT || strncmp(device, "cuda:", 5) == 0;
}

enum numerics numerics_of_host(enum numerics numerics)
{
    return numerics == NUMERICS_TORCH_CUDA ? NUMERICS_TORCH_CPU_AVX512_BF16 : numerics;
}
