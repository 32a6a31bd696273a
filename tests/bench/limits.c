/* limits.c - what this machine can do at most, with as many threads as the program is given, each
 * on a core of its own: bytes read from memory, bytes of new memory, and floating-point operations
 * of vdpbf16ps and of tdpbf16ps (AMX), both from registers alone.
 *
 *     limits THREADS     reads a line, "read", "touch", "multiply" (vdpbf16ps) or "tiles" (tdpbf16ps),
 *                        answers with a line: so many a second; 0 where the CPU cannot.  Sleeps
 *                        between lines, ends with its input.
 *
 * "read", "multiply" and "tiles" are the best of some rounds; "touch" writes once to memory that the process
 * has not had before. */
#include <cpuid.h>
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* An accumulator can be added to every 4 to 6 cycles, up to twice a cycle: 12 are enough. */
enum { MOST_THREADS = 256, READ_ROUNDS = 8, MOST_ROUNDS = 40, ACCUMULATORS = 24, STEPS = 1 << 18 };
/* Four accumulators, two tiles of rows and two of columns: each is read twice. */
enum { TILES = 8, TILE_ROWS = 16, TILE_BYTES = 64, TILE_SUMS = 4, TILE_STEPS = 1 << 16 };

static const size_t share = (size_t)256 << 20; /* bytes that a thread reads: more than any cache */

