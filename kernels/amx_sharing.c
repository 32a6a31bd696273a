/* amx_sharing.c - see amx_sharing.h: sharings, their blocks, and the best of them. */
#include "kernels/amx_sharing.h"

#include "kernels/amx_units.h"
#include "kernels/base/integer.h"

void sharing_among(struct sharing *g, int64_t on_b, int64_t on_m, int64_t on_k, int64_t on_n)
{
    const struct product_shape *s = g->shape;

    g->on_b = on_b;
    g->on_m = on_m;
    g->on_k = on_k;
    g->on_n = on_n;
    g->b = amx_parts(s->B, on_b);
    g->m = amx_parts(s->M, on_m);
    g->k = amx_parts(s->K, on_k);
    g->n = amx_parts(s->N, on_n);
}

void sharing_set_tiles(struct sharing *g)
{
    const struct product_shape *s = g->shape;

    g->tile_rows = amx_parts(g->m, amx_parts(g->m, AMX_TILE));
    g->tile_k = min_i64(AMX_TILE_K, s->K);
    g->rows = min_i64(s->M, 2 * g->tile_rows);
    g->columns = min_i64(s->N, 2 * AMX_TILE);
}

/* Elements of k in a block whose strip of `strip` rows or columns fits in L1, evened out. */
static int64_t block_for_l1(const struct sharing *g, int64_t strip)
{
    const struct product_shape *s = g->shape;
    const int64_t used =
        2 * g->rows * g->columns * 4 + g->rows * amx_whole(g->columns * 2, AMX_LINE);
    const int64_t room = (amx_l1_limit(s) - used) / (strip * 2) / g->tile_k;
    const int64_t mine = amx_parts(amx_parts(s->K, g->tile_k), g->on_k);

    return min_i64(amx_parts(mine, amx_parts(mine, room)) * g->tile_k, s->K);
}

static int64_t span_of(const struct sharing *g, const struct blocks *c)
{
    return min_i64(c->block * c->depth, g->k);
}

int64_t blocks_l2_bytes(const struct sharing *g, const struct blocks *c)
{
    const int64_t own = c->across ? g->rows : g->columns, span = span_of(g, c);
    int64_t bytes = 2 * own * span * 2 + c->side * span * 2;

    if (c->copied)
        bytes += c->side * c->block * c->depth * 2;
    bytes += c->across ? 2 * g->rows * amx_whole(c->side * 2, AMX_LINE)
                       : 2 * amx_whole(g->columns * 2, AMX_LINE) * c->side;
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
    const int64_t limit = amx_l2_limit(g->shape), k = span_of(g, c);
    const int64_t m = c->across ? g->rows : c->side, n = c->across ? c->side : g->columns;
    const int keeps = (l2_bytes_with_sums(g, c) < limit || k == g->shape->K) && g->on_k == 1;

    if (blocks_l2_bytes(g, c) > limit)
        return 0;
    return (float)(int32_t)(m * k * n) /
           (float)(int32_t)(m * k * 2 + n * k * 2 + (keeps ? 0 : m * n * 4));
}

/* After `group` of `blocks`: the next smaller size that cuts them into equal groups; 0: none. */
static int64_t next_group(int64_t blocks, int64_t group)
{
    return group == 1 ? 0 : amx_parts(blocks, amx_parts(blocks, group - 1));
}

/* Sets the groups of blocks, `depth` of at least `at_least`, that move least; 0: none fits.
 * side becomes blocks, not elements. */
