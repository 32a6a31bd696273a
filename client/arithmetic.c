/* arithmetic.c - see arithmetic.h. */
#include "client/arithmetic.h"

#include <string.h>

#include "client/cli.h"
#include "client/remote.h"

enum { TEXT = 256 };

struct told {
    const char *numerics, *caches, *device; /* NULL: it does not say */
    int threads;                            /* 0: none, or it does not say */
};

static struct told told_by(const struct side *s)
{
    json_t *threads = side_fact(s, "torch_threads");
    const struct told t = {side_text(s, "numerics"), side_text(s, "torch_host"),
                           side_text(s, "device"), (int)json_integer_value(threads)};

    json_decref(threads);
    return t;
}

static int same_text(const char *a, const char *b)
{
    return !a || !b || strcmp(a, b) == 0;
}

static int same_numerics(const struct told *a, const struct told *b)
{
    return same_text(a->numerics, b->numerics);
}

static int same_threads(const struct told *a, const struct told *b)
{
    return !a->threads || !b->threads || a->threads == b->threads;
}

int arithmetic_differs(const struct side *a, const struct side *b)
{
    const struct told x = told_by(a), y = told_by(b);

    return !same_numerics(&x, &y) ||
           (x.numerics && y.numerics && !(same_threads(&x, &y) && same_text(x.caches, y.caches)));
}

/* ---- words ---- */

/* " with 8 threads and l1=..."; the caches only where they are what differs. */
static void describe(const struct told *t, int caches, char text[TEXT])
{
    int n = snprintf(text, TEXT, "%.100s", t->numerics);

    if (t->threads)
        n += snprintf(text + n, (size_t)(TEXT - n), " with %d thread%s", t->threads,
                      t->threads == 1 ? "" : "s");
    if (caches && t->caches)
        snprintf(text + n, (size_t)(TEXT - n), " and %.80s", t->caches);
}

/* The options of samebitd that give what t says. */
static void options_of(const struct told *t, char text[TEXT])
{
    int n = snprintf(text, TEXT, "--numerics %.100s", t->numerics);

    if (t->threads)
        n += snprintf(text + n, (size_t)(TEXT - n), " --torch-threads %d", t->threads);
    if (t->caches)
        snprintf(text + n, (size_t)(TEXT - n), " --torch-host %.80s", t->caches);
}

/* Which of the two is a daemon that can be started otherwise: 1 (B) if it can, -1 neither.  A GPU has
 * few numerics, so a daemon on one stays as it is where the other can change. */
static int to_change(const struct side *const s[2], const struct told t[2])
{
    const int daemon[2] = {remote_is_url(s[0]->label), remote_is_url(s[1]->label)};

    if (daemon[0] && daemon[1])
        return t[1].device && strncmp(t[1].device, "cuda", 4) == 0 ? 0 : 1;
    return daemon[1] ? 1 : daemon[0] ? 0 : -1;
}

static void advise(const struct side *a, const struct side *b, char text[2 * TEXT])
{
    const struct side *const s[2] = {a, b};
    const struct told t[2] = {told_by(a), told_by(b)};
    const int change = to_change(s, t);
    char options[TEXT];

    if (change < 0) {
        snprintf(text, 2 * TEXT, "trace both under one numerics, with as many threads of torch's");
    } else if (same_numerics(&t[0], &t[1]) && same_text(t[0].caches, t[1].caches)) {
        snprintf(text, 2 * TEXT,
                 "samebit compare --torch-threads %d, or samebitd --torch-threads %d "
                 "as %c",
                 t[1 - change].threads, t[1 - change].threads, 'A' + change);
    } else {
        options_of(&t[1 - change], options);
        snprintf(text, 2 * TEXT, "start %c with samebitd %s", 'A' + change, options);
    }
}

static void describe_both(const struct side *a, const struct side *b, char x[TEXT], char y[TEXT])
{
    const struct told t[2] = {told_by(a), told_by(b)};
    const int caches = !same_text(t[0].caches, t[1].caches);

    describe(&t[0], caches, x);
    describe(&t[1], caches, y);
}

/* Whether nothing else that they state explains a difference. */
static int all_else_is_same(const struct side *a, const struct side *b)
{
    const char *x = side_text(a, "weights"), *y = side_text(b, "weights");

    return x && y && strcmp(x, y) == 0 &&
           same_text(side_text(a, "attention"), side_text(b, "attention"));
}

void arithmetic_print(const struct compare *c, const struct side *a, const struct side *b)
{
    char x[TEXT], y[TEXT], advice[2 * TEXT];

    if (!arithmetic_differs(a, b))
        return;
    describe_both(a, b, x, y);
    advise(a, b, advice);
    color_print(stdout, COLOR_WARN, "another arithmetic:");
    fputs(" A is ", stdout);
    cli_put_text(stdout, x);
    fputs(", B ", stdout);
    cli_put_text(stdout, y);
    if (!c->wrong && compare_same(c))
        fputs(": no element differs here all the same", stdout);
    else if (c->elements && c->first_token < 0)
        printf(": %.3g %% of elements differ%s", 100.0 * (double)c->wrong / (double)c->elements,
               all_else_is_same(a, b) ? ", by rounding alone" : "");
    fputs("\nto make them agree: ", stdout);
    cli_put_text(stdout, advice);
    fputs("\n\n", stdout);
}

json_t *arithmetic_json(const struct side *a, const struct side *b)
{
    char x[TEXT], y[TEXT], advice[2 * TEXT];

    if (!arithmetic_differs(a, b))
        return NULL;
    describe_both(a, b, x, y);
    advise(a, b, advice);
    return json_pack("{s:s,s:s,s:s}", "a", x, "b", y, "to_agree", advice);
}