struct part {
    pthread_t thread;
    int core;
    pthread_barrier_t *together;
    void (*work)(struct part *);
    int rounds;
    double start[MOST_ROUNDS], end[MOST_ROUNDS];
    const char *from;
    uint64_t sink;
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static __attribute__((target("avx2"))) void read_all(struct part *p)
{
    __m256i sum = _mm256_setzero_si256();

    for (size_t i = 0; i < share; i += 256)
        for (size_t j = 0; j < 256; j += 32)
            sum = _mm256_xor_si256(
                sum, _mm256_load_si256((const __m256i *)(const void *)(p->from + i + j)));
    p->sink += (uint64_t)_mm256_extract_epi64(sum, 0);
}

static void touch(struct part *p)
{
    char *fresh = mmap(NULL, share, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (fresh == MAP_FAILED)
        return;
    madvise(fresh, share, MADV_HUGEPAGE);
    for (size_t i = 0; i < share; i += 4096)
        fresh[i] = 1;
    p->sink += (uint64_t)fresh[share / 2];
    munmap(fresh, share);
}

static __attribute__((target("avx512f,avx512bf16"))) void multiply(struct part *p)
{
    const __m512bh x = (__m512bh)_mm512_set1_epi32((int)(p->sink & 1) + 0x3f803f80);
    __m512 sum[ACCUMULATORS];

    for (int a = 0; a < ACCUMULATORS; a++)
        sum[a] = _mm512_setzero_ps();
    for (int i = 0; i < STEPS; i++)
#pragma GCC unroll 24
        for (int a = 0; a < ACCUMULATORS; a++)
            sum[a] = _mm512_dpbf16_ps(sum[a], x, x);
    for (int a = 1; a < ACCUMULATORS; a++)
        sum[0] = _mm512_add_ps(sum[0], sum[a]);
    p->sink += (uint64_t)_mm512_reduce_add_ps(sum[0]);
}

static __attribute__((target("amx-tile,amx-bf16"))) void multiply_tiles(struct part *p)
{
    struct {
        uint8_t palette, start, none[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } __attribute__((aligned(64))) shape = {.palette = 1};
    static const uint8_t zeros[TILE_ROWS * TILE_BYTES] __attribute__((aligned(64)));

    for (int i = 0; i < TILES; i++) {
        shape.bytes[i] = TILE_BYTES;
        shape.rows[i] = TILE_ROWS;
    }
    __asm__ volatile("" ::"r"(&shape) : "memory");
    _tile_loadconfig(&shape);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, zeros, TILE_BYTES);
    _tile_loadd(5, zeros, TILE_BYTES);
    _tile_loadd(6, zeros, TILE_BYTES);
    _tile_loadd(7, zeros, TILE_BYTES);
    for (int i = 0; i < TILE_STEPS; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
    p->sink++;
}

/* Whether the CPU has AMX with bf16, and Linux lets this process use it, for which it must be asked. */
static int may_use_tiles(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18, TILE = 1 << 24, BF16 = 1 << 22 };
    unsigned a, b, c, d;

    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & TILE) && (d & BF16) &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0;
}

static void *run(void *part)
{
    struct part *p = part;
    cpu_set_t core;

    CPU_ZERO(&core);
    CPU_SET((size_t)p->core, &core);
    pthread_setaffinity_np(pthread_self(), sizeof core, &core);
    for (int r = 0; r < p->rounds; r++) {
        pthread_barrier_wait(p->together);
        p->start[r] = now();
        p->work(p);
        p->end[r] = now();
    }
    return NULL;
}

/* From when the first thread begins to when the last one ends. */
static double round_seconds(const struct part *parts, int threads, int r)
{
    double start = parts[0].start[r], end = parts[0].end[r];

    for (int i = 1; i < threads; i++) {
        start = parts[i].start[r] < start ? parts[i].start[r] : start;
        end = parts[i].end[r] > end ? parts[i].end[r] : end;
    }
    return end - start;
}

/* The least seconds of a round in which every thread does its part. */
static double best_round(void (*work)(struct part *), int rounds, struct part *parts, int threads)
{
    pthread_barrier_t together;
    double best = 0;

    pthread_barrier_init(&together, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        parts[i].together = &together;
        parts[i].work = work;
        parts[i].rounds = rounds;
        if (pthread_create(&parts[i].thread, NULL, run, &parts[i])) {
            fprintf(stderr, "limits: no thread %d\n", i + 1);
            exit(1); /* the others wait at the barrier */
        }
    }
    for (int i = 0; i < threads; i++)
        pthread_join(parts[i].thread, NULL);
    pthread_barrier_destroy(&together);
    for (int r = 0; r < rounds; r++) {
        const double seconds = round_seconds(parts, threads, r);

        if (r == 0 || seconds < best)
            best = seconds;
    }
    return best;
}

/* The nth core that this process may use, from the first again after the last. */
static int nth_core(int n)
{
    cpu_set_t allowed;

    if (sched_getaffinity(0, sizeof allowed, &allowed) || CPU_COUNT(&allowed) == 0)
        return 0;
    n %= CPU_COUNT(&allowed);
    for (int core = 0; core < CPU_SETSIZE; core++)
        if (CPU_ISSET((size_t)core, &allowed) && n-- == 0)
            return core;
    return 0;
}

static int take_memory(struct part *p)
{
    char *mine = aligned_alloc(2 << 20, share);

    if (!mine)
        return -1;
    madvise(mine, share, MADV_HUGEPAGE);
    memset(mine, 1, share);
    p->from = mine;
    return 0;
}

static double answer(const char *line, struct part *parts, int threads)
{
    if (!strcmp(line, "read\n"))
        return (double)share * threads / best_round(read_all, READ_ROUNDS, parts, threads);
    if (!strcmp(line, "touch\n"))
        return (double)share * threads / best_round(touch, 1, parts, threads);
    if (!strcmp(line, "multiply\n") && __builtin_cpu_supports("avx512bf16"))
        return 64.0 * ACCUMULATORS * STEPS * threads /
               best_round(multiply, MOST_ROUNDS, parts, threads);
    if (!strcmp(line, "tiles\n") && may_use_tiles())
        return 2.0 * TILE_ROWS * 16 * 32 * TILE_SUMS * TILE_STEPS * threads /
               best_round(multiply_tiles, MOST_ROUNDS, parts, threads);
    return 0;
}

int main(int argc, char **argv)
{
    const int threads = argc == 2 ? atoi(argv[1]) : 0;
    static struct part parts[MOST_THREADS];
    char line[64];

    if (threads < 1 || threads > MOST_THREADS) {
        fprintf(stderr, "usage: limits THREADS (1 to %d)\n", MOST_THREADS);
        return 2;
    }
    for (int i = 0; i < threads; i++) {
        parts[i].core = nth_core(i);
        if (take_memory(&parts[i])) {
            fprintf(stderr, "limits: no memory for %d threads\n", threads);
            return 1;
        }
    }
    while (fgets(line, sizeof line, stdin)) {
        printf("%.4g\n", answer(line, parts, threads));
        fflush(stdout);
    }
    return 0;
}
