/* block.cpp - the threads of a block take turns: in which order, what they wait for at barriers and
 * warp primitives, and what must not be. */
#include "tests/emulated/cuda/block.h"

#include "tests/emulated/cuda/control.h"
#include "tests/emulated/cuda/fiber.h"

#include <stdarg.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
enum { STACK_BYTES = 512 << 10 };
#else
enum { STACK_BYTES = 128 << 10 };
#endif
/* Stacks begin on different lines of the cache. */
enum { STACK_STRIDE = STACK_BYTES + 4096, STACK_SHIFT = 320 };
static const uint64_t STACK_MARK = 0x5ca1ab1e0ddba11;

enum state { RUNS, AT_BARRIER, AT_PRIMITIVE, ENDED };

struct cuda_thread {
    struct fiber fiber;
    uint3 index;
    enum state state;
    const char *file; /* of the barrier or primitive it is at */
    int line;
    enum emulated_primitive primitive;
    unsigned mask;
    int source, predicate;
    uint64_t value, result;
};

struct runner {
    struct emulated_block block;
    struct fiber home;
    struct cuda_thread threads[BLOCK_THREADS_MOST];
    struct cuda_thread *running;
    char *stacks;
    int opened, count; /* threads with a fiber, threads of the block */
    int met;           /* threads whose predicate held at the last barrier */
    size_t shared;
    uint64_t random;
    const struct grid *grid;
};

__thread struct emulated_block *emulated_now;
static __thread struct runner *runner_now;

void emulated_fault(const char *format, ...)
{
    const struct runner *r = runner_now;
    va_list arguments;

    fprintf(stderr, "samebit: emulated CUDA: ");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    if (r && r->running)
        fprintf(stderr, " (%s: block %u,%u,%u thread %u,%u,%u)", r->grid->name, r->block.index.x,
                r->block.index.y, r->block.index.z, r->running->index.x, r->running->index.y,
                r->running->index.z);
    fprintf(stderr, "\n");
    fflush(NULL);
    abort();
}

/* ---- inside a thread ---- */

static void wait_here(struct cuda_thread *t, enum state state, const char *file, int line)
{
    t->file = file;
    t->line = line;
    t->state = state;
    fiber_switch(&t->fiber, &runner_now->home);
}

int emulated_barrier(int predicate, const char *file, int line)
{
    struct cuda_thread *t = runner_now->running;

    t->predicate = predicate;
    wait_here(t, AT_BARRIER, file, line);
    return runner_now->met;
}

uint64_t emulated_warp(enum emulated_primitive primitive, unsigned mask, uint64_t value, int source,
                       const char *file, int line)
{
    struct cuda_thread *t = runner_now->running;

    t->primitive = primitive;
    t->mask = mask;
    t->value = value;
    t->source = source;
    wait_here(t, AT_PRIMITIVE, file, line);
    return t->result;
}

/* One fiber runs the same thread of block after block. */
static void thread_main(void *argument)
{
    struct cuda_thread *t = (struct cuda_thread *)argument;

    for (;;) {
        runner_now->grid->body.run(runner_now->grid->body.arguments);
        wait_here(t, ENDED, NULL, 0);
    }
}

static void resume(struct runner *r, struct cuda_thread *t)
{
    r->running = t;
    r->block.thread = t->index;
    r->block.lane = (int)(t - r->threads) % WARP;
    fiber_switch(&r->home, &t->fiber);
}

/* ---- warps ---- */

static int lanes_of(const struct runner *r, int warp)
{
    return min(r->count - warp * WARP, (int)WARP);
}

static __thread char place_text[160];

static const char *place_name(const struct cuda_thread *t)
{
    if (t->state == ENDED)
        return "its end";
    snprintf(place_text, sizeof(place_text), "%s, %s:%d",
             t->state == AT_BARRIER ? "__syncthreads" : "a warp primitive", t->file, t->line);
    return place_text;
}

static int at_same_place(const struct cuda_thread *a, const struct cuda_thread *b)
{
    return a->state == b->state && a->line == b->line &&
           (a->file == b->file || strcmp(a->file, b->file) == 0);
}

/* Whether lane a can have what it waits for from lane b. */
static int meets(const struct cuda_thread *a, const struct cuda_thread *b)
{
    return at_same_place(a, b) && a->primitive == b->primitive && a->mask == b->mask;
}

