/* amx_plan.c - see amx_plan.h.
 *
 * Several rows: all ways to share a product among the threads are tried; each gets the blocks that
 * fit the caches best and a score, an estimate of cycles.  One row: a search of its own.  Scores are
 * binary32 where oneDNN's are, in its order, since a tie decides about bits. */
#include "kernels/amx_plan.h"

#include <math.h>
#include <string.h>

#include "kernels/base/integer.h"

enum {
    TILE = 16,        /* rows, and columns, of a tile */
    TILE_K = 32,      /* elements of k of a tile */
    LINE = 64,        /* bytes of a cache line */
    STEPS_EVEN = 128, /* elements of k of a block that a copied operand is cut for */
};

static float greater(float a, float b)
{
    return a < b ? b : a;
}

/* a / b, up. */
static int64_t parts_of(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* a, up to a multiple of b. */
static int64_t whole(int64_t a, int64_t b)
{
    return parts_of(a, b) * b;
}

/* What oneDNN allows itself of a core's caches, in bytes. */
static int64_t l1_limit(const struct product_shape *s)
{
    return 5 * s->host->l1 / 6;
}

static int64_t l2_limit(const struct product_shape *s)
{
    return 3 * s->host->l2 / 4;
}

/* Whether the right operand is contiguous in k. */
static int k_is_inner(const struct product_shape *s)
{
    return s->use != PRODUCT_OF_PV;
}

/* ---- several rows: one way to share the work ---- */

struct sharing {
    const struct product_shape *shape;
    int64_t on_b, on_m, on_k, on_n;       /* threads along B, M, K, N */
    int64_t b, m, k, n;                   /* of a thread, most */
    int64_t tile_rows, tile_k;            /* of a tile */
    int64_t rows, columns;                /* of a group of 2 x 2 tiles */
    int across;                           /* 1: rows outermost, the right operand stays in L2;
                                            0: columns outermost, the left one does */
    int spares_l1;                        /* K is not cut to fit into L1 */
    int64_t m_block, n_block, k_block;    /* elements of a block */
    int64_t m_blocks, n_blocks, k_blocks; /* blocks of a chunk */
    float score;
};

/* Among so many threads along each axis. */
static void share(struct sharing *g, int64_t on_b, int64_t on_m, int64_t on_k, int64_t on_n)
{
    const struct product_shape *s = g->shape;

    g->on_b = on_b;
    g->on_m = on_m;
    g->on_k = on_k;
    g->on_n = on_n;
    g->b = parts_of(s->B, on_b);
    g->m = parts_of(s->M, on_m);
    g->k = parts_of(s->K, on_k);
    g->n = parts_of(s->N, on_n);
}

static void set_tiles(struct sharing *g)
{
    const struct product_shape *s = g->shape;

    g->tile_rows = parts_of(g->m, parts_of(g->m, TILE));
    g->tile_k = min_i64(TILE_K, s->K);
    g->rows = min_i64(s->M, 2 * g->tile_rows);
    g->columns = min_i64(s->N, 2 * TILE);
}

/* Elements of k in a block whose strip of `strip` rows or columns fits in L1, evened out. */
static int64_t block_for_l1(const struct sharing *g, int64_t strip)
{
    const struct product_shape *s = g->shape;
    const int64_t used = 2 * g->rows * g->columns * 4 + g->rows * whole(g->columns * 2, LINE);
    const int64_t room = (l1_limit(s) - used) / (strip * 2) / g->tile_k;
    const int64_t mine = parts_of(parts_of(s->K, g->tile_k), g->on_k);

    return min_i64(parts_of(mine, parts_of(mine, room)) * g->tile_k, s->K);
}

/* A choice of blocks: `side` columns (across) or rows (down), `depth` blocks of `block` k. */
struct blocks {
    int64_t side, depth, block;
    int across, copied; /* copied: the right operand is, in chunks */
};

static int64_t span_of(const struct sharing *g, const struct blocks *c)
{
    return min_i64(c->block * c->depth, g->k);
}

/* Bytes of L2 that they take. */
static int64_t l2_bytes(const struct sharing *g, const struct blocks *c)
{
    const int64_t own = c->across ? g->rows : g->columns, span = span_of(g, c);
    int64_t bytes = 2 * own * span * 2 + c->side * span * 2;

    if (c->copied)
        bytes += c->side * c->block * c->depth * 2;
    bytes += c->across ? 2 * g->rows * whole(c->side * 2, LINE)
                       : 2 * whole(g->columns * 2, LINE) * c->side;
    bytes += c->block == g->shape->K ? 2 * g->rows * g->columns * 4 : 2 * own * c->side * 4;
    return bytes;
}

/* The same with all sums of the thread. */
static int64_t l2_bytes_with_sums(const struct sharing *g, const struct blocks *c)
{
    const int64_t own = c->across ? g->m : g->n, span = span_of(g, c);

    return 2 * own * span * 2 + 2 * c->side * span * 2 + own * c->side * 4;
}

/* Multiply-adds for each byte that is moved; 0: they do not fit. */
static float intensity(const struct sharing *g, const struct blocks *c)
{
    const int64_t limit = l2_limit(g->shape), k = span_of(g, c);
    const int64_t m = c->across ? g->rows : c->side, n = c->across ? c->side : g->columns;
    const int keeps = (l2_bytes_with_sums(g, c) < limit || k == g->shape->K) && g->on_k == 1;

    if (l2_bytes(g, c) > limit)
        return 0;
    return (float)(int32_t)(m * k * n) /
           (float)(int32_t)(m * k * 2 + n * k * 2 + (keeps ? 0 : m * n * 4));
}

/* After `group` of `blocks`: the next smaller size that cuts them into equal groups; 0: none. */
static int64_t next_group(int64_t blocks, int64_t group)
{
    return group == 1 ? 0 : parts_of(blocks, parts_of(blocks, group - 1));
}

/* Sets the groups of blocks, `depth` of at least `at_least`, that move least; 0: none fits.
 * side becomes blocks, not elements. */
static int best_groups(const struct sharing *g, struct blocks *c, int64_t at_least)
{
    const int64_t length = c->across ? g->columns : g->rows;
    const int64_t sides = parts_of(c->across ? g->n : g->m, length);
    const int64_t depths = parts_of(g->k, c->block);
    struct blocks try = *c;
    float top = 0;

    for (int64_t side = sides; side; side = next_group(sides, side))
        for (int64_t depth = depths; depth; depth = next_group(depths, depth)) {
            float value;

            try.side = side * length;
            try.depth = depth;
            value = intensity(g, &try);
            if (value > top && depth >= at_least) {
                top = value;
                c->side = side;
                c->depth = depth;
            }
        }
    return top > 0;
}

/* ---- the score ---- */

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
    const int64_t tile = g->tile_rows * g->tile_k * TILE, sum = g->on_k == 1 ? 2 : 4;
    const int64_t strip = g->across ? g->rows : g->columns, along = g->across ? g->n : g->m;
    const int64_t inner = along * g->k * 2, sums = strip * along * sum;

    return (struct traffic){
        .strips = (float)parts_of(g->across ? g->m : g->n, strip),
        .products = (float)(strip * g->k * along / tile),
        .first_shared = (float)inner,
        .first_private = (float)(strip * g->k * 2 + sums),
        .first_readers = (float)(g->across ? g->on_m : g->on_n),
        .next_shared = (float)(strip * g->k * 2),
        .next_private = (float)sums,
        .next_readers = (float)max_i64(1, g->across ? g->on_n : g->on_m),
        .inner = (float)inner,
        .reuse =
            (float)(g->across ? parts_of(g->n_block, g->columns) : parts_of(g->m_block, g->rows)),
    };
}

