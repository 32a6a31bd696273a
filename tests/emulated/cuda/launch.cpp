/* launch.cpp - the pool of OS threads that runs blocks.  It starts with the first launch of the
 * process and again in a child that fork left without its threads. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "tests/emulated/cuda/launch.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <unistd.h>

#include "tests/emulated/cuda/control.h"

enum { WORKERS_MOST = 64, UNSET = -1 };

static struct {
    pid_t process; /* whose workers these are */
    int started;   /* workers */
    sem_t wake[WORKERS_MOST], done;
    const struct grid *grid;
    size_t blocks, next; /* next: taken by whoever adds 1 */
} pool;
static pthread_mutex_t launching = PTHREAD_MUTEX_INITIALIZER;

static int order = UNSET, threads = UNSET;

int environment_number(const char *name, int otherwise)
{
    const char *text = getenv(name);
    char *end = NULL;
    long value = text ? strtol(text, &end, 10) : otherwise;

    if (text && (end == text || *end || value < 0 || value > 1 << 30))
        emulated_fault("%s=%s: not a number", name, text);
    return (int)value;
}

static int order_of_environment(void)
{
    const char *text = getenv("SAMEBIT_EMULATED_ORDER");

    if (!text || strcmp(text, "forward") == 0)
        return EMULATED_FORWARD;
    if (strcmp(text, "reverse") == 0)
        return EMULATED_REVERSE;
    return environment_number("SAMEBIT_EMULATED_ORDER", 0);
}

static int cores(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

int grid_order(void)
{
    if (order == UNSET)
        order = order_of_environment();
    return order;
}

void emulated_set_order(int wanted)
{
    order = wanted;
}

void emulated_set_threads(int wanted)
{
    threads = wanted;
}

static int worker_count(void)
{
    if (threads == UNSET)
        threads = environment_number("SAMEBIT_EMULATED_THREADS", cores());
    return max(1, min(threads, (int)WORKERS_MOST));
}

static void *worker_main(void *wake)
{
    struct runner *runner = runner_open();

    for (;;) {
        size_t block;

        while (sem_wait((sem_t *)wake))
            ;
        while ((block = __atomic_fetch_add(&pool.next, 1, __ATOMIC_RELAXED)) < pool.blocks)
            runner_block(runner, pool.grid, block);
        sem_post(&pool.done);
    }
    return NULL;
}

static void start_workers(int wanted)
{
    if (pool.process != getpid()) {
        pool.process = getpid();
        pool.started = 0;
        sem_init(&pool.done, 0, 0);
    }
    for (; pool.started < wanted; pool.started++) {
        pthread_t thread;

        sem_init(&pool.wake[pool.started], 0, 0);
        if (pthread_create(&thread, NULL, worker_main, &pool.wake[pool.started]))
            emulated_fault("no memory for a thread");
        pthread_detach(thread);
    }
}

void grid_run(const struct grid *grid)
{
    const size_t blocks = (size_t)grid->grid.x * grid->grid.y * grid->grid.z;
    const int workers = (int)min(blocks, (size_t)worker_count());

    pthread_mutex_lock(&launching);
    start_workers(workers);
    pool.grid = grid;
    pool.blocks = blocks;
    pool.next = 0;
    for (int i = 0; i < workers; i++)
        sem_post(&pool.wake[i]);
    for (int i = 0; i < workers; i++)
        while (sem_wait(&pool.done))
            ;
    pthread_mutex_unlock(&launching);
}
