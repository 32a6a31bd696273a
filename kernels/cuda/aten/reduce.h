/* reduce.h - how PyTorch's host code launches a mean and a softmax over the last axis.  The order
 * of the additions follows from it, so a result's bits depend on these numbers and on nothing else.
 *
 * mirror: torch 2.13.0+cu130, ATen/native/cuda/Reduce.cuh: setReduceConfig and ReduceConfig (with
 *         vt0 = input_vec_size = 4, 512 threads at most);  SoftMax.cu: host_softmax;
 *         PersistentSoftmax.cuh: dispatch_softmax_forward.
 * tests/kernels/test_cuda_cublas.c compares both with recorded launches. */
#ifndef SAMEBIT_CUDA_ATEN_REDUCE_H
#define SAMEBIT_CUDA_ATEN_REDUCE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MEAN_THREADS = 512, MEAN_ACCUMULATORS = 4, MEAN_VECTORS_FROM = 128 };

/* mean(-1) of a contiguous f32 [rows, n]. */
struct mean_launch {
    int block_x, block_y; /* threads; x runs along n */
    int split;            /* 1: the block_y rows of threads share one row; 0: one row each */
    int step;             /* vectors (or elements) between two that a thread reads in turn */
    int vectors;          /* 1: reads 4 neighbours at once, from 128 elements on */
    int rows_per_block;
    int shared_bytes; /* PyTorch's; ours differ */
    float factor;     /* the sum is multiplied by it */
    int64_t blocks;
};

/* Returns 0, or -1 for what PyTorch splits over blocks or over launches (rows longer than 2^17
 * elements, 2^31 bytes in all), which is not mirrored. */
int mean_config(int64_t rows, int64_t n, struct mean_launch *config);

enum softmax_kind {
    SOFTMAX_WARP,     /* softmax_warp_forward: a row per warp (or part of one) */
    SOFTMAX_REGISTER, /* cunn_SoftMaxForwardReg: one element in 1024 a thread */
    SOFTMAX_SHARED,   /* cunn_SoftMaxForwardSmem: four neighbours in 4096 */
    SOFTMAX_GENERIC   /* cunn_SoftMaxForward: likewise, from 16-byte boundaries on */
};

enum { SOFTMAX_WARP_MOST = 2048, SOFTMAX_REGISTER_MOST = 9216, SOFTMAX_SHARED_END = 12256 };

/* softmax(-1) of a contiguous f32 [.., length]. */
struct softmax_launch {
    enum softmax_kind kind;
    int variant;          /* WARP: log2 of the length, rounded up.  REGISTER: elements a thread */
    int block_x, block_y; /* WARP: lanes of a row, warps (or parts) of a block.  Else 1024, 1 */
    int rows_per_warp;    /* WARP: 1 or 2 */
    int rows_per_block;
    int shared_bytes; /* PyTorch's; ours differ */
};

/* length >= 1. */
struct softmax_launch softmax_plan(int64_t length);

#ifdef __cplusplus
}
#endif

#endif
