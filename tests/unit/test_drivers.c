/* test_drivers.c - runs that share their passes have the bits that they have alone, whoever joins,
 * and so have runs with a driver of their own. */
#include "tests/unit/kept_runs.h"

#include <stdatomic.h>
#include <unistd.h>

#include "server/engine/drivers.h"

enum { JOBS = 24, LONGEST = 90 };

/* The run of a job, kept whole, and how its reader behaves. */
struct joined {
    struct kept kept;
    atomic_int naps; /* so many times its reader is not ready */
    int lingers;     /* and so many times when it is over */
    int64_t leave;   /* at this token, or -1 */
    int stop;        /* an end at this token, or -1 */
    int stalls;      /* its reader keeps it waiting, it says */
    atomic_int over, finished;
    int64_t tokens, writes;
};

static int64_t ids[JOBS][LONGEST];

static struct run_request mixed(int i)
{
    static const char *const wanted[] = {"logits", "layer_0.final", "step_*/logits"};
    struct run_request request = {.attention = attention,
                                  .tokens = ids[i],
                                  .token_count = i % 7 == 3 ? LONGEST - i : 1 + i * 5 % 40,
                                  .steps = i * 3 % 11,
                                  .values = wanted,
                                  .value_count = 1 + i % 2};

    for (int t = 0; t < LONGEST; t++)
        ids[i][t] = (t * 37 + i * 11 + 5) % 1000;
    if (i % 5 == 4) { /* only what the steps give, of the other attention */
        request.values = wanted + 2;
        request.value_count = request.steps > 0;
        request.attention = attention == ATTENTION_SDPA ? ATTENTION_EAGER : ATTENTION_SDPA;
    }
    return request;
}

static int take(void *user, int64_t entry, const void *data, size_t bytes, struct error *err)
{
    struct joined *j = user;

    j->writes++;
    return keep(&j->kept, entry, data, bytes, err);
}

static int on_token(void *user, int64_t step, int64_t id, struct error *err)
{
    struct joined *j = user;

    (void)step;
    (void)id;
    assert_int_equal(j->kept.err.code, 0);
    if (j->tokens == j->leave)
        return error_set(err, 499, "the test has left");
    return j->tokens++ == j->stop;
}

static int ready(void *user)
{
    struct joined *j = user;

    return j->naps-- <= 0;
}

static void over(void *user, const struct error *error)
{
    struct joined *j = user;

    j->kept.err = *error;
    j->naps = j->lingers;
    j->over++;
}

static void finish(void *user)
{
    struct joined *j = user;

    assert_true(j->naps <= 0);
    j->finished++;
}

static int stalled(void *user)
{
    return ((struct joined *)user)->stalls;
}

static struct joined *join_as(enum job_kind kind, struct scheduler *s,
                              const struct run_request *request, const struct joined *how)
{
    struct joined *j = calloc(1, sizeof(*j));
    struct error err = {0};
    struct job job = {.kind = kind, .over = over, .finish = finish, .stalled = stalled, .user = j};

    *j = *how;
    j->kept.fail_at = how->kept.fail_at;
    j->kept.run = run_create(engine, request, &limits, &j->kept.err);
    assert_non_null(j->kept.run);
    assert_true(drivers_share(j->kept.run));
    j->kept.data = calloc((size_t)j->kept.run->entry_count + 1, sizeof(char *));
    j->kept.size = calloc((size_t)j->kept.run->entry_count + 1, sizeof(uint64_t));
    job.run = j->kept.run;
    job.memory = j->kept.run->memory;
    job.sink = (struct run_sink){.write = take, .token = on_token, .ready = ready, .user = j};
    assert_int_equal(scheduler_submit(s, &job, &err), 0);
    return j;
}

static struct joined *join(struct scheduler *s, const struct run_request *request,
                           const struct joined *how)
{
    return join_as(JOB_SHARED, s, request, how);
}

static void wait_until(atomic_int *flag)
{
    for (int i = 0; i < 40000 && !*flag; i++)
        usleep(500);
    assert_int_equal(*flag, 1);
}

static void joined_free(struct joined *j)
{
    kept_free(&j->kept);
    free(j);
}

static const struct joined eager_reader = {.kept = {.fail_at = -1}, .leave = -1, .stop = -1};

/* ---- drivers and their scheduler ---- */

struct place {
    struct scheduler *scheduler;
    struct drivers *drivers;
};

static struct place open_place(int together, uint64_t memory)
{
    const struct scheduler_limits most = {
        .places = {[JOB_SHARED] = together, [JOB_ALONE] = 2}, .waiting = 100, .memory = memory};
    struct error err = {0};
    struct place p;

    p.scheduler = scheduler_create(&most, &err);
    assert_non_null(p.scheduler);
    p.drivers = drivers_start(p.scheduler, &err);
    assert_non_null(p.drivers);
    return p;
}

static void close_place(struct place *p)
{
    scheduler_stop(p->scheduler);
    drivers_free(p->drivers);
    scheduler_free(p->scheduler);
}

