/* kept_runs.h - runs of a tiny model whose values are kept, for tests of the engine.  The model is
 * $SAMEBIT_TINY/tiny-qwen2, as tests/tiny/make_tiny.py makes it; a group of tests has it open. */
#ifndef SAMEBIT_TEST_KEPT_RUNS_H
#define SAMEBIT_TEST_KEPT_RUNS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/engine/engine.h"
#include "server/engine/run.h"
#include "tests/unit/run_alone.h"

enum { TOKENS = 11, STEPS = 3 };

static struct engine *engine, *single; /* two threads, one thread */
static enum attention attention;       /* of the requests; every test runs once with each */
static const int64_t prompt[TOKENS] = {5, 900, 17, 300, 301, 2, 77, 640, 1000, 8, 42};
static const struct run_limits limits = {.tokens = 256, .values = 100000, .memory = 1 << 30};

/* ---- a run, kept whole ---- */

struct kept {
    struct run *run;
    char **data; /* by entry */
    uint64_t *size;
    struct error err;
    int64_t fail_at; /* entry whose write fails; -1: none */
};

static inline int keep(void *user, int64_t entry, const void *data, size_t bytes, struct error *err)
{
    struct kept *k = user;

    if (entry == k->fail_at)
        return error_set(err, 499, "the test has left");
    k->data[entry] = realloc(k->data[entry], k->size[entry] + bytes + 1);
    memcpy(k->data[entry] + k->size[entry], data, bytes);
    k->size[entry] += bytes;
    return 0;
}

static inline struct kept run_kept(struct engine *e, const struct run_request *request,
                                   int64_t fail_at)
{
    struct kept k = {.fail_at = fail_at};
    const struct run_sink sink = {.write = keep, .user = &k};
    int rc;

    k.run = run_create(e, request, &limits, &k.err);
    if (!k.run)
        return k;
    k.data = calloc((size_t)k.run->entry_count + 1, sizeof(*k.data));
    k.size = calloc((size_t)k.run->entry_count + 1, sizeof(*k.size));
    rc = run_alone(k.run, &sink, &k.err);
    assert_int_equal(rc ? 1 : 0, k.err.code ? 1 : 0);
    return k;
}

static inline void kept_free(struct kept *k)
{
    for (int64_t i = 0; k->run && i < k->run->entry_count; i++)
        free(k->data[i]);
    free(k->data);
    free(k->size);
    run_free(k->run);
}

/* The name of a run's value; four of them are valid at a time. */
static inline const char *entry_name(const struct run *r, int64_t entry)
{
    static char names[4][256];
    static int turn;
    char *name = run_entry_name(r, entry);

    turn = (turn + 1) % 4;
    snprintf(names[turn], sizeof(names[turn]), "%s", name ? name : "");
    free(name);
    return names[turn];
}

static inline int64_t entry_of(const struct kept *k, const char *name)
{
    for (int64_t i = 0; i < k->run->entry_count; i++) {
        char *own = run_entry_name(k->run, i);
        const int found = own && strcmp(own, name) == 0;

        free(own);
        if (found)
            return i;
    }
    fail_msg("no entry %s", name);
    return -1;
}

static inline struct run_request request_of(const char *const *values, int64_t count, int64_t steps)
{
    return (struct run_request){.attention = attention,
                                .tokens = prompt,
                                .token_count = TOKENS,
                                .steps = steps,
                                .values = values,
                                .value_count = count};
}

static const char *const everything[] = {"*"};

static inline void expect_error(const struct run_request *request, int code, const char *param)
{
    struct error err = {0};

    assert_null(run_create(engine, request, &limits, &err));
    assert_int_equal(err.code, code);
    assert_string_equal(err.param, param);
    assert_true(strlen(err.text) > 10);
}

static inline void assert_same(const struct kept *a, const struct kept *b, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++) {
        assert_int_equal(a->size[i], b->size[i]);
        if (memcmp(a->data[i], b->data[i], a->size[i]) != 0)
            fail_msg("%s differs", entry_name(a->run, i));
    }
}

/* ---- the models ---- */

static inline struct engine *open_tiny_on(const char *device, const struct numerics *numerics,
                                          int threads, struct error *err)
{
    const char *root = getenv("SAMEBIT_TINY");
    struct engine_options options = {.families = "configs/families",
                                     .device = device,
                                     .numerics = numerics,
                                     .attention = ATTENTION_COUNT,
                                     .torch_threads = numerics->of_host,
                                     .threads = threads};
    char folder[512];

    if (!root) {
        error_set(err, 500, "SAMEBIT_TINY names no folder of tiny models");
        return NULL;
    }
    snprintf(folder, sizeof(folder), "%s/tiny-qwen2", root);
    options.folder = folder;
    return engine_open(&options, err);
}

static inline struct engine *open_tiny(int threads)
{
    struct error err = {0};
    struct engine *e = open_tiny_on("cpu", numerics_find("torch-cpu/avx512_bf16"), threads, &err);

    if (!e)
        fprintf(stderr, "%s\n", err.text);
    return e;
}

static inline int setup(void **state)
{
    (void)state;
    engine = open_tiny(2);
    single = open_tiny(1);
    return engine && single ? 0 : -1;
}

static inline int teardown(void **state)
{
    (void)state;
    engine_close(engine);
    engine_close(single);
    return 0;
}

static inline int choose_eager(void **state)
{
    attention = ATTENTION_EAGER;
    return setup(state);
}

static inline int choose_sdpa(void **state)
{
    attention = ATTENTION_SDPA;
    return setup(state);
}

#endif
