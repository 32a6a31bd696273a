/* host.h - which numerics PyTorch 2.13 computes on a machine, and why.
 *
 * What decides is the CPU, its vendor, and the environment that PyTorch would see.  host_read() gets
 * these facts of this machine; host_numerics() is a pure function of them. */
#ifndef SAMEBIT_HOST_H
#define SAMEBIT_HOST_H

#include <stdint.h>
#include <stdio.h>

#include "kernels/numerics.h"

enum host_cpu { HOST_CPU_OTHER, HOST_CPU_X86, HOST_CPU_ARM };

struct host_facts {
    enum host_cpu cpu;
    char vendor[16];                  /* of CPUID: "AuthenticAMD" */
    int avx2;                         /* with FMA */
    int avx512;                       /* F, BW, DQ and VL */
    int avx512_bf16, avx512_fp16;     /* with avx512 */
    int avx_ne_convert;               /* bf16 without AVX512: Arrow Lake */
    int amx;                          /* TILE, BF16 and INT8, and Linux lets a process use them */
    int amx_fp16;                     /* with amx */
    int64_t l1, l2, l2_ways, l2_sets; /* as in torch_host; 0: not known */
    int cores;                        /* physical ones of the machine */
    int cpus;                         /* logical ones that this process may use */
    /* Variables of the environment; NULL: not set. */
    const char *onednn_max_cpu_isa, *dnnl_max_cpu_isa, *aten_cpu_capability;
    const char *mkl_enable_instructions, *mkl_cbwr;
    const char *omp_num_threads, *mkl_num_threads, *mkl_dynamic;
};

enum { HOST_REASONS = 8, HOST_REASON = 224 };

struct host_numerics {
    const struct numerics *row; /* has PyTorch's bits under eager; NULL: none has */
    int sdpa;                   /* 1: under sdpa too */
    int portable;               /* 1: nothing is known of PyTorch there; row is the portable one,
                                       which is the same everywhere */
    const struct numerics *nearest; /* row, or what differs least; never NULL */
    struct torch_host torch;        /* where bits of `nearest` depend on it: threads is
                                torch.get_num_threads(); else all 0 */
    int untried; /* 1: read in the libraries' sources, and not seen on such a CPU */
    int reasons;
    char reason[HOST_REASONS][HOST_REASON]; /* one line each */
};

/* The facts of this machine and process.  The variables belong to the environment. */
void host_read(struct host_facts *out);

/* torch.get_num_threads() of a process that sets nothing. */
int host_torch_threads(const struct host_facts *facts);

/* device: what samebitd computes on; all that have a GPU get the portable numerics, so that two of them
 * agree whatever their CPUs are. */
void host_numerics(const struct host_facts *facts, const char *device, struct host_numerics *out);

/* Prints the name, the reasons line by line, and the options that give these bits elsewhere. */
void host_print(const struct host_numerics *found, FILE *to);

#endif
