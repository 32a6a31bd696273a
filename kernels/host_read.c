/* host_read.c - the facts of this machine; see host.h. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/host.h"

/* ---- the CPU ---- */

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>

enum { EAX, EBX, ECX, EDX };

/* All zeros where the CPU has no such leaf. */
static void read_leaf(unsigned leaf, unsigned subleaf, unsigned r[4])
{
    if (!__get_cpuid_count(leaf, subleaf, &r[EAX], &r[EBX], &r[ECX], &r[EDX]))
        memset(r, 0, 4 * sizeof(r[0]));
}

static int bit(unsigned value, int i)
{
    return value >> i & 1;
}

/* Whether Linux would give a process the state of AMX's tiles (arch_prctl: ARCH_GET_XCOMP_SUPP); asking
 * for it, as oneDNN does, would change this process. */
static int tiles_are_permitted(void)
{
    enum { GET_SUPPORTED = 0x1021, XTILEDATA = 18 };
    unsigned long mask = 0;

    return syscall(SYS_arch_prctl, GET_SUPPORTED, &mask) == 0 && (mask >> XTILEDATA & 1);
}

static void read_instructions(struct host_facts *out)
{
    unsigned seven[4], more[4];

    __builtin_cpu_init();
    read_leaf(7, 0, seven);
    read_leaf(7, 1, more);
    out->avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    out->avx512 = out->avx2 && __builtin_cpu_supports("avx512f") &&
                  __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
    out->avx512_bf16 = out->avx512 && bit(more[EAX], 5);
    out->avx512_fp16 = out->avx512 && bit(seven[EDX], 23);
    out->avx_ne_convert = out->avx2 && bit(more[EDX], 5);
    out->amx = out->avx512_bf16 && bit(seven[EDX], 22) && bit(seven[EDX], 24) &&
               bit(seven[EDX], 25) && tiles_are_permitted();
    out->amx_fp16 = out->amx && bit(more[EAX], 21);
}

/* Intel's leaf 4, which oneDNN reads; AMD has none that is filled. */
static void read_caches(struct host_facts *out)
{
    enum { NO_MORE, DATA, INSTRUCTIONS };
    unsigned r[4];

    for (unsigned i = 0; i < 8; i++) {
        int64_t ways, sets, size;

        read_leaf(4, i, r);
        if ((r[EAX] & 31) == NO_MORE)
            return;
        ways = (r[EBX] >> 22) + 1;
        sets = (int64_t)r[ECX] + 1;
        size = ways * sets * ((r[EBX] & 4095) + 1) * ((r[EBX] >> 12 & 1023) + 1);
        if ((r[EAX] >> 5 & 7) == 1 && (r[EAX] & 31) != INSTRUCTIONS)
            out->l1 = size;
        if ((r[EAX] >> 5 & 7) == 2) {
            out->l2 = size;
            out->l2_ways = ways;
            out->l2_sets = sets;
        }
    }
}

static void read_cpu(struct host_facts *out)
{
    unsigned r[4];

    out->cpu = HOST_CPU_X86;
    read_leaf(0, 0, r);
    memcpy(out->vendor, &r[EBX], 4);
    memcpy(out->vendor + 4, &r[EDX], 4);
    memcpy(out->vendor + 8, &r[ECX], 4);
    read_instructions(out);
    read_caches(out);
}
#elif defined(__aarch64__)
static void read_cpu(struct host_facts *out)
{
    out->cpu = HOST_CPU_ARM;
}
#else
static void read_cpu(struct host_facts *out)
{
    out->cpu = HOST_CPU_OTHER;
}
#endif

/* ---- how many ---- */

/* Whether a CPU is the first of its core's; -1: Linux does not say. */
static int is_first_of_core(long cpu)
{
    char path[96];
    long first;
    FILE *f;
    int n;

    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%ld/topology/thread_siblings_list",
             cpu);
    f = fopen(path, "re");
    if (!f)
        return -1;
    n = fscanf(f, "%ld", &first);
    fclose(f);
    return n == 1 ? first == cpu : -1;
}

static void count_cores(struct host_facts *out)
{
    const long all = sysconf(_SC_NPROCESSORS_CONF);
    cpu_set_t may;

    out->cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (sched_getaffinity(0, sizeof(may), &may) == 0)
        out->cpus = CPU_COUNT(&may);
    for (long cpu = 0; cpu < all; cpu++)
        out->cores += is_first_of_core(cpu) == 1;
    if (!out->cores)
        out->cores = out->cpus;
}

void host_read(struct host_facts *out)
{
    *out = (struct host_facts){
        .onednn_max_cpu_isa = getenv("ONEDNN_MAX_CPU_ISA"),
        .dnnl_max_cpu_isa = getenv("DNNL_MAX_CPU_ISA"),
        .aten_cpu_capability = getenv("ATEN_CPU_CAPABILITY"),
        .mkl_enable_instructions = getenv("MKL_ENABLE_INSTRUCTIONS"),
        .mkl_cbwr = getenv("MKL_CBWR"),
        .omp_num_threads = getenv("OMP_NUM_THREADS"),
        .mkl_num_threads = getenv("MKL_NUM_THREADS"),
        .mkl_dynamic = getenv("MKL_DYNAMIC"),
    };
    read_cpu(out);
    count_cores(out);
}
