/* aten.h - the operations of numerics torch-cuda: PyTorch 2.13.0+cu130 on the same GPU, eager
 * attention, bf16, no autocast.
 *
 * aten_open puts these operations in a backend's table in place of the cuda_* ones.  kernels/ops.h
 * says what an operation computes; below is only what PyTorch does differently on a GPU.  Every
 * operator below is one IEEE binary32 operation unless named; bf() rounds to bf16, nearest even.
 *
 * rms_norm     r = RSQRT(mean(x^2) + eps);  y = bf(w * bf(x * r))
 *   order:     mean: reduce.h, rms_norm.cu.  It depends on the rows of PyTorch's call, whatever
 *              part of them this one is asked for: scope.batch * scope.tokens, with a width times
 *              heads
 *   rounds:    as kernels/ops.h says for each `weight`
 *   RSQRT:     the GPU's approximation, 2 ulp (CUDA's rsqrtf)
 *   mirror:    pow, mean (Reduce.cuh: ReduceOp::run), add, rsqrt, mul, mul
 *   refuses:   widths that are no multiple of 4 in a batch, or in part of a call: PyTorch's
 *              order then depends on where each row lies
 *
 * softmax      e = EXP(x - max), y = bf(e / sum(e)), true division
 *   order:     by length: reduce.h, softmax_row.cuh
 *   EXP:       CUDA's expf
 *   mirror:    PersistentSoftmax.cuh: softmax_warp_forward;  SoftMax.cu: cunn_SoftMaxForward*
 *   refuses:   in a batch, rows of more than 9216 elements where (H*T*L) % 4 != 0, likewise
 *
 * silu         y = bf(x / fma(2^j, EX2(f), 1)), the two factors being the last of expf(-x);
 *              true division
 *   mirror:    ActivationSiluKernel.cu: silu_kernel
 *
 * gelu_tanh    y = bf((0.5 * x) * (1 + TANH(c * fma(0.044715, x^3, x))))
 *   TANH:      CUDA's tanhf
 *   mirror:    ActivationGeluKernel.cu: GeluCUDAKernelImpl
 *
 * tanh         y = bf(TANH(x)), CUDA's tanhf
 *   mirror:    UnaryGeometricTanhKernel.cu: tanh_kernel_cuda
 *
 * divide       y = bf(x * (1 / by)): ATen multiplies by the inverse of a divisor that is a number
 *   mirror:    BinaryDivTrueKernel.cu: div_true_kernel_cuda
 *
 * rotary       y = bf(COS | SIN(f32(position) * inv_freq) * rotary_scale)
 *   COS, SIN:  CUDA's cosf and sinf
 *   mirror:    bmm of inner size 1 (cublasSgemm; its one product is rounded once), cos, sin, mul by
 *              attention_scaling, to(bfloat16).  PyTorch makes inv_freq on the CPU, but for calls
 *              that are longer than rotary_same_up_to(): its powers on the GPU are not mirrored, so
 *              that a dynamic rope is refused when the model is opened.
 *   refuses:   more than ROTARY_MOST frequencies
 *
 * linear       cublasGemmEx;  with a bias cublasLtMatmul with its epilogue
 *   M:         scope.batch * scope.tokens rows, always: a call that is asked for fewer computes as
 *              many, with its own at scope.row (in a batch: of the first), and keeps these
 *   rounds:    once
 *   mirror:    aten::mm, aten::addmm (Blas.cpp, CUDABlas.cpp: gemm, gemm_and_bias)
 *   refuses:   a bias where N or K is 1
 *
 * matmul_qk, matmul_pv   cublasGemmStridedBatchedEx of scope.batch * H matrices
 *   copies:    keys and values of repeated heads are written out, as repeat_kv does; so are those
 *              that lie in a longer cache, because PyTorch's cache has no room between heads.
 *              Queries lie in memory as [T, H, D], in a batch as [H, T, D].
 *   mirror:    aten::bmm (Blas.cpp: bmm_out_cuda_impl; CUDABlas.cpp: bgemm)
 *
 * Without a twin, because PyTorch's kernels do the cuda_* operations' arithmetic (all but a NaN's
 * payload, which is 0x7fff on a GPU and never compared):
 *   embedding, cache_append   copies
 *   add                       fma(b, 1, a) = a + b, rounded to f32, then to bf16
 *   mul, scale                one f32 product, rounded to bf16; scale's factor is f32
 *   causal_mask               add of 0 or 0xff7f, also where T = 1
 *   rope                      mul, neg, cat, mul, add: three roundings
 * sdpa and layer_norm are not available: a family that has the latter is refused. */
#ifndef SAMEBIT_CUDA_ATEN_ATEN_H
#define SAMEBIT_CUDA_ATEN_ATEN_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ROTARY_MOST = 512 };

/* Opens cuBLAS on the backend's stream and puts these operations in its table.  0, or -1 with err
 * set (500).  Undone by aten_close, which may be called on any backend of CUDA. */
int aten_open(struct backend *b, struct error *err);
void aten_close(struct backend *b);

/* Device memory that linear, matmul_qk and matmul_pv need for copies in this call; data pointers
 * are not read.  0 for any other operation. */
size_t aten_scratch_bytes(enum op op, const struct op_call *call);
/* Makes at least that much available to every later call; waits for the device, so outside of a
 * run.  aten_open reserves ATEN_SCRATCH_BYTES.  An operation that finds too little returns -1. */
int aten_reserve(struct backend *b, size_t bytes, struct error *err);

#define ATEN_SCRATCH_BYTES ((size_t)64 << 20)

op_fn aten_rms_norm, aten_softmax, aten_silu, aten_tanh, aten_divide, aten_gelu_tanh, aten_rotary,
    aten_linear, aten_matmul_qk, aten_matmul_pv;

#ifdef __cplusplus
}
#endif

#endif