/* Bytes a cycle of L1: hits, and misses of loads and stores; of the last cache. */
static const float hit = 106.41f, last_cache = 6.0f;
static const float load_miss = (float)(106.41 / 2.28), store_miss = (float)(106.41 / 2.85);

/* Cycles that L1 takes for a strip. */
static float l1_cycles(const struct sharing *g, const struct traffic *t)
{
    const int64_t stores = g->m_block * parts_of(g->n_block, g->columns);
    const float sums = (float)(g->m_block * g->n_block);
    const float missed = (float)(stores * whole(g->columns * 2, LINE));
    const float written = (float)(stores * parts_of(g->columns, TILE) * LINE);
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
    const int64_t limit = l2_limit(s), operands = (g->m * g->k + g->n * g->k + g->m * g->n) * 2;
    const float columns = (float)(g->on_m * g->on_n);
    float bytes, written, read;

    if (g->on_k == 1)
        return 0;
    if (g->m * g->n * 4 * 2 >= limit || s->B != 1)
        return -1;
    bytes = (float)(s->M * whole(s->N, TILE) * 4) * (float)(g->on_k - 1) / columns;
    written = (float)(s->M * s->N * 2) / columns;
    read = operands < limit ? bytes / bandwidth(2) : bytes / last_cache;
    return read + written / bandwidth(1) + 25000;
}

