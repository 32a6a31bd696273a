/* prefixes.c - see prefixes.h. */
#include "server/engine/prefixes.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "server/engine/run_private.h"

/* The first calls of a run that has ended.  Immutable once it is in the list, but for refs and
 * next. */
struct prefix {
    const struct program *program;
    int64_t padding, shift, batch, threads;
    int64_t calls, tokens;
    int64_t *end;     /* [calls]: tokens of the call and of all calls before it */
    int64_t *chosen;  /* [calls]: the greedy choice after each call */
    int64_t *token;   /* [tokens]: what was fed */
    char *memory;     /* of the caches, as struct sequence has them, */
    int64_t capacity; /* and that sequence's capacity */
    uint64_t bytes;
    int refs; /* one of the list, one of each thread that copies; under the lock */
    struct prefix *next;
};

struct prefixes {
    pthread_mutex_t lock;
    uint64_t most, bytes;
    struct prefix *first; /* the most recently used one */
};

struct prefixes *prefixes_create(uint64_t bytes)
{
    struct prefixes *p = calloc(1, sizeof(*p));

    if (!p)
        return NULL;
    pthread_mutex_init(&p->lock, NULL);
    p->most = bytes;
    return p;
}

/* ---- one prefix ---- */

static void prefix_free(struct prefix *x)
{
    if (!x)
        return;
    if (x->memory)
        x->program->backend->free(x->program->backend, x->memory);
    free(x->end);
    free(x->chosen);
    free(x->token);
    free(x);
}

static void prefix_release(struct prefix *x)
{
    if (--x->refs == 0)
        prefix_free(x);
}

static struct prefix *prefix_make(const struct run *r, int64_t calls, const int64_t *chosen,
                                  const struct sequence *s)
{
    const struct op_scope *scope = r->state->scope;
    const int64_t tokens = scope[calls - 1].past + scope[calls - 1].tokens;
    struct prefix *x = calloc(1, sizeof(*x));

    if (!x)
        return NULL;
    *x = (struct prefix){.program = r->program,
                         .padding = scope->padding,
                         .shift = scope->shift,
                         .batch = scope->batch,
                         .threads = scope->torch->threads,
                         .calls = calls,
                         .tokens = tokens,
                         .end = calloc((size_t)calls, sizeof(int64_t)),
                         .chosen = calloc((size_t)calls, sizeof(int64_t)),
                         .token = calloc((size_t)tokens, sizeof(int64_t)),
                         .capacity = s->capacity,
                         .bytes = sequence_cache_bytes(s),
                         .refs = 1};
    if (!x->end || !x->chosen || !x->token) {
        prefix_free(x);
        return NULL;
    }
    for (int64_t c = 0; c < calls; c++)
        x->end[c] = scope[c].past + scope[c].tokens;
    memcpy(x->chosen, chosen, sizeof(int64_t) * (size_t)calls);
    memcpy(x->token, r->tokens, sizeof(int64_t) * (size_t)tokens);
    return x;
}

/* Returns how many of the first `most` calls of r are the calls of x.  A decode step is fed what the
 * call before it has chosen. */
static int64_t prefix_match(const struct prefix *x, const struct run *r, int64_t most)
{
    const struct op_scope *scope = r->state->scope;
    int64_t call = 0;

    if (x->program != r->program || x->padding != scope->padding || x->shift != scope->shift ||
        x->batch != scope->batch || x->threads != scope->torch->threads)
        return 0;
    for (; call < most && call < x->calls; call++) {
        const int64_t first = scope[call].past, n = scope[call].tokens;
        const int64_t *fed = call < r->prompt_calls ? r->tokens + first : &x->chosen[call - 1];

        if (x->end[call] != first + n || memcmp(x->token + first, fed, sizeof(*fed) * (size_t)n))
            break;
    }
    return call;
}

