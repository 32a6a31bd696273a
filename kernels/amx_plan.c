/* amx_plan.c - see amx_plan.h: which search a product gets, and the plans that are kept. */
#include "kernels/amx_plan.h"

#include <string.h>

#include "kernels/amx_row.h"
#include "kernels/amx_sharing.h"
#include "kernels/amx_units.h"
#include "kernels/base/integer.h"

enum { STEPS_EVEN = 128 /* elements of k of a block that a copied operand is cut for */ };

/* ---- several rows ---- */

/* Few rows, a short K, or few columns: the large operand is read once and K is not cut, if three
 * quarters of the threads have something to do.  Sets rows of a block. */
static int is_short(const struct product_shape *s, int64_t *m_block)
{
    const int64_t threads = s->host->threads;
    const float enough = 0.75f * (float)threads;
    int64_t m, rows;

    if (s->B != 1)
        return 0;
    if (s->M <= 32 && amx_k_is_inner(s)) {
        const int64_t columns = amx_whole(amx_parts(s->N, threads), min_i64(s->N, 32));

        *m_block = s->M;
        return (float)amx_parts(s->N, columns) >= enough && s->M * s->K <= amx_l2_limit(s);
    }
    m = amx_parts(s->M, threads);
    if (s->K <= 32) {
        struct sharing g = {.shape = s};

        sharing_among(&g, 1, amx_parts(s->M, m), 1, 1);
        sharing_set_tiles(&g);
        *m_block = g.rows;
        return (float)g.on_m >= enough;
    }
    if (s->N > 32)
        return 0;
    rows = amx_parts(m, amx_parts(m, 32));
    *m_block = rows;
    return (float)amx_parts(s->M, amx_whole(m, rows)) >= enough;
}

/* Whether a block of so many can be cut into as few steps as 32s would be, all even and alike. */
static int has_even_steps(int64_t k)
{
    const int64_t steps = amx_parts(k, AMX_TILE_K);

    return k % steps == 0 && k / steps <= AMX_TILE_K && k / steps % 2 == 0;
}

static int plan_rows(const struct product_shape *s, struct amx_plan *p)
{
    struct sharing best = {.shape = s};
    int64_t m_block = 0, tail;
    int copied = 0;

    if (is_short(s, &m_block)) {
        *p = (struct amx_plan){.block = s->K, .chunk = s->K, .parts = 1};
    } else {
        sharing_search(&best);
        if (best.score == 0)
            return 0;
        m_block = best.m_block;
        *p = (struct amx_plan){best.k_block, best.k_block * best.k_blocks, best.on_k, 0, 0};
        copied = best.across && s->K % AMX_TILE_K && best.n_block >= 3 * best.columns &&
                 best.k_block >= STEPS_EVEN;
    }
    tail = s->K % p->block;
    p->even = !copied && (s->K % AMX_TILE_K == 0 ||
                          (has_even_steps(p->block) && (tail == 0 || has_even_steps(tail))));
    p->small = amx_is_small(m_block, s->K);
    return 1;
}

/* ---- all products ---- */

struct amx_plan amx_plan_search(const struct product_shape *shape)
{
    struct amx_plan p;

    if (shape->M < 2 || !plan_rows(shape, &p))
        amx_row_plan(shape, &p);
    if (shape->host->amx_fp16)
        p.small = 0;
    return p;
}

/* ---- plans kept ---- */

struct kept {
    struct product_shape shape;
    struct torch_host host;
    struct amx_plan plan;
};

static int is_of(const struct kept *k, const struct product_shape *s)
{
    return k->shape.use == s->use && k->shape.B == s->B && k->shape.M == s->M &&
           k->shape.N == s->N && k->shape.K == s->K &&
           memcmp(&k->host, s->host, sizeof(k->host)) == 0;
}

static uint64_t hash_of(const struct product_shape *s)
{
    uint64_t hash = (uint64_t)s->use;

    hash = (hash ^ (uint64_t)s->B) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ (uint64_t)s->M) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ (uint64_t)s->N) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ (uint64_t)s->K) * 0x9e3779b97f4a7c15u;
    return hash >> 32;
}

struct amx_plan amx_plan_of(const struct product_shape *shape)
{
    enum { KEPT = 64 };
    static _Thread_local struct kept kept[KEPT];
    struct kept *k = &kept[hash_of(shape) % KEPT];

    if (!is_of(k, shape)) {
        k->plan = amx_plan_search(shape);
        k->shape = *shape;
        k->host = *shape->host;
    }
    return k->plan;
}