/* The first lane of its mask that lane a waits for, or -1. */
static int missing_lane(const struct cuda_thread *a, const struct cuda_thread *warp, int lanes)
{
    for (int lane = 0; lane < lanes; lane++)
        if ((a->mask >> lane & 1) && !meets(a, &warp[lane]))
            return lane;
    return -1;
}

static uint64_t result_of(struct runner *r, struct cuda_thread *t, const struct cuda_thread *warp,
                          unsigned mask, unsigned ballot)
{
    if (t->primitive != EMULATED_SHUFFLE)
        return t->primitive == EMULATED_BALLOT ? ballot : 0;
    r->running = t;
    if (t->source < 0 || t->source >= WARP || !(mask >> t->source & 1))
        emulated_fault("%s:%d: a shuffle reads lane %d, outside its mask %08x or the block",
                       t->file, t->line, t->source, mask);
    return warp[t->source].value;
}

/* Gives the lanes of a mask, which have met, their results. */
static void complete_primitive(struct runner *r, struct cuda_thread *warp, unsigned mask)
{
    unsigned ballot = 0;

    for (int lane = 0; lane < WARP; lane++)
        if (mask >> lane & 1)
            ballot |= (unsigned)(warp[lane].value != 0) << lane;
    for (int lane = 0; lane < WARP; lane++)
        if (mask >> lane & 1)
            warp[lane].result = result_of(r, &warp[lane], warp, mask, ballot);
    for (int lane = 0; lane < WARP; lane++)
        if (mask >> lane & 1)
            warp[lane].state = RUNS;
}

/* No lane of the warp can go on and some wait: says for whom. */
[[noreturn]] static void stuck(struct runner *r, struct cuda_thread *t, struct cuda_thread *warp,
                               int lanes)
{
    const int lane = missing_lane(t, warp, lanes);

    r->running = t;
    emulated_fault("%s:%d: a warp primitive with mask %08x waits for lane %d, which is at %s",
                   t->file, t->line, t->mask, lane, place_name(&warp[lane]));
}

/* All lanes of a warp wait or have ended: completes what has met.  Returns whether any has. */
static int complete_primitives(struct runner *r, struct cuda_thread *warp, int lanes)
{
    const unsigned there = lanes == WARP ? 0xffffffffu : (1u << lanes) - 1;
    struct cuda_thread *waiting = NULL;
    int completed = 0;

    for (int lane = 0; lane < lanes; lane++) {
        struct cuda_thread *t = &warp[lane];

        if (t->state != AT_PRIMITIVE)
            continue;
        r->running = t;
        if (!(t->mask >> lane & 1))
            emulated_fault("%s:%d: a warp primitive's mask %08x leaves out the calling lane %d",
                           t->file, t->line, t->mask, lane);
        if (missing_lane(t, warp, lanes) < 0) {
            complete_primitive(r, warp, t->mask & there);
            completed = 1;
        } else if (!waiting) {
            waiting = t;
        }
    }
    if (waiting && !completed)
        stuck(r, waiting, warp, lanes);
    return completed;
}

static unsigned random_below(struct runner *r, unsigned n)
{
    r->random = r->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((r->random >> 33) % n);
}

static void fill_order(struct runner *r, int *order, int n)
{
    for (int i = 0; i < n; i++)
        order[i] = r->grid->order == EMULATED_REVERSE ? n - 1 - i : i;
    if (r->grid->order == EMULATED_FORWARD || r->grid->order == EMULATED_REVERSE)
        return;
    for (int i = n - 1; i > 0; i--) {
        const int j = (int)random_below(r, (unsigned)i + 1), kept = order[i];

        order[i] = order[j];
        order[j] = kept;
    }
}

/* Runs a warp until each lane waits or has ended.  Returns whether warp primitives let some go on.
 */
static int run_warp(struct runner *r, int index)
{
    struct cuda_thread *warp = &r->threads[index * WARP];
    const int lanes = lanes_of(r, index);
    int order[WARP];

    fill_order(r, order, lanes);
    for (int i = 0; i < lanes; i++)
        if (warp[order[i]].state == RUNS)
            resume(r, &warp[order[i]]);
    return complete_primitives(r, warp, lanes);
}

/* ---- blocks ---- */