/* The share of the peak that it should reach. */
static float score_of(const struct sharing *g)
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
        first = l2_bytes(g, &chunk) < l2_limit(s) ? next : t.first_shared / last_cache;
    return (float)(s->M * s->K * s->N * s->B) / ((float)(1024 / 2) * (float)s->host->threads) /
           ((to_first + first + (t.strips - 1) * next + reduce) * (float)g->b);
}

/* ---- blocks of a sharing ---- */

/* Whether a thread of so many would have nothing of `all` to do, in whole blocks. */
static int leaves_idle(int64_t part, int64_t block, int64_t threads, int64_t all)
{
    return whole(part, block) * (threads - 1) >= all;
}

static int fits_across(const struct sharing *g, struct blocks *c)
{
    const struct product_shape *s = g->shape;

    return !leaves_idle(g->m, g->rows, g->on_m, s->M) &&
           !leaves_idle(g->k, c->block, g->on_k, s->K) && best_groups(g, c, 0) &&
           !leaves_idle(g->n, c->side * g->columns, g->on_n, s->N) &&
           !leaves_idle(g->k, c->depth * c->block, g->on_k, s->K);
}

/* Whether rows of the result fall on so few sets of L2 that they push each other out. */
static int rows_collide(const struct sharing *g)
{
    const struct torch_host *host = g->shape->host;
    const int64_t way = host->l2_sets * LINE, row = g->shape->N * 2 % 4096;
    const int64_t stride = row ? row : 4096;

    return way % stride == 0 && parts_of(stride * g->m, way) >= 3 * host->l2_ways / 4;
}

static int fits_down(const struct sharing *g, struct blocks *c)
{
    const struct product_shape *s = g->shape;
    const int64_t limit = l2_limit(s);
    struct blocks rows;
    int64_t bytes, turns;

    if (leaves_idle(g->n, g->columns, g->on_n, s->N) ||
        leaves_idle(g->k, c->block, g->on_k, s->K) || !best_groups(g, c, 0) ||
        leaves_idle(g->m, c->side * g->rows, g->on_m, s->M) ||
        leaves_idle(g->k, c->depth * c->block, g->on_k, s->K))
        return 0;
    rows = *c;
    rows.side *= g->rows;
    bytes = l2_bytes_with_sums(g, &rows);
    if (bytes > limit)
        bytes = l2_bytes(g, &rows);
    turns = parts_of(s->K, c->block * c->depth);
    return (turns == 1 || (turns == g->on_k && bytes * g->on_k < limit)) && !rows_collide(g);
}

/* Blocks for rows outermost.  Where their strips of several blocks of k do not fit in L1 together, k
 * is cut for L2 alone. */
static void set_across(struct sharing *g, struct blocks c)
{
    const struct product_shape *s = g->shape;
    const int64_t strips = parts_of(s->K, c.block) * c.block * g->rows * 2;
    const int64_t sums = 2 * g->columns * g->rows * 4 + g->rows * whole(g->columns * 2, LINE);

    g->spares_l1 = c.block < s->K && strips + sums > l1_limit(s);
    if (g->spares_l1) {
        struct blocks deep = c;

        deep.block = TILE_K;
        deep.side = 0;
        best_groups(g, &deep, c.block / TILE_K);
        c.side = deep.side;
        c.block = min_i64(TILE_K * deep.depth, s->K);
        c.depth = 1;
    }
    g->k_block = c.block;
    g->k_blocks = c.depth;
    g->n_block = min_i64(c.side * g->columns, s->N);
    g->n_blocks = 1;
    g->m_block = g->rows;
    g->m_blocks = parts_of(g->m, g->m_block);
}

