/* amx_score.c - see amx_sharing.h: the score of a sharing, from the bytes that it moves and the cycles
 * that caches and tiles take for them. */
#include "kernels/amx_sharing.h"
#include "kernels/amx_units.h"
#include "kernels/base/integer.h"

static float greater(float a, float b)
{
    return a < b ? b : a;
}

/* Bytes a cycle that a core reads where several read the same. */
static float bandwidth(float readers)
{
    static const float x[6] = {1, 2, 4, 8, 16, 32};
    static const float y[6] = {2.28f, 0.9f, 2.39f, 2.98f, 3.31f, 4.06f};
    const float count = (float)(int64_t)readers;

    if (count <= 1)
        return y[0];
    for (int i = 1; i < 6; i++)
        if (count <= x[i])
            return (float)(y[i - 1] + (y[i] - y[i - 1]) * (count - x[i - 1]) / (x[i] - x[i - 1]));
    return y[5];
}

/* What one strip of the outer loop moves, in bytes. */
struct traffic {
    float strips, products; /* how many strips; TDPBF16PS of one */
    float first_shared, first_private, first_readers;
    float next_shared, next_private, next_readers;
    float inner, reuse; /* of the inner operand; how often the strip is read */
};

static struct traffic traffic_of(const struct sharing *g)
{
    const int64_t tile = g->tile_rows * g->tile_k * AMX_TILE, sum = g->on_k == 1 ? 2 : 4;
    const int64_t strip = g->across ? g->rows : g->columns, along = g->across ? g->n : g->m;
    const int64_t inner = along * g->k * 2, sums = strip * along * sum;

    return (struct traffic){
        .strips = (float)amx_parts(g->across ? g->m : g->n, strip),
        .products = (float)(strip * g->k * along / tile),
        .first_shared = (float)inner,
        .first_private = (float)(strip * g->k * 2 + sums),
        .first_readers = (float)(g->across ? g->on_m : g->on_n),
        .next_shared = (float)(strip * g->k * 2),
        .next_private = (float)sums,
        .next_readers = (float)max_i64(1, g->across ? g->on_n : g->on_m),
        .inner = (float)inner,
        .reuse =
            (float)(g->across ? amx_parts(g->n_block, g->columns) : amx_parts(g->m_block, g->rows)),
    };
}

/* Bytes a cycle of L1: hits, and misses of loads and stores; of the last cache. */
static const float hit = 106.41f, last_cache = 6.0f;
static const float load_miss = (float)(106.41 / 2.28), store_miss = (float)(106.41 / 2.85);

/* Cycles that L1 takes for a strip. */
static float l1_cycles(const struct sharing *g, const struct traffic *t)
{
    const int64_t stores = g->m_block * amx_parts(g->n_block, g->columns);
    const float sums = (float)(g->m_block * g->n_block);
    const float missed = (float)(stores * amx_whole(g->columns * 2, AMX_LINE));
    const float written = (float)(stores * amx_parts(g->columns, AMX_TILE) * AMX_LINE);
    const float kept = written - missed, read = sums * 4;
    const float turns =
        4 * sums * (float)g->k_blocks / (g->k_block == g->shape->K ? hit : store_miss);
    const float of_sums = missed / store_miss + kept / hit + read / hit + turns;

    return t->next_shared * 2 / load_miss + t->next_shared * (t->reuse - 1) / hit +
           t->inner / load_miss + of_sums;
}

/* Cycles to add the sums of the threads along K; -1: they have no room. */
static float reduce_cycles(const struct sharing *g)
{
    const struct product_shape *s = g->shape;
    const int64_t limit = amx_l2_limit(s), operands = (g->m * g->k + g->n * g->k + g->m * g->n) * 2;
    const float columns = (float)(g->on_m * g->on_n);
    float bytes, written, read;

    if (g->on_k == 1)
        return 0;
    if (g->m * g->n * 4 * 2 >= limit || s->B != 1)
        return -1;
    bytes = (float)(s->M * amx_whole(s->N, AMX_TILE) * 4) * (float)(g->on_k - 1) / columns;
    written = (float)(s->M * s->N * 2) / columns;
    read = operands < limit ? bytes / bandwidth(2) : bytes / last_cache;
    return read + written / bandwidth(1) + 25000;
}

float sharing_score(const struct sharing *g)
{
    const struct product_shape *s = g->shape;
    const struct traffic t = traffic_of(g);
    const struct blocks chunk = {g->n_block, g->k_blocks, g->k_block, 1, 1};
    const float to_first = g->across ? t.first_shared / bandwidth(t.first_readers) : 0;
    const float to_next = !g->across ? t.next_shared / bandwidth(t.next_readers) : 0;
    const float compute = t.products * (float)g->tile_rows, reduce = reduce_cycles(g);
    float memory = t.next_private / bandwidth(1), far = t.next_private / last_cache, next, first;

    if (reduce < 0)
        return 0;
    if (g->across) {
        memory = t.next_shared / bandwidth(t.next_readers) + t.next_private / bandwidth(1);
        far = (t.next_private + t.next_shared) / last_cache;
    }
    next = to_next + greater(greater(greater(memory, far), l1_cycles(g, &t)), compute);
    if (!g->across)
        first = t.first_shared / bandwidth(t.first_readers) + t.first_private / bandwidth(1);
    else
        first = blocks_l2_bytes(g, &chunk) < amx_l2_limit(s) ? next : t.first_shared / last_cache;
    return (float)(s->M * s->K * s->N * s->B) / ((float)(1024 / 2) * (float)s->host->threads) /
           ((to_first + first + (t.strips - 1) * next + reduce) * (float)g->b);
}