static int best_groups(const struct sharing *g, struct blocks *c, int64_t at_least)
{
    const int64_t length = c->across ? g->columns : g->rows;
    const int64_t sides = amx_parts(c->across ? g->n : g->m, length);
    const int64_t depths = amx_parts(g->k, c->block);
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

/* ---- blocks of a sharing ---- */

/* Whether a thread of so many would have nothing of `all` to do, in whole blocks. */
static int leaves_idle(int64_t part, int64_t block, int64_t threads, int64_t all)
{
    return amx_whole(part, block) * (threads - 1) >= all;
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
    const int64_t way = host->l2_sets * AMX_LINE, row = g->shape->N * 2 % 4096;
    const int64_t stride = row ? row : 4096;

    return way % stride == 0 && amx_parts(stride * g->m, way) >= 3 * host->l2_ways / 4;
}

static int fits_down(const struct sharing *g, struct blocks *c)
{
    const struct product_shape *s = g->shape;
    const int64_t limit = amx_l2_limit(s);
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
        bytes = blocks_l2_bytes(g, &rows);
    turns = amx_parts(s->K, c->block * c->depth);
    return (turns == 1 || (turns == g->on_k && bytes * g->on_k < limit)) && !rows_collide(g);
}

/* Blocks for rows outermost.  Where their strips of several blocks of k do not fit in L1 together, k
 * is cut for L2 alone. */
static void set_across(struct sharing *g, struct blocks c)
{
    const struct product_shape *s = g->shape;
    const int64_t strips = amx_parts(s->K, c.block) * c.block * g->rows * 2;
    const int64_t sums =
        2 * g->columns * g->rows * 4 + g->rows * amx_whole(g->columns * 2, AMX_LINE);

    g->spares_l1 = c.block < s->K && strips + sums > amx_l1_limit(s);
    if (g->spares_l1) {
        struct blocks deep = c;

        deep.block = AMX_TILE_K;
        deep.side = 0;
        best_groups(g, &deep, c.block / AMX_TILE_K);
        c.side = deep.side;
        c.block = min_i64(AMX_TILE_K * deep.depth, s->K);
        c.depth = 1;
    }
    g->k_block = c.block;
    g->k_blocks = c.depth;
    g->n_block = min_i64(c.side * g->columns, s->N);
    g->n_blocks = 1;
    g->m_block = g->rows;
    g->m_blocks = amx_parts(g->m, g->m_block);
}

static void set_down(struct sharing *g, const struct blocks *c)
{
    g->spares_l1 = 1;
    g->k_block = c->block;
    g->k_blocks = c->depth;
    g->n_block = g->columns;
    g->n_blocks = amx_parts(g->n, g->n_block);
    g->m_block = min_i64(c->side * g->rows, g->shape->M);
    g->m_blocks = 1;
}

enum direction { EITHER, ACROSS };

/* Sets blocks and score; 0: the sharing cannot be had. */
static int sharing_set_blocks(struct sharing *g, enum direction direction, int copied)
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
                : g->n < 2 * AMX_TILE     ? 0
                                          : g->m >= g->n;
    if (g->across)
        set_across(g, across);
    else
        set_down(g, &down);
    g->score = sharing_score(g);
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
    if (down->m * x->shape->K + down->m * x->shape->N < amx_l2_limit(x->shape) && across->spares_l1)
        return !x->across;
    return x->across;
}

/* Whether no thread's part is too small for its tiles. */
static int is_sensible(const struct sharing *g)
{
    const int64_t columns = g->on_k == 1 && g->k < 128 ? 128 : 32;

    return !(g->on_m > 1 && amx_whole(g->m, g->tile_rows) < 32) && !(g->on_k > 1 && g->k < 128) &&
           !(g->on_n > 1 && amx_whole(g->n, AMX_TILE) < columns) && g->on_b <= g->shape->B;
}

static void try_sharing(struct sharing *best, int64_t on_b, int64_t on_m, int64_t on_k,
                        int64_t on_n)
{
    struct sharing g = {.shape = best->shape};

    sharing_among(&g, on_b, on_m, on_k, on_n);
    sharing_set_tiles(&g);
    if (is_sensible(&g) && sharing_set_blocks(&g, EITHER, 0) && is_better(&g, best))
        *best = g;
}

/* The right operand of PV is copied: rows outermost get two more chances. */
static void try_copied(struct sharing *best)
{
    struct sharing g = {.shape = best->shape};

    sharing_among(&g, 1, 1, 1, 1); /* the tiles are those of one thread */
    sharing_set_tiles(&g);
    sharing_among(&g, best->on_b, best->on_m, best->on_k, best->on_n);
    for (int copied = 0; copied < 2; copied++)
        if (sharing_set_blocks(&g, ACROSS, copied) && is_better(&g, best))
            *best = g;
}

void sharing_search(struct sharing *best)
{
    for (int64_t t = best->shape->host->threads; t > 0; t--)
        for (int64_t b = 1; b <= t; b++)
            for (int64_t m = 1; t % b == 0 && m <= t / b; m++)
                for (int64_t k = 1; t / b % m == 0 && k <= t / b / m; k++)
                    if (t / b / m % k == 0)
                        try_sharing(best, b, m, k, t / b / m / k);
    if (!amx_k_is_inner(best->shape) && !best->across)
        try_copied(best);
}