static void set_down(struct sharing *g, const struct blocks *c)
{
    g->spares_l1 = 1;
    g->k_block = c->block;
    g->k_blocks = c->depth;
    g->n_block = g->columns;
    g->n_blocks = parts_of(g->n, g->n_block);
    g->m_block = min_i64(c->side * g->rows, g->shape->M);
    g->m_blocks = 1;
}

enum direction { EITHER, ACROSS };

/* Sets blocks and score; 0: the sharing cannot be had. */
static int set_blocks(struct sharing *g, enum direction direction, int copied)
{
    struct blocks across = {0, 0, block_for_l1(g, g->rows), 1, copied};
    struct blocks down = {0, 0, block_for_l1(g, g->columns), 0, 0};
    const int can_across = fits_across(g, &across);
    const int can_down = direction == EITHER && fits_down(g, &down);

    if (!can_across && !can_down)
        return 0;
    g->across = !can_across               ? 0
                : !can_down               ? 1
                : g->m < 2 * g->tile_rows ? 1
                : g->n < 2 * TILE         ? 0
                                          : g->m >= g->n;
    if (g->across)
        set_across(g, across);
    else
        set_down(g, &down);
    g->score = score_of(g);
    return 1;
}

/* ---- the best of all sharings ---- */

static int is_better(const struct sharing *x, const struct sharing *y)
{
    const struct sharing *across = x->across ? x : y, *down = x->across ? y : x;

    if (x->score != y->score)
        return x->score > y->score;
    if (x->across == y->across)
        return x->m_blocks * x->n_blocks > y->m_blocks * y->n_blocks;
    if (down->m * x->shape->K + down->m * x->shape->N < l2_limit(x->shape) && across->spares_l1)
        return !x->across;
    return x->across;
}

/* Whether no thread's part is too small for its tiles. */
static int is_sensible(const struct sharing *g)
{
    const int64_t columns = g->on_k == 1 && g->k < 128 ? 128 : 32;

    return !(g->on_m > 1 && whole(g->m, g->tile_rows) < 32) && !(g->on_k > 1 && g->k < 128) &&
           !(g->on_n > 1 && whole(g->n, TILE) < columns) && g->on_b <= g->shape->B;
}

static void try_sharing(struct sharing *best, int64_t on_b, int64_t on_m, int64_t on_k,
                        int64_t on_n)
{
    struct sharing g = {.shape = best->shape};

    share(&g, on_b, on_m, on_k, on_n);
    set_tiles(&g);
    if (is_sensible(&g) && set_blocks(&g, EITHER, 0) && is_better(&g, best))
        *best = g;
}

/* The right operand of PV is copied: rows outermost get two more chances. */
static void try_copied(struct sharing *best)
{
    struct sharing g = {.shape = best->shape};

    share(&g, 1, 1, 1, 1); /* the tiles are those of one thread */
    set_tiles(&g);
    share(&g, best->on_b, best->on_m, best->on_k, best->on_n);
    for (int copied = 0; copied < 2; copied++)
        if (set_blocks(&g, ACROSS, copied) && is_better(&g, best))
            *best = g;
}

static void search_sharings(struct sharing *best)
{
    for (int64_t t = best->shape->host->threads; t > 0; t--)
        for (int64_t b = 1; b <= t; b++)
            for (int64_t m = 1; t % b == 0 && m <= t / b; m++)
                for (int64_t k = 1; t / b % m == 0 && k <= t / b / m; k++)
                    if (t / b / m % k == 0)
                        try_sharing(best, b, m, k, t / b / m / k);
    if (!k_is_inner(best->shape) && !best->across)
        try_copied(best);
}

/* Few rows, a short K, or few columns: the large operand is read once and K is not cut, if three
 * quarters of the threads have something to do.  Sets rows of a block. */
static int is_short(const struct product_shape *s, int64_t *m_block)
{
    const int64_t threads = s->host->threads;
    const float enough = 0.75f * (float)threads;
    int64_t m, rows;

    if (s->B != 1)
        return 0;
    if (s->M <= 32 && k_is_inner(s)) {
        const int64_t columns = whole(parts_of(s->N, threads), min_i64(s->N, 32));

        *m_block = s->M;
        return (float)parts_of(s->N, columns) >= enough && s->M * s->K <= l2_limit(s);
    }
    m = parts_of(s->M, threads);
    if (s->K <= 32) {
        struct sharing g = {.shape = s};

        share(&g, 1, parts_of(s->M, m), 1, 1);
        set_tiles(&g);
        *m_block = g.rows;
        return (float)g.on_m >= enough;
    }
    if (s->N > 32)
        return 0;
    rows = parts_of(m, parts_of(m, 32));
    *m_block = rows;
    return (float)parts_of(s->M, whole(m, rows)) >= enough;
}