static void assert_as_alone(struct joined *j, const struct run_request *request)
{
    struct kept alone = run_kept(engine, request, -1);

    assert_int_equal(j->kept.err.code, 0);
    assert_int_equal(j->kept.run->entry_count, alone.run->entry_count);
    assert_same(&j->kept, &alone, 0, alone.run->entry_count);
    assert_memory_equal(j->kept.run->tokens, alone.run->tokens,
                        sizeof(int64_t) * (size_t)(request->token_count + request->steps));
    assert_int_equal(j->kept.run->next, alone.run->next);
    kept_free(&alone);
}

/* ---- */

static void all_as_alone_within(enum job_kind kind, int together, uint64_t memory, int naps)
{
    struct place p = open_place(together, memory);
    struct joined *j[JOBS], how = eager_reader;

    for (int i = 0; i < JOBS; i++) {
        const struct run_request request = mixed(i);

        how.naps = i % 3 ? 0 : naps;
        j[i] = join_as(kind, p.scheduler, &request, &how);
    }
    for (int i = 0; i < JOBS; i++) {
        const struct run_request request = mixed(i);

        wait_until(&j[i]->finished);
        assert_int_equal(j[i]->over, 1);
        assert_int_equal(j[i]->tokens, request.steps + 1);
        assert_as_alone(j[i], &request);
        joined_free(j[i]);
    }
    close_place(&p);
}

static void runs_together_are_as_alone(void **state)
{
    (void)state;
    all_as_alone_within(JOB_SHARED, GROUP_PARTS, UINT64_MAX, 0);
    all_as_alone_within(JOB_SHARED, 3, UINT64_MAX, 0);
}

static void memory_lets_them_in_one_by_one(void **state)
{
    (void)state;
    all_as_alone_within(JOB_SHARED, GROUP_PARTS, 1, 0);
}

static void each_with_a_driver_of_its_own(void **state)
{
    (void)state;
    all_as_alone_within(JOB_ALONE, GROUP_PARTS, UINT64_MAX, 0);
    all_as_alone_within(JOB_ALONE, GROUP_PARTS, UINT64_MAX, 7);
}

static void slow_readers_sit_out(void **state)
{
    (void)state;
    all_as_alone_within(JOB_SHARED, GROUP_PARTS, UINT64_MAX, 7);
}

static void a_slow_reader_holds_nobody_up(void **state)
{
    struct place p = open_place(8, UINT64_MAX);
    const struct run_request request = mixed(6);
    struct joined how = eager_reader, *slow, *quick;

    (void)state;
    how.naps = 1 << 30;
    slow = join(p.scheduler, &request, &how);
    quick = join(p.scheduler, &request, &eager_reader);
    wait_until(&quick->finished);
    assert_int_equal(slow->finished, 0);
    slow->naps = 0;
    wait_until(&slow->finished);
    assert_as_alone(slow, &request);
    close_place(&p);
    joined_free(slow);
    joined_free(quick);
}

static void one_who_leaves_or_stops_ends_alone(void **state)
{
    struct place p = open_place(8, UINT64_MAX);
    const struct run_request request = mixed(13); /* of 6 steps */
    struct joined how = eager_reader, *left, *stopped, *stays;

    (void)state;
    how.leave = 2;
    left = join(p.scheduler, &request, &how);
    how.leave = -1;
    how.stop = 2;
    stopped = join(p.scheduler, &request, &how);
    stays = join(p.scheduler, &request, &eager_reader);
    wait_until(&left->finished);
    wait_until(&stopped->finished);
    wait_until(&stays->finished);
    assert_int_equal(left->kept.err.code, 499);
    assert_int_equal(left->tokens, 2);
    assert_int_equal(stopped->kept.err.code, 0);
    assert_int_equal(stopped->tokens, 3);
    assert_as_alone(stays, &request);
    close_place(&p);
    joined_free(left);
    joined_free(stopped);
    joined_free(stays);
}

static void who_cannot_write_is_asked_nothing_more(void **state)
{
    static const char *const wanted[] = {"layer_0.final", "layer_1.final", "logits"};
    struct place p = open_place(8, UINT64_MAX);
    struct run_request request = mixed(13);
    struct joined how = eager_reader, *fails, *stays;

    (void)state;
    request.values = wanted, request.value_count = 3;
    stays = join(p.scheduler, &request, &how);
    how.kept.fail_at = 1;
    fails = join(p.scheduler, &request, &how);
    wait_until(&fails->finished);
    wait_until(&stays->finished);
    assert_int_equal(fails->kept.err.code, 499);
    assert_int_equal(fails->writes, 2);
    assert_int_equal(fails->tokens, 0);
    assert_as_alone(stays, &request);
    close_place(&p);
    joined_free(fails);
    joined_free(stays);
}

static int fails(const struct op_call *call, int steps, int parts)
{
    (void)call;
    (void)steps;
    (void)parts;
    return -1;
}

