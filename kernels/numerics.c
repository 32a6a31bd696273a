/* numerics.c - THE table of numerics; see numerics.h. */
#include "kernels/numerics.h"

#include <string.h>

#include "kernels/amx_plan.h"
#include "kernels/ops.h"

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
    return (struct product_rule){.kind = PRODUCT_PAIRS,
                                 .block = s->M == 1 || s->K <= 1024 ? 512 : 1024};
}

/* oneDNN's gemm:jit:bf16, on an Intel CPU.  (On an AMD CPU told to use no more a linear of one row goes
 * to ATen's loop instead.) */
static struct product_rule rule_of_avx512(const struct product_shape *s)
{
    if (!is_for_onednn(s))
        return rule_of_aten(s);
    return (struct product_rule){.kind = PRODUCT_DEALT,
                                 .block = s->K <= 384   ? 384
                                          : s->K < 1536 ? (s->K + 1) / 2
                                                        : 768,
                                 .shape = *s};
}

/* oneDNN's brg_matmul:avx10_1_512_amx. */
static struct product_rule rule_of_amx_bf16(const struct product_shape *s)
{
    struct amx_plan plan;

    if (!is_for_onednn(s))
        return rule_of_aten(s);
    plan = amx_plan_of(s);
    if (plan.small)
        return (struct product_rule){
            .kind = PRODUCT_PAIRS, .block = s->K + s->K % 2, .flushes_output = 1};
    return (struct product_rule){.kind = PRODUCT_TILES,
                                 .block = plan.block,
                                 .chunk = plan.chunk,
                                 .parts = plan.parts,
                                 .even = plan.even,
                                 .flushes_output = 1};
}

/* ---- the table ---- */

/* What a row of a CPU's PyTorch has by its rule; ATen's vectors of 512 and of 256 bits. */
#define TORCH_CPU(rule_) .kernels = KERNELS_TORCH_CPU, .activations = DTYPE_BF16, .rule = rule_
#define ATEN_AVX512 .lanes = 16, .rotary_block = 32
#define ATEN_AVX2 .lanes = 8, .rotary_block = 16
#define ANY_DEVICE .devices = DEVICE_CPU | DEVICE_CUDA
#define CPU_ONLY .devices = DEVICE_CPU

static const struct numerics table[] = {
    {
        .name = "torch-cpu/avx512_bf16",
        .about = "PyTorch 2.13.0 on an AMD CPU with AVX512_BF16",
        TORCH_CPU(rule_of_avx512_bf16),
        ATEN_AVX512,
        ANY_DEVICE,
        .sdpa = SDPA_MKL_AMD,
    },
    {
        .name = "torch-cpu/avx512_bf16,mkl=intel",
        .about = "PyTorch 2.13.0 on an Intel CPU with AVX512_BF16 and no AMX",
        TORCH_CPU(rule_of_avx512_bf16),
        ATEN_AVX512,
        CPU_ONLY,
        .sdpa = SDPA_MKL_INTEL,
    },
    {
        .name = "torch-cpu/avx512_bf16,mkl=amx",
        .about = "PyTorch 2.13.0 on a CPU with AMX, with "
                 "ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 set",
        TORCH_CPU(rule_of_avx512_bf16),
        ATEN_AVX512,
        CPU_ONLY,
        .sdpa = SDPA_MKL_AMX,
    },
    {
        .name = "torch-cpu/avx2",
        .about = "PyTorch 2.13.0 on an AMD CPU with AVX2 and no AVX512, or with "
                 "ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 set",
        TORCH_CPU(rule_of_aten),
        ATEN_AVX2,
        ANY_DEVICE,
        .sdpa = SDPA_MKL_AMD,
    },
    {
        .name = "torch-cpu/avx2,mkl=amx",
        .about = "PyTorch 2.13.0 on a CPU with AMX, with "
                 "ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 set",
        TORCH_CPU(rule_of_aten),
        ATEN_AVX2,
        CPU_ONLY,
        .sdpa = SDPA_MKL_AMX,
    },
    {
        .name = "torch-cpu/amx_bf16",
        .about = "PyTorch 2.13.0 on a CPU with AMX, with N threads (--torch-threads N)",
        TORCH_CPU(rule_of_amx_bf16),
        ATEN_AVX512,
        CPU_ONLY,
        .sdpa = SDPA_MKL_AMX,
        .packs = 1,
        .of_host = 1,
        .of_caches = 1,
    },
    {
        .name = "torch-cpu/avx512",
        .about = "PyTorch 2.13.0 on an Intel CPU with AVX512 and no AVX512_BF16, with N threads "
                 "(--torch-threads N); eager attention only",
        TORCH_CPU(rule_of_avx512),
        ATEN_AVX512,
        CPU_ONLY,
        .sdpa = SDPA_NONE, /* what MKL does there is not known */
        .of_host = 1,
    },
    {
        .name = "torch-cuda",
        .about = "PyTorch 2.13.0+cu130 on the same GPU with the same cuBLAS; eager attention only",
        .kernels = KERNELS_TORCH_CUDA,
        .devices = DEVICE_CUDA,
        .activations = DTYPE_BF16,
        .sdpa = SDPA_NONE,
        .lacks = 1u << OP_layer_norm,
        ATEN_AVX512,
        .whole_calls = 1, /* cuBLAS chooses its kernel by all rows of a call */
        .host = "torch-cpu/avx512_bf16",
    },
};

const struct numerics numerics_ideal = {
    .name = "ideal",
    .about = "no PyTorch: binary64, without rounding to bf16",
    .kernels = KERNELS_IDEAL,
    .devices = DEVICE_CPU,
    .activations = DTYPE_F64,
    .rule = rule_of_aten,
    .sdpa = SDPA_MKL_AMD,
    .lanes = 8,
    .rotary_block = 16,
};

struct torch_host torch_host_studied(void)
{
    return (struct torch_host){
        .threads = 1, .l1 = 48 << 10, .l2 = 2 << 20, .l2_ways = 16, .l2_sets = 2048};
}

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