static void run_warps(struct runner *r)
{
    int order[BLOCK_THREADS_MOST / WARP];
    int warps = (r->count + WARP - 1) / WARP;

    fill_order(r, order, warps);
    if (r->grid->order == EMULATED_FORWARD || r->grid->order == EMULATED_REVERSE) {
        for (int i = 0; i < warps; i++)
            while (run_warp(r, order[i]))
                ;
        return;
    }
    while (warps > 0) {
        const unsigned i = random_below(r, (unsigned)warps);

        if (!run_warp(r, order[i]))
            order[i] = order[--warps];
    }
}

/* Lets threads that wait at a barrier go on.  Returns 0 when all have ended instead. */
static int pass_barrier(struct runner *r)
{
    struct cuda_thread *first = NULL;

    for (int i = 0; i < r->count && !first; i++)
        if (r->threads[i].state == AT_BARRIER)
            first = &r->threads[i];
    if (!first)
        return 0;
    r->met = 0;
    r->running = first;
    for (int i = 0; i < r->count; i++) {
        struct cuda_thread *t = &r->threads[i];

        if (!at_same_place(t, first))
            emulated_fault("%s:%d: __syncthreads waits for thread %u,%u,%u, which is at %s",
                           first->file, first->line, t->index.x, t->index.y, t->index.z,
                           place_name(t));
        r->met += t->predicate != 0;
    }
    for (int i = 0; i < r->count; i++)
        r->threads[i].state = RUNS;
    return 1;
}

static uint64_t *mark_of(const struct runner *r, int thread)
{
    return (uint64_t *)(r->stacks + (size_t)thread * STACK_STRIDE);
}

static void open_fibers(struct runner *r)
{
    for (; r->opened < r->count; r->opened++) {
        char *stack = r->stacks + (size_t)r->opened * STACK_STRIDE;

        *mark_of(r, r->opened) = STACK_MARK;
        fiber_open(&r->threads[r->opened].fiber, stack,
                   (size_t)(STACK_STRIDE - r->opened * STACK_SHIFT % 4096), thread_main,
                   &r->threads[r->opened]);
    }
}

static void prepare_shared_memory(struct runner *r)
{
    const int order = r->grid->order;
    const int byte = order == EMULATED_REVERSE || (order > 1 && order % 2) ? 0x7f : 0xff;

    if (r->shared != r->grid->shared) {
        free(r->block.dynamic_shared);
        r->shared = r->grid->shared;
        r->block.dynamic_shared = malloc(r->shared);
    }
    if (r->shared)
        memset(r->block.dynamic_shared, byte, r->shared);
    shared_memory_fill(byte);
}

static void prepare(struct runner *r, const struct grid *grid, size_t index)
{
    const dim3 g = grid->grid, b = grid->block;

    r->grid = grid;
    r->count = (int)(b.x * b.y * b.z);
    r->block.index = uint3{(unsigned)(index % g.x), (unsigned)(index / g.x % g.y),
                           (unsigned)(index / ((size_t)g.x * g.y))};
    r->block.dim = b;
    r->block.grid = g;
    r->random = (uint64_t)grid->order * 0x9e3779b97f4a7c15u + index;
    open_fibers(r);
    for (int i = 0; i < r->count; i++) {
        const unsigned u = (unsigned)i;

        r->threads[i].index = uint3{u % b.x, u / b.x % b.y, u / (b.x * b.y)};
        r->threads[i].state = RUNS;
    }
    prepare_shared_memory(r);
}

void runner_block(struct runner *r, const struct grid *grid, size_t index)
{
    prepare(r, grid, index);
    do {
        run_warps(r);
    } while (pass_barrier(r));
    for (int i = 0; i < r->count; i++) {
        r->running = &r->threads[i];
        if (*mark_of(r, i) != STACK_MARK)
            emulated_fault("a thread's local variables need more than %d KiB", STACK_BYTES >> 10);
    }
    r->running = NULL;
}

struct runner *runner_open(void)
{
    struct runner *r = (struct runner *)calloc(1, sizeof(*r));
    void *stacks = mmap(NULL, (size_t)BLOCK_THREADS_MOST * STACK_STRIDE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (!r || stacks == MAP_FAILED)
        emulated_fault("no memory for the stacks of a block's threads");
    r->stacks = (char *)stacks;
    fiber_adopt(&r->home);
    runner_now = r;
    emulated_now = &r->block;
    return r;
}
