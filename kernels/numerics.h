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
enum product {
    PRODUCT_PAIRS,
    PRODUCT_DOT8,
    PRODUCT_FOUR,
    PRODUCT_CHAIN,
    PRODUCT_TILES,
    PRODUCT_DEALT,
    /* Only what product_rule_at makes of DEALT for one sum. */
    PRODUCT_PAIRS_KEPT,
    PRODUCT_LANES16
};
enum { PRODUCT_KINDS = PRODUCT_LANES16 + 1 };

/* The matrix products of a model. */
enum product_use { PRODUCT_OF_LINEAR, PRODUCT_OF_QK, PRODUCT_OF_PV };
enum { PRODUCT_USES = PRODUCT_OF_PV + 1 };

/* The machine whose PyTorch has these bits, where they depend on it (numerics.of_host). */
struct torch_host {
    int64_t threads;          /* torch.get_num_threads() */
    int64_t l1, l2;           /* bytes of a core's data caches */
    int64_t l2_ways, l2_sets; /* of the second one */
    int64_t amx_fp16;         /* 1: its CPU has this too */
};

/* A product as PyTorch's call has it: B matrices of M x K times K x N. */
struct product_shape {
    enum product_use use;
    int64_t B, M, N, K;
    const struct torch_host *host;
};

/* How its sums are made. */
struct product_rule {
    enum product kind;
    int64_t block;              /* PAIRS, TILES, DEALT: elements of k in one chain */
    int64_t chunk, parts;       /* TILES: K is dealt in chunks to so many threads */
    int even;                   /* TILES: 1: equal even steps in a block; 0: steps of 32 */
    int flushes_output;         /* 1: an output that would be denormal is a zero */
    struct product_shape shape; /* DEALT */
};

typedef struct product_rule product_rule_fn(const struct product_shape *shape);

/* What computes the two products inside sdpa; "sdpa" below. */
enum sdpa_products {
    SDPA_NONE,      /* this numerics has no sdpa */
    SDPA_MKL_AMD,   /* MKL on an AMD CPU */
    SDPA_MKL_INTEL, /* MKL on an Intel CPU with AVX512_BF16 and no AMX */
    SDPA_MKL_AMX,   /* MKL on a CPU with AMX */
    SDPA_PACKED     /* oneDNN on a CPU with AMX, for which PyTorch packs keys and values */
};
enum { SDPA_KINDS = SDPA_PACKED + 1 };

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
    unsigned devices;        /* that have those kernels: DEVICE_* */
    enum dtype activations;  /* of every value but positions and tokens */
    product_rule_fn *rule;   /* NULL: a library chooses (torch-cuda) */
    enum sdpa_products sdpa; /* of MKL */
    uint64_t lacks;          /* 1 << OP_x: operations that are not mirrored */
    int packs;               /* 1: PyTorch may pack for oneDNN instead */
    int lanes;               /* of softmax's and sdpa's sums: 8 or 16, "softmax" below */
    int rotary_block;        /* entries of inv_freq that ATen raises together, "inv_freq" below */
    int whole_calls; /* 1: a row's bits may depend on which other rows are computed with it, so that
                         all rows of PyTorch's call must be */
    int of_host;     /* 1: bits depend on torch_host: on its threads, */
    int of_caches;   /* 1: and on the rest of it */
    const char *host; /* whose bits are what the host computes for a device (lanes of log_softmax,
                         rotary_block), where they have a name of their own; NULL: this one's */
};

/* What is studied: one thread, 48 KiB and 2 MiB of cache, no AMX_FP16. */
struct torch_host torch_host_studied(void);

/* The row of that name, or NULL. */
const struct numerics *numerics_find(const char *name);
/* Row i; NULL after the last.  Row 0 is the portable one: all devices have it. */
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
 *   avx512       B*M*N*K > 4096: DEALT; K <= 384 is one block, K < 1536
 *                two, the first of (K+1)/2, more are blocks of 768
 *                else as avx2
 *   amx_bf16     B*M*N*K > 4096: TILES as amx_plan.h cuts them, or where it says `small` PAIRS in one
 *                block; denormal outputs are zeros
 *                else as avx2
 *
 *   PAIRS  acc = fma(x[k], w[k], fma(x[k+1], w[k+1], acc)) for even k; an odd K ends in a pair
 *          whose second half is zero; each block's chain starts at +0; block sums are added in
 *          order.  Denormal inputs and results of each fma are flushed to zero (vdpbf16ps).
 *   DOT8   one fma per k: element k into accumulator (k/8)%8, lane k%8, over K & ~63; accumulators
 *          r += r+4, r += r+2, r += r+1; lanes ((0+4)+(2+6))+((1+5)+(3+7)); the whole 16s left
 *          into one accumulator of 8 lanes, reduced alike and added; the last K%16 one by one
 *   FOUR   four chains by k%4, the last K%4 into chain 0, ((p0+p1)+p2)+p3
 *   CHAIN  one chain
 *   TILES  a step of s elements of k, s even and at most 32 (tdpbf16ps): the even ones in a chain
 *          from 0, the odd ones in another, acc = acc + (even + odd); denormal inputs and results
 *          are flushed to zero.  A block starts at acc = 0 and goes in steps of 32, or, `even`, of the
 *          largest even divisor of its length.  K is dealt to `parts` threads in chunks, the first
 *          of which get one more where it does not divide; the sums of a thread's blocks are added
 *          in order, and so are the threads'.  In these sums denormals are kept.
 *   DEALT  the B*M*N outputs, in order, are dealt evenly to PyTorch's threads.  Of its own a thread
 *          takes whole matrices, whole rows or a part of a row at a time.  Two rows and more: PAIRS,
 *          but denormals are kept.  Else linear, matmul_qk: pair j into lane j % 16, lanes l += l+8,
 *          ((0+1)+(2+3))+((4+5)+(6+7)); matmul_pv: as PAIRS in blocks of 8.  A batch's first row is
 *          meant where PyTorch has several.
 *
 * softmax: sum of e[0..L) with W = `lanes` lanes
 *   L <  W  left to right
 *   L >= W  a[l] = e[l]; a[i % W] += e[i]; then a[l] += a[l ^ d] for d = W/2 .. 1
 *
 * sdpa: M rows of a group, N keys of a block (ops.h).  PACKED: where numerics.packs, if T >= 64,
 *   L >= 64 and ceil(B*H*groups / threads) * group * (causal ? min(T, L) : L) * D / (B*G*L*D) >= 4;
 *   else MKL, in three kinds
 *                 MKL_AMD   as ops.h has it
 *                 MKL_AMX, MKL_INTEL with M = 1 or N = 1 (q . k), M = 1 (p . v)
 *     q . k         pair j, the odd element first, into accumulator (j/8)%2, lane j%8; added:
 *                   v[l] = a0[l] + a1[l], ((v0+v1)+(v2+v3))+((v4+v5)+(v6+v7))
 *     p . v         PAIRS in blocks of 8 keys, each added to y
 *                 MKL_AMX, MKL_INTEL else
 *     q . k         TILES: one block, steps of 32;       INTEL: PAIRS, one block
 *     p . v         TILES that start at y, steps of 32;  INTEL: PAIRS in one block where N <= 384, else
 *                   in two, the first of ceil(N/2), each added to y
 *                 PACKED, any M and N
 *     q . k         TILES: one block, `even`
 *     p . v         TILES that start at y, `even`; an odd N has one more key, of zeros
 *
 * inv_freq: pow() of whole blocks of `rotary_block` entries is SLEEF's, the rest libm's powf */

#ifdef __cplusplus
}
#endif

#endif