static void what_fails_for_all_ends_all_and_is_named(void **state)
{
    struct place p = open_place(8, UINT64_MAX);
    const struct run_request request = mixed(13);
    struct joined how = eager_reader, *j[2], *later;
    group_fn *const same = engine->backend->group[GROUP_SAME];

    (void)state;
    engine->backend->group[GROUP_SAME] = fails; /* asked where runs share a pass */
    how.naps = 1 << 30;
    for (int i = 0; i < 2; i++)
        j[i] = join(p.scheduler, &request, &how);
    for (int i = 0; i < 2; i++)
        j[i]->naps = 0;
    for (int i = 0; i < 2; i++) {
        wait_until(&j[i]->finished);
        assert_int_equal(j[i]->kept.err.code, 500);
        assert_non_null(strstr(j[i]->kept.err.text, "model.embed_tokens: embedding failed on cpu"));
    }
    engine->backend->group[GROUP_SAME] = same;
    later = join(p.scheduler, &request, &eager_reader);
    wait_until(&later->finished);
    assert_as_alone(later, &request);
    close_place(&p);
    joined_free(j[0]);
    joined_free(j[1]);
    joined_free(later);
}

static void a_job_is_not_finished_until_the_reader_has_all(void **state)
{
    struct place p = open_place(1, UINT64_MAX);
    const struct run_request request = mixed(6);
    struct joined how = eager_reader, *slow, *quick;

    (void)state;
    how.lingers = 1 << 30;
    slow = join(p.scheduler, &request, &how);
    wait_until(&slow->over);
    usleep(20000);
    assert_int_equal(slow->finished, 0);
    quick = join(p.scheduler, &request, &eager_reader); /* the one place is free */
    wait_until(&quick->finished);
    assert_int_equal(slow->finished, 0);
    slow->naps = 3;
    wait_until(&slow->finished);
    close_place(&p);
    joined_free(slow);
    joined_free(quick);
}

/* Readers that stall in the middle of their runs, more of them than there are places. */
static void stalled_readers_hold_no_place(void **state)
{
    const struct run_request request = mixed(13);
    struct joined how = eager_reader, *slow[6], *quick;

    (void)state;
    for (int kind = 0; kind < JOB_KINDS; kind++) {
        struct place p = open_place(2, UINT64_MAX);

        how.naps = 1 << 30;
        how.stalls = 1;
        for (int i = 0; i < 6; i++)
            slow[i] = join_as((enum job_kind)kind, p.scheduler, &request, &how);
        quick = join_as((enum job_kind)kind, p.scheduler, &request, &eager_reader);
        wait_until(&quick->finished);
        for (int i = 0; i < 6; i++) {
            assert_int_equal(slow[i]->finished, 0);
            slow[i]->naps = 0;
        }
        for (int i = 0; i < 6; i++) {
            wait_until(&slow[i]->finished);
            assert_as_alone(slow[i], &request);
        }
        close_place(&p);
        for (int i = 0; i < 6; i++)
            joined_free(slow[i]);
        joined_free(quick);
    }
}

static void stopping_refuses_who_waits_and_lets_run_who_runs(void **state)
{
    struct place p = open_place(1, UINT64_MAX);
    const struct run_request request = mixed(13);
    struct joined how = eager_reader, *runs, *waits;

    (void)state;
    how.naps = 1 << 30;
    runs = join(p.scheduler, &request, &how);
    waits = join(p.scheduler, &request, &eager_reader);
    usleep(20000);
    scheduler_stop(p.scheduler);
    assert_int_equal(waits->over + runs->over, 0);
    runs->naps = 0;
    drivers_free(p.drivers);
    scheduler_free(p.scheduler);
    assert_int_equal(runs->finished, 1);
    assert_as_alone(runs, &request);
    assert_int_equal(waits->over + waits->finished, 2);
    assert_int_equal(waits->kept.err.code, 503);
    assert_int_equal(waits->tokens, 0);
    joined_free(runs);
    joined_free(waits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_together_are_as_alone),
        cmocka_unit_test(each_with_a_driver_of_its_own),
        cmocka_unit_test(memory_lets_them_in_one_by_one),
        cmocka_unit_test(stalled_readers_hold_no_place),
        cmocka_unit_test(slow_readers_sit_out),
        cmocka_unit_test(a_slow_reader_holds_nobody_up),
        cmocka_unit_test(one_who_leaves_or_stops_ends_alone),
        cmocka_unit_test(who_cannot_write_is_asked_nothing_more),
        cmocka_unit_test(what_fails_for_all_ends_all_and_is_named),
        cmocka_unit_test(a_job_is_not_finished_until_the_reader_has_all),
        cmocka_unit_test(stopping_refuses_who_waits_and_lets_run_who_runs),
    };

    return cmocka_run_group_tests_name("eager", tests, choose_eager, teardown) +
           cmocka_run_group_tests_name("sdpa", tests, choose_sdpa, teardown);
}