/* Returns whether the calls of a are the first calls of b. */
static int prefix_within(const struct prefix *a, const struct prefix *b)
{
    return a->program == b->program && a->padding == b->padding && a->shift == b->shift &&
           a->batch == b->batch && a->threads == b->threads && a->calls <= b->calls &&
           memcmp(a->end, b->end, sizeof(*a->end) * (size_t)a->calls) == 0 &&
           memcmp(a->token, b->token, sizeof(*a->token) * (size_t)a->tokens) == 0;
}

/* ---- the list, with the lock held ---- */

static struct prefix *list_remove(struct prefixes *p, struct prefix **at)
{
    struct prefix *x = *at;

    *at = x->next;
    p->bytes -= x->bytes;
    return x;
}

static void list_put(struct prefixes *p, struct prefix *x)
{
    x->next = p->first;
    p->first = x;
    p->bytes += x->bytes;
}

/* Returns whether a prefix in the list begins with all calls of x. */
static int list_has(const struct prefixes *p, const struct prefix *x)
{
    for (const struct prefix *at = p->first; at; at = at->next)
        if (prefix_within(x, at))
            return 1;
    return 0;
}

/* Puts x into the list, in place of the prefixes whose calls are the first calls of x. */
static void list_replace(struct prefixes *p, struct prefix *x)
{
    for (struct prefix **at = &p->first; *at;)
        if (prefix_within(*at, x))
            prefix_release(list_remove(p, at));
        else
            at = &(*at)->next;
    list_put(p, x);
}

/* Removes the least recently used ones until the rest are few enough. */
static void list_trim(struct prefixes *p)
{
    while (p->bytes > p->most) {
        struct prefix **last = &p->first;

        while ((*last)->next)
            last = &(*last)->next;
        prefix_release(list_remove(p, last));
    }
}

/* The prefix with most of the first calls of r, *calls of them; NULL: none has any. */
static struct prefix **list_best(struct prefixes *p, const struct run *r, int64_t most,
                                 int64_t *calls)
{
    struct prefix **best = NULL;

    *calls = 0;
    for (struct prefix **at = &p->first; *at; at = &(*at)->next) {
        const int64_t found = prefix_match(*at, r, most);

        if (found > *calls) {
            *calls = found;
            best = at;
        }
    }
    return best;
}

/* ---- what executions call ---- */

int64_t prefixes_fetch(struct prefixes *p, const struct run *r, int64_t most, struct sequence *s,
                       int64_t *chosen)
{
    struct prefix **best, *x = NULL;
    int64_t calls;

    pthread_mutex_lock(&p->lock);
    best = list_best(p, r, most, &calls);
    if (best) {
        x = list_remove(p, best);
        list_put(p, x);
        x->refs++;
    }
    pthread_mutex_unlock(&p->lock);
    if (!x)
        return 0;
    sequence_copy_caches(s, x->memory, x->capacity, x->end[calls - 1]);
    memcpy(chosen, x->chosen, sizeof(*chosen) * (size_t)calls);
    pthread_mutex_lock(&p->lock);
    prefix_release(x);
    pthread_mutex_unlock(&p->lock);
    return calls;
}

void prefixes_give(struct prefixes *p, const struct run *r, int64_t calls, const int64_t *chosen,
                   struct sequence *s)
{
    struct prefix *x = NULL;

    if (calls && sequence_cache_bytes(s) <= p->most)
        x = prefix_make(r, calls, chosen, s);
    if (!x)
        return;
    x->memory = s->cache_memory;
    s->cache_memory = NULL;
    pthread_mutex_lock(&p->lock);
    if (list_has(p, x)) {
        prefix_release(x);
    } else {
        list_replace(p, x);
        list_trim(p);
    }
    pthread_mutex_unlock(&p->lock);
}

void prefixes_free(struct prefixes *p)
{
    if (!p)
        return;
    while (p->first)
        prefix_release(list_remove(p, &p->first));
    pthread_mutex_destroy(&p->lock);
    free(p);
}
