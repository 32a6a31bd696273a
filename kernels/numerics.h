/* numerics.h - the named arithmetics.  A result means nothing without the one that made it.
 *
 * All that is known of one is its row in the table of numerics.c.  Kernels read the row's fields;
 * nothing outside the table asks which numerics it is, so that a new one is a row, and kernels for
 * what no other row has. */
#ifndef SAMEBIT_NUMERICS_H
#define SAMEBIT_NUMERICS_H

#include <stdint.h>

#include "kernels/base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Orders of a sum of products over k; "products" below. */
enum product { PRODUCT_PAIRS, PRODUCT_DOT8, PRODUCT_FOUR, PRODUCT_CHAIN };
enum { PRODUCT_KINDS = PRODUCT_CHAIN + 1 };

/* The matrix products of a model. */
enum product_use { PRODUCT_OF_LINEAR, PRODUCT_OF_QK, PRODUCT_OF_PV };
enum { PRODUCT_USES = PRODUCT_OF_PV + 1 };

/* The machine whose PyTorch has these bits, where they depend on it (numerics.host_matters). */
struct torch_host {
    int64_t threads;                /* torch.get_num_threads() */
    int64_t l1, l2;                 /* bytes of a core's data caches */
    int64_t l2_ways, l2_sets;       /* of the second one */
    int64_t amx_fp16;               /* 1: its CPU has this too */
};

/* A product as PyTorch's call has it: B matrices of M x K times K x N. */
struct product_shape {
    enum product_use use;
    int64_t B, M, N, K;
    const struct torch_host *host;
};

/* How each of its sums is made. */
struct product_rule {
    enum product kind;
    int64_t block; /* PAIRS: elements of k in one chain */
    int flush;     /* PAIRS: denormal inputs and results of each fma are zeros */
};

typedef struct product_rule product_rule_fn(const struct product_shape *shape);

/* What the two products inside sdpa are computed by; ops.h, "sdpa". */
enum sdpa_products {
    SDPA_NONE,  /* this numerics has no sdpa */
    SDPA_CHAINS /* MKL on an AMD CPU: chains of fma */
};

/* The kernels that a numerics needs.  A device has a table of operations for each set it can do. */
enum kernel_set {
    KERNELS_TORCH_CPU,  /* IEEE operations in the orders that PyTorch has on a CPU */
    KERNELS_TORCH_CUDA, /* ATen's kernels for CUDA, and cuBLAS called as PyTorch calls it */
    KERNELS_IDEAL       /* binary64 (kernels/cpu/ideal.h) */
};

enum { DEVICE_CPU = 1, DEVICE_CUDA = 2 };

struct numerics {
    const char *name;  /* "torch-cpu/avx512_bf16" */
    const char *about; /* whose bits, in a line */
    enum kernel_set kernels;
    unsigned devices;       /* that have those kernels: DEVICE_* */
    enum dtype activations; /* of every value but positions and tokens */
    product_rule_fn *rule;  /* NULL: a library chooses (torch-cuda) */
    enum sdpa_products sdpa;
    int lanes;        /* of softmax's and sdpa's sums: 8 or 16, "softmax" below */
    int rotary_block; /* entries of inv_freq that ATen raises together, "inv_freq" below */
    int whole_calls; /* 1: a row's bits may depend on which other rows are computed with it, so that
                         all rows of PyTorch's call must be */
    const char *host; /* whose bits are what the host computes for a device (lanes of log_softmax,
                         rotary_block), where they have a name of their own; NULL: this one's */
};

/* The row of that name, or NULL. */
const struct numerics *numerics_find(const char *name);
/* Row i; NULL after the last.  Row 0 is the default. */
const struct numerics *numerics_at(int i);
/* "ideal": every operation in binary64, from the same bf16 weights.  Nobody's bits, so it is not in
 * the table and no daemon serves it as its own: others are measured by it. */
extern const struct numerics numerics_ideal;
/* Whether a device ("cpu", "cuda:0") has its kernels. */
int numerics_runs_on(const struct numerics *numerics, const char *device);

/* ---- torch-cuda ----
 *
 * PyTorch's order of each sum, its launch parameters, and cuBLAS called with its arguments: bits
 * are those of PyTorch on a GPU of the same architecture and number of multiprocessors, with the
 * same cuBLAS.  Only on "cuda:N", only eager attention: sdpa's flash kernels are not followed.
 * kernels/cuda/aten has the contracts.  On the host, as torch-cpu/avx512_bf16: inv_freq, which
 * PyTorch too computes there, and log_softmax, which PyTorch would compute on the GPU.
 *
 * ---- what differs between the others ----
 *
 * products (linear, matmul_qk, matmul_pv): B matrices of M x K times K x N
 *   avx512_bf16  B*M*N*K > 4096: PAIRS, in blocks of 512 k where M = 1 or K <= 1024, else of 1024
 *                else as avx2
 *   avx2         linear, matmul_qk: DOT8;  matmul_pv: FOUR;
 *                matmul_qk and matmul_pv with M*N*K < 400: CHAIN
 *
 *   PAIRS  acc = fma(x[k], w[k], fma(x[k+1], w[k+1], acc)) for even k; an odd K ends in a pair
 *          whose second half is zero; each block's chain starts at +0; block sums are added in
 *          order.  flush: denormal inputs and results of each fma are zeros (vdpbf16ps).
 *   DOT8   one fma per k: element k into accumulator (k/8)%8, lane k%8, over K & ~63; accumulators
 *          r += r+4, r += r+2, r += r+1; lanes ((0+4)+(2+6))+((1+5)+(3+7)); the whole 16s left
 *          into one accumulator of 8 lanes, reduced alike and added; the last K%16 one by one
 *   FOUR   four chains by k%4, the last K%4 into chain 0, ((p0+p1)+p2)+p3
 *   CHAIN  one chain
 *
 * softmax: sum of e[0..L) with W = `lanes` lanes
 *   L <  W  left to right
 *   L >= W  a[l] = e[l]; a[i % W] += e[i]; then a[l] += a[l ^ d] for d = W/2 .. 1
 *
 * inv_freq: pow() of whole blocks of `rotary_block` entries is SLEEF's, the rest libm's powf */

#ifdef __cplusplus
}
#endif

#endif