/* Whether a block of so many can be cut into as few steps as 32s would be, all even and alike. */
static int has_even_steps(int64_t k)
{
    const int64_t steps = parts_of(k, TILE_K);

    return k % steps == 0 && k / steps <= TILE_K && k / steps % 2 == 0;
}

/* A few bytes are left to AVX512_BF16. */
static int is_small(int64_t rows, int64_t K)
{
    return 2 * rows * K <= 126;
}

static int plan_rows(const struct product_shape *s, struct amx_plan *p)
{
    struct sharing best = {.shape = s};
    int64_t m_block = 0, tail;
    int copied = 0;

    if (is_short(s, &m_block)) {
        *p = (struct amx_plan){.block = s->K, .chunk = s->K, .parts = 1};
    } else {
        search_sharings(&best);
        if (best.score == 0)
            return 0;
        m_block = best.m_block;
        *p = (struct amx_plan){best.k_block, best.k_block * best.k_blocks, best.on_k, 0, 0};
        copied = best.across && s->K % TILE_K && best.n_block >= 3 * best.columns &&
                 best.k_block >= STEPS_EVEN;
    }
    tail = s->K % p->block;
    p->even = !copied && (s->K % TILE_K == 0 ||
                          (has_even_steps(p->block) && (tail == 0 || has_even_steps(tail))));
    p->small = is_small(m_block, s->K);
    return 1;
}

/* ---- one row ---- */

/* Where K goes, for `on_k` threads along it and `columns` columns at a time. */
struct row {
    const struct product_shape *shape;
    int64_t m_block, n_block; /* rows, columns of a block */
    int64_t on_k, columns;
    int64_t k_block, k_blocks; /* elements of a block, blocks of a chunk */
    int64_t block;             /* elements of a chunk: what sums are cut into */
    int copied;                /* the left operand is */
};

static int keeps_sums(const struct row *r, int64_t span)
{
    const int64_t K = r->shape->K;

    return (r->on_k > 1 && K > span) || K > span || K % r->k_block > 0;
}

/* Bytes that a chunk takes of L2. */
static int64_t row_bytes(const struct row *r)
{
    const int64_t span = r->k_block * r->k_blocks, m = r->m_block, n = r->columns;

    return 2 * span * m + 2 * span * n + 2 * r->n_block * span + 2 * m * n +
           (keeps_sums(r, span) ? 4 * m * n : 0);
}

/* Blocks of a chunk, of which a thread has `mine` in all, if it takes so many bytes: as many as fit,
 * but preferably without one left over. */
static int64_t row_blocks(const struct row *r, int64_t mine, int64_t bytes)
{
    const int64_t K = r->shape->K, limit = l2_limit(r->shape), times = bytes / limit;
    const int64_t spared = K >= 4096 && !(K & (K - 1)) ? 2 : 0;
    int64_t many, few;

    if (times <= spared || r->k_blocks <= 1)
        return r->k_blocks;
    many = max_i64(r->k_blocks / times, 1);
    few = parts_of(r->k_blocks, parts_of(bytes, limit));
    return !(mine % many == 0 || mine % few < mine % many) || mine % few == 0 ? few : many;
}

/* Cuts K; r->copied says whether the left operand was copied for the choice before. */
static void row_cut(struct row *r)
{
    const int64_t K = r->shape->K;
    int64_t mine, line, bytes, tail;
    int extends;

    r->k_blocks = 1;
    if (K < TILE_K) {
        r->block = r->k_block = whole(K, 2);
        r->copied = K % 2 != 0;
        return;
    }
    r->k_block = min_i64(whole(parts_of(K, r->on_k), 2), TILE_K);
    mine = r->k_blocks = parts_of(parts_of(K, r->k_block), r->on_k);
    line = !r->copied ? K
                      : whole(r->k_block, TILE_K) +
                            (r->k_block >= 512 && !(r->k_block & (r->k_block - 1)) ? TILE_K : 0);
    bytes = row_bytes(r) + (r->copied ? 2 * line * r->k_blocks * r->m_block : 0);
    r->k_blocks = row_blocks(r, mine, bytes);
    r->block = r->k_block * r->k_blocks;
    tail = K % r->k_block;
    extends = K % TILE_K && r->block > TILE_K && line == K;
    if (extends || (tail == 0 && K % r->block == 0)) {
        r->k_block = min_i64(r->block, K);
        r->k_blocks = 1;
    } else if (r->on_k == 1 && K == r->block + tail) {
        r->k_block = r->block;
        r->k_blocks = 2;
    }
    r->copied = !extends && K % 2 != 0;
}

