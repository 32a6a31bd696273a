/* numerics.c - THE table of numerics; see numerics.h. */
#include "kernels/numerics.h"

#include <string.h>

/* ---- products ---- */

/* ATen's own loops: bmm of small matrices, and what oneDNN declines
 * (aten/src/ATen/native/BlasKernel.cpp, LinearAlgebra.cpp: baddbmm_cpu_kernel). */
static struct product_rule rule_of_aten(const struct product_shape *s)
{
    const double matrix = (double)s->M * (double)s->N * (double)s->K;

    if (s->use != PRODUCT_OF_LINEAR && matrix < 400)
        return (struct product_rule){.kind = PRODUCT_CHAIN};
    return (struct product_rule){.kind = s->use == PRODUCT_OF_PV ? PRODUCT_FOUR : PRODUCT_DOT8};
}

/* Whether the call goes to oneDNN (aten/src/ATen/native/mkldnn/Matmul.cpp:
 * use_mkldnn_bf16_matmul). */
static int is_for_onednn(const struct product_shape *s)
{
    return (double)s->B * (double)s->M * (double)s->N * (double)s->K > 4096;
}

/* oneDNN's brg_matmul:avx512_core_bf16. */
static struct product_rule rule_of_avx512_bf16(const struct product_shape *s)
{
    if (!is_for_onednn(s))
        return rule_of_aten(s);
    return (struct product_rule){
        .kind = PRODUCT_PAIRS, .block = s->M == 1 || s->K <= 1024 ? 512 : 1024, .flush = 1};
}

/* ---- the table ---- */

static const struct numerics table[] = {
    {
        .name = "torch-cpu/avx512_bf16",
        .about = "PyTorch 2.13.0 on a CPU with AVX512_BF16 (and no AMX)",
        .kernels = KERNELS_TORCH_CPU,
        .devices = DEVICE_CPU | DEVICE_CUDA,
        .activations = DTYPE_BF16,
        .rule = rule_of_avx512_bf16,
        .sdpa = SDPA_CHAINS,
        .lanes = 16,
        .rotary_block = 32,
    },
    {
        .name = "torch-cpu/avx2",
        .about = "PyTorch 2.13.0 on any CPU with AVX2, told to use no more",
        .kernels = KERNELS_TORCH_CPU,
        .devices = DEVICE_CPU | DEVICE_CUDA,
        .activations = DTYPE_BF16,
        .rule = rule_of_aten,
        .sdpa = SDPA_CHAINS,
        .lanes = 8,
        .rotary_block = 16,
    },
    {
        .name = "torch-cuda",
        .about = "PyTorch 2.13.0+cu130 on the same GPU with the same cuBLAS",
        .kernels = KERNELS_TORCH_CUDA,
        .devices = DEVICE_CUDA,
        .activations = DTYPE_BF16,
        .sdpa = SDPA_NONE,
        .lanes = 16,
        .rotary_block = 32,
        .whole_calls = 1, /* cuBLAS chooses its kernel by all rows of a call */
        .host = "torch-cpu/avx512_bf16",
    },
};

const struct numerics numerics_ideal = {
    .name = "ideal",
    .about = "binary64, of the same weights",
    .kernels = KERNELS_IDEAL,
    .devices = DEVICE_CPU,
    .activations = DTYPE_F64,
    .rule = rule_of_aten,
    .sdpa = SDPA_CHAINS,
    .lanes = 8,
    .rotary_block = 16,
};

const struct numerics *numerics_at(int i)
{
    return i >= 0 && i < (int)(sizeof(table) / sizeof(table[0])) ? &table[i] : NULL;
}

const struct numerics *numerics_find(const char *name)
{
    const struct numerics *n;

    for (int i = 0; (n = numerics_at(i)); i++)
        if (strcmp(n->name, name) == 0)
            return n;
    return NULL;
}

int numerics_runs_on(const struct numerics *numerics, const char *device)
{
    return (numerics->devices & (strncmp(device, "cuda:", 5) == 0 ? DEVICE_CUDA : DEVICE_CPU)) != 0;
}
