/* numerics.h - the named arithmetics.  A result means nothing without the one that made it. */
#ifndef SAMEBIT_NUMERICS_H
#define SAMEBIT_NUMERICS_H

#ifdef __cplusplus
extern "C" {
#endif

enum numerics {
    NUMERICS_TORCH_CPU_AVX512_BF16, /* PyTorch 2.13 on a CPU with AVX512_BF16 (no AMX) */
    NUMERICS_TORCH_CPU_AVX2,        /* PyTorch 2.13 on any CPU with AVX2, told to use no more */
    NUMERICS_CPU_COUNT,             /* so many run on any device; those that follow on CUDA only */
    NUMERICS_TORCH_CUDA = NUMERICS_CPU_COUNT, /* PyTorch 2.13.0+cu130 on the same GPU */
    NUMERICS_COUNT
};

/* "torch-cpu/avx512_bf16", ... */
const char *numerics_name(enum numerics numerics);
/* Returns the numerics of that name, or -1. */
int numerics_find(const char *name);
/* Whether a device ("cpu", "cuda:0") can have it. */
int numerics_runs_on(enum numerics numerics, const char *device);
/* That of what is computed on the host: itself, or for torch-cuda torch-cpu/avx512_bf16. */
enum numerics numerics_of_host(enum numerics numerics);

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
 *          order.  Denormal inputs and results of each fma are flushed to zero (vdpbf16ps).
 *   DOT8   one fma per k: element k into accumulator (k/8)%8, lane k%8, over K & ~63; accumulators
 *          r += r+4, r += r+2, r += r+1; lanes ((0+4)+(2+6))+((1+5)+(3+7)); the whole 16s left
 *          into one accumulator of 8 lanes, reduced alike and added; the last K%16 one by one
 *   FOUR   four chains by k%4, the last K%4 into chain 0, ((p0+p1)+p2)+p3
 *   CHAIN  one chain
 *
 * softmax: sum of e[0..L) with W lanes (avx512_bf16: 16, avx2: 8)
 *   L <  W  left to right
 *   L >= W  a[l] = e[l]; a[i % W] += e[i]; then a[l] += a[l ^ d] for d = W/2 .. 1
 *
 * inv_freq: pow() of whole blocks of 32 (avx512_bf16) or 16 (avx2) entries is SLEEF's, the rest
 *   libm's powf */

#ifdef __cplusplus
}
#endif

#endif