static float row_score(const struct row *r)
{
    const struct product_shape *s = r->shape;
    const int64_t limit = l2_limit(s), size = row_bytes(r), threads = s->host->threads;
    const int64_t span = r->k_block * r->k_blocks, along = threads / r->on_k;
    const int64_t m_block = r->m_block, columns = r->columns;
    const float of = threads < 100 ? (float)threads : 100, balance = (of - 1.0f) / of;
    const float l2 = 1.0f - fabsf((float)limit - (float)size) / (float)max_i64(limit, size);
    const float fill_m = fminf((float)m_block / (float)min_i64(s->M, 256), 1);
    const float fill_n = fminf((float)columns / (float)min_i64(s->N, 64 * (r->copied ? 4 : 1)), 1);
    float score = 1.0f / of * l2 + 0.5f * (fill_m + fill_n), even_mn, even_k = 1;

    if (balance > 0) {
        const int64_t pieces = s->B * parts_of(s->M, m_block) * parts_of(s->N, columns);

        even_mn = (float)s->B * ((float)s->M / (float)m_block) * ((float)s->N / (float)columns) /
                  (float)whole(pieces, along) * (float)along;
        if (r->on_k > 1)
            even_k = 0.8f * ((float)s->K / (float)span) /
                     (float)whole(parts_of(s->K, span), r->on_k) * (float)r->on_k;
        score += balance * (even_mn * even_k / (float)threads);
    }
    return score / (1.0f + balance + 1.0f / of);
}

/* Whether the pieces leave threads idle that fewer columns at a time would not. */
static int row_is_uneven(const struct row *r, int64_t on_k_most)
{
    const struct product_shape *s = r->shape;
    const int64_t along = s->host->threads / r->on_k;
    const int64_t pieces = s->B * parts_of(s->M, r->m_block) * parts_of(s->N, r->columns);

    return pieces < along * 3 && pieces % along != 0 && on_k_most == 1 && s->M != 4;
}

/* One row, or rows that no sharing fits. */
static void plan_row(const struct product_shape *s, struct amx_plan *p)
{
    const int64_t n_block = min_i64(64, s->N), blocks = parts_of(s->N, n_block);
    const int64_t deep = parts_of(s->K, 1024), threads = s->host->threads;
    const int64_t on_k_most = s->B == 1 ? min_i64(max_i64(1, min_i64(7, threads / 8)), deep) : 1;
    struct row r = {.shape = s, .m_block = min_i64(s->M, 64), .n_block = n_block};
    float top = 0;

    *p = (struct amx_plan){0};
    for (r.on_k = 1; r.on_k <= on_k_most; r.on_k++) {
        const int64_t work = s->B * blocks * min_i64(deep, r.on_k);
        const int64_t wide = min_i64(work > 16 * threads ? 6 : 4, blocks);
        int found = 0;

        /* After all widths: where none was taken, single blocks of columns, whatever is uneven. */
        for (int64_t width = wide; width >= 0 && !(width == 0 && found); width--) {
            float score;

            r.columns = n_block * max_i64(width, 1);
            row_cut(&r);
            score = row_score(&r);
            if ((width && row_is_uneven(&r, on_k_most)) || score <= top)
                continue;
            top = score;
            found = width > 0;
            *p = (struct amx_plan){r.block, r.block, r.on_k, 0, is_small(r.m_block, s->K)};
        }
    }
}

/* ---- all products ---- */

struct amx_plan amx_plan_search(const struct product_shape *shape)
{
    struct amx_plan p;

    if (shape->M < 2 || !plan_rows(shape, &p))
        plan_row(shape, &p);
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
