/* sdpa_body.h - scaled_dot_product_attention in vectors, compiled once for each instruction set;
 * sdpa.c is what it must equal.
 *
 * The file that includes it has included a sdpa_pack_*.h and defined:
 *
 *     LANES, ROWS       constants: f32 of a vector, a divisor of 16; rows of a register tile, 4 or 8
 *     VECTOR            the type of a vector
 *     ZERO, ALL(x)      all 0; all x
 *     FOUR(from)        4 f32 at any address, repeated to fill a vector
 *     ADD(a, b), FMA(a, b, c)  a + b; a * b + c, rounded once
 *     FLOATS(from), STORE(to, x)  f32 at any address
 *     WIDEN_LOW(from)   the lower halves of LANES words, which are bf16, as f32
 *     WIDEN_HIGH(from)  the upper ones
 *     DOT(pair, words, sum)  only where there is vdpbf16ps: sum with both products of a pair, the
 *                       lower half's first, denormals flushed; words: LANES pairs, aligned
 *
 * A piece of work is some rows of one group, for some of the query heads that share a key head.  It
 * goes through the blocks of keys once.  Each block is first rearranged in the order in which the loops
 * read it ("packed"), and then used for all rows of the piece, eight at a time.
 *
 * Keys that no row of a tile sees are skipped where that cannot change a bit:
 *   - scores: without a mask they become -inf whatever they were.  With a mask they do if they are
 *     finite; that follows from bounds on |q| and |k|, or else they are computed.
 *   - products with values: the weights of these keys are +0.  Adding them changes a chain only if its
 *     sum is -0 or a value is not finite; both are checked, and the whole chain is computed if so. */
#include "kernels/cpu/sdpa_row.h"

enum {
    TILE = 8,            /* rows that share a pass over a block */
    PIECE_ROWS = 512,    /* most, of all heads */
    PIECE_SUMS = 1 << 15 /* likewise, rows times D */
};

/* The sums of a piece over the blocks so far. */
struct sums {
    int64_t width; /* D, rounded up to whole strips */
    float max[PIECE_ROWS], sum[PIECE_ROWS];
    _Alignas(64) float o[PIECE_SUMS];
};

/* Some rows of one head in one block. */
struct tile {
    int64_t t, rows;
    float *max, *sum, *o;
    const bf16 *query; /* the first row's; the others' lie query_step apart */
    int64_t query_step;
    struct extremes q_size, p_size;
    int64_t from, to; /* keys of the block that a row of the tile sees, or more of them */
    _Alignas(64) float q[TILE * SDPA_WIDEST];
    _Alignas(64) float x[TILE * SDPA_KEYS]; /* scores, then weights */
    /* q and weights in pairs, as the block's */
    uint32_t q_pairs[TILE * SDPA_WIDEST / 2], p_pairs[TILE * BLOCK_PAIRS];
};

#include "kernels/cpu/sdpa_intel.h"

/* Whether a group's rows go one by one. */
static int is_few(const struct sdpa *s, int64_t rows)
{
    if (s->products == SDPA_MKL_AMD)
        return rows < 4;
    return rows == 1 && s->products != SDPA_PACKED;
}

/* Whether the keys of a block are summed in lanes. */
static int in_lanes(const struct sdpa *s, int64_t rows, int64_t N)
{
    if (s->products == SDPA_MKL_AMD)
        return sdpa_in_lanes(rows, N);
    return (rows == 1 || N == 1) && s->products != SDPA_PACKED;
}

/* ---- chains ---- */

/* y[r * y_step + c] = chain over k < n of fma(a[r * step + k], b[k][c]), for TILE rows and a strip
 * of columns. */
static inline void chains(const float *restrict a, int64_t step, const uint32_t *restrict b,
                          int64_t n, float *restrict y, int64_t y_step)
{
    for (int r = 0; r < TILE; r += ROWS)
        for (int c = 0; c < STRIP; c += 2 * LANES) {
            const float *rows = a + r * step;
            const uint32_t *word = b + c;
            VECTOR left[ROWS], right[ROWS];
            int64_t k = 0;

#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++)
                left[i] = right[i] = ZERO;
            for (; k + 1 < n; k += 2, word += STRIP) {
                const VECTOR l0 = WIDEN_HIGH(word), r0 = WIDEN_HIGH(word + LANES);
                const VECTOR l1 = WIDEN_LOW(word), r1 = WIDEN_LOW(word + LANES);

#pragma GCC unroll 8
                for (int i = 0; i < ROWS; i++) {
                    const VECTOR x0 = ALL(rows[i * step + k]), x1 = ALL(rows[i * step + k + 1]);

                    left[i] = FMA(x1, l1, FMA(x0, l0, left[i]));
                    right[i] = FMA(x1, r1, FMA(x0, r0, right[i]));
                }
            }
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++) {
                if (k < n) {
                    left[i] = FMA(ALL(rows[i * step + k]), WIDEN_HIGH(word), left[i]);
                    right[i] = FMA(ALL(rows[i * step + k]), WIDEN_HIGH(word + LANES), right[i]);
                }
                STORE(&y[(r + i) * y_step + c], left[i]);
                STORE(&y[(r + i) * y_step + c + LANES], right[i]);
            }
        }
}

#ifdef DOT
/* The same with pairs: one instruction does both steps of a chain.  It treats denormals as zeros, so it
 * is only for operands that are_far_from_tiny(). */
static inline void chains_of_pairs(const uint32_t *restrict a, int64_t step,
                                   const uint32_t *restrict b, int64_t pairs, float *restrict y,
                                   int64_t y_step)
{
    for (int r = 0; r < TILE; r += ROWS) {
        const uint32_t *rows = a + r * step, *word = b;
        VECTOR left[ROWS], right[ROWS];

#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++)
            left[i] = right[i] = ZERO;
        for (int64_t k = 0; k < pairs; k++, word += STRIP)
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++) {
                left[i] = DOT(rows[i * step + k], word, left[i]);
                right[i] = DOT(rows[i * step + k], word + LANES, right[i]);
            }
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            STORE(&y[(r + i) * y_step], left[i]);
            STORE(&y[(r + i) * y_step + LANES], right[i]);
        }
    }
}
#endif

/* Returns whether no sum of products of these can be denormal.  With e and f the smallest exponents,
 * each product is a multiple of 2^(e + f - 14), and so is every sum, however rounded: if that is 2^-126
 * or more, a sum is zero or at least as large.  The operands may not be denormal themselves. */
static int are_far_from_tiny(const struct extremes *a, const struct extremes *b)
{
    const int e = a->least >> 7, f = b->least >> 7; /* biased by 127 */

    return e && f && e - 127 + f - 127 - 14 >= -126;
}

/* ---- sums in lanes ---- */

/* Computes x = q . k for one row, with keys packed in lanes; rows: how many its group has. */
static void row_in_lanes(const float *q, int64_t D, int64_t rows, const struct block *b,
                         int64_t step, float *x)
{
    const int64_t last = b->N - (rows > 1 && b->N > 1 ? b->N % 4 : 0), line = D / 8 * 16;
    enum { KEYS = 16, VECTORS = 4 * KEYS / LANES };
    _Alignas(64) float s[4 * KEYS];

    for (int64_t first = 0; first < last; first += KEYS) {
        VECTOR sum[VECTORS];

#pragma GCC unroll 16
        for (int i = 0; i < VECTORS; i++)
            sum[i] = ZERO;
        for (int64_t d = 0; d < D; d += 8) {
            const uint32_t *word = b->k + first / 4 * line + d * 2;
            const VECTOR low = FOUR(q + d), high = FOUR(q + d + 4);

#pragma GCC unroll 16
            for (int i = 0; i < VECTORS; i++) {
                const uint32_t *w = word + i * LANES / 16 * line + i * LANES % 16;

                sum[i] = FMA(high, WIDEN_HIGH(w), FMA(low, WIDEN_LOW(w), sum[i]));
            }
        }
#pragma GCC unroll 16
        for (int i = 0; i < VECTORS; i++)
            STORE(s + i * LANES, sum[i]);
        for (int i = 0; i < KEYS; i++)
            x[first + i] = (s[4 * i] + s[4 * i + 2]) + (s[4 * i + 1] + s[4 * i + 3]);
    }
    for (int64_t j = last; j < b->N; j++)
        x[j] = key_in_wide_lanes(q, b->keys + j * step, D);
}

/* Row r of the tile. */
static void lanes_of(const struct sdpa *s, const struct block *b, int64_t rows, struct tile *tile,
                     int64_t r)
{
    const float *q = tile->q + r * SDPA_WIDEST;
    float *x = tile->x + r * SDPA_KEYS;

    if (s->products == SDPA_MKL_AMD)
        row_in_lanes(q, s->width, rows, b, s->call->in[1]->stride[1], x);
    else
        row_in_pair_lanes(s, b, rows, tile->query + r * tile->query_step, q, x);
}

/* ---- one row of a group of few ---- */

static void few_block(const struct sdpa *s, const struct block *b, int64_t rows, struct tile *tile)
{
    int64_t to, from = seen_in(s, b, tile->t, &to);

    lanes_of(s, b, rows, tile, 0);
    row_softmax(s, b, from, to, s->masked, tile->x, tile->max, tile->sum, tile->o);
    if (s->products != SDPA_MKL_AMD) {
        row_times_values_in_eights(s, b, tile->x, tile->o);
        return;
    }
    row_times_values(s, b, rows, tile->x, tile->o);
    if (b->n == 0 || rows > 1)
        clear_minus_zeros(tile->o, s->width);
}

/* ---- eight rows ---- */

/* Returns whether every score is finite before and after it is scaled. */
static int scores_are_finite(const struct sdpa *s, const struct block *b, const struct tile *tile)
{
    const double q = (double)bf16_to_f32((bf16)tile->q_size.most);
    const double k = (double)bf16_to_f32((bf16)b->k_size.most);
    const double scale = fabs((double)s->scale);

    return q * k * (double)s->width * (scale > 1 ? scale : 1) < 0x1p126;
}

/* y = chain over d in [d, d + n) of q . k, for a strip of keys. */
static inline void chain_of_keys(const struct tile *tile, const uint32_t *k, int64_t d, int64_t n,
                                 int paired, float *y, int64_t y_step)
{
#ifdef DOT
    if (paired) {
        chains_of_pairs(tile->q_pairs + d / 2, SDPA_WIDEST / 2, k + d / 2 * STRIP, n / 2, y,
                        y_step);
        return;
    }
#endif
    (void)paired;
    chains(tile->q + d, SDPA_WIDEST, k + d / 2 * STRIP, n, y, y_step);
}

/* Chains over D are even: D is a multiple of 8. */
static void tile_products(const struct sdpa *s, const struct block *b, struct tile *tile,
                          int64_t from, int64_t to)
{
    const int64_t D = s->width, chain = sdpa_chain(D);
    const int paired = are_far_from_tiny(&tile->q_size, &b->k_size);
    _Alignas(64) float sum[TILE * STRIP];

    for (int64_t first = from / STRIP * STRIP; first < to; first += STRIP) {
        const uint32_t *k = b->k + first * D / 2;
        float *x = tile->x + first;

        chain_of_keys(tile, k, 0, chain, paired, x, SDPA_KEYS);
        for (int64_t d = chain; d < D; d += chain) {
            chain_of_keys(tile, k, d, min_i64(chain, D - d), paired, sum, STRIP);
            for (int r = 0; r < TILE; r++)
                for (int c = 0; c < STRIP; c++)
                    x[r * SDPA_KEYS + c] = x[r * SDPA_KEYS + c] + sum[r * STRIP + c];
        }
    }
}

/* A chain of keys [j, end) of the block, whose pairs begin at `pair`. */
struct chain {
    int64_t j, end, pair;
};

/* sum: TILE rows of a strip, over the keys [from, to) of the chain and at most one before. */
static void chain_of_values(const struct tile *tile, const struct chain *c, const uint32_t *v,
                            int64_t from, int64_t to, int paired, float *sum)
{
    const int64_t skipped = from > c->j ? (from - c->j) / 2 : 0, first = c->j + 2 * skipped;

    v += (c->pair + skipped) * STRIP;
#ifdef DOT
    if (paired) {
        chains_of_pairs(tile->p_pairs + c->pair + skipped, BLOCK_PAIRS, v, (to - first + 1) / 2,
                        sum, STRIP);
        return;
    }
#endif
    (void)paired;
    chains(tile->x + first, SDPA_KEYS, v, to - first, sum, STRIP);
}

/* Packs n weights in pairs.  *least: the bits of the smallest magnitude, as f32, minus one. */
static inline void pair_weights(const float *restrict x, int64_t n, uint32_t *restrict pairs,
                                uint32_t *least)
{
    uint32_t low = *least;

    for (int64_t i = 0; i < n / 2; i++) {
        const uint32_t first = f32_bits(x[2 * i]), second = f32_bits(x[2 * i + 1]);

        pairs[i] = (first & 0xffff0000u) | second >> 16;
        low = first - 1 < low ? first - 1 : low;
        low = second - 1 < low ? second - 1 : low;
    }
    if (n % 2) {
        const uint32_t last = f32_bits(x[n - 1]);

        pairs[n / 2] = last & 0xffff0000u;
        low = last - 1 < low ? last - 1 : low;
    }
    *least = low;
}

/* Packs the tile's weights in pairs.  They are positive; a NaN is never the smallest. */
static void tile_weights(const struct block *b, struct tile *tile)
{
    const int64_t chain = sdpa_chain(b->N);
    uint32_t least = 0x7fffffffu;

    for (int r = 0; r < TILE; r++) {
        uint32_t *pairs = tile->p_pairs + r * BLOCK_PAIRS;

        for (int64_t j = 0; j < b->N; j += chain, pairs += (chain + 1) / 2)
            pair_weights(tile->x + r * SDPA_KEYS + j, min_i64(chain, b->N - j), pairs, &least);
    }
    tile->p_size.least = (int)(least >> 16);
}

static int has_minus_zero(const float *sum)
{
    int minus = 0;

    for (int i = 0; i < TILE * STRIP; i++)
        minus |= f32_bits(sum[i]) == 0x80000000u;
    return minus;
}

static void tile_values(const struct block *b, const struct tile *tile, int64_t width)
{
    const int64_t length = sdpa_chain(b->N);
    const int paired = are_far_from_tiny(&tile->p_size, &b->v_size);
    _Alignas(64) float sum[TILE * STRIP];

    for (int64_t d = 0; d < width; d += STRIP) {
        const uint32_t *v = b->v + d * BLOCK_PAIRS;
        struct chain c = {0};

        for (; c.j < b->N; c.j = c.end, c.pair += (length + 1) / 2) {
            int64_t to;

            c.end = min_i64(c.j + length, b->N);
            to = min_i64(c.end, tile->to);
            chain_of_values(tile, &c, v, tile->from, to, paired, sum);
            if (to < c.end && has_minus_zero(sum))
                chain_of_values(tile, &c, v, c.j, c.end, 0, sum);
            for (int r = 0; r < TILE; r++) {
                float *o = tile->o + r * width + d;

                for (int l = 0; l < STRIP; l++)
                    o[l] = o[l] + sum[r * STRIP + l];
            }
        }
    }
}

/* Computes the scores of the tile's rows; returns whether those of unseen keys were computed too. */
static int tile_scores(const struct sdpa *s, const struct block *b, int64_t rows, struct tile *tile)
{
    int all;

    if (in_lanes(s, rows, b->N)) {
        for (int64_t r = 0; r < tile->rows; r++)
            lanes_of(s, b, rows, tile, r);
        return s->masked;
    }
    all = s->masked && !scores_are_finite(s, b, tile);
    if (s->products == SDPA_MKL_AMD)
        tile_products(s, b, tile, all ? 0 : tile->from, all ? b->N : tile->to);
    else
        intel_products(s, b, rows, tile, all ? 0 : tile->from, all ? b->N : tile->to);
    return all;
}

static void many_block(const struct sdpa *s, const struct block *b, int64_t rows, struct tile *tile,
                       int64_t width)
{
    int looked;

    tile->from = seen_in(s, b, tile->t, &tile->to);
    seen_in(s, b, tile->t + tile->rows - 1, &tile->to);
    looked = tile_scores(s, b, rows, tile);
    for (int64_t r = 0; r < tile->rows; r++) {
        int64_t to, from = seen_in(s, b, tile->t + r, &to);

        row_softmax(s, b, from, to, looked, tile->x + r * SDPA_KEYS, tile->max + r, tile->sum + r,
                    tile->o + r * width);
    }
    memset(tile->x + tile->rows * SDPA_KEYS, 0,
           (size_t)((TILE - tile->rows) * SDPA_KEYS) * sizeof(*tile->x));
    if (b->v_size.most >= 0x7f80) {
        tile->from = 0;
        tile->to = b->N;
    }
    if (s->products != SDPA_MKL_AMD) {
        intel_values(s, b, rows, tile, width);
        return;
    }
    tile_weights(b, tile);
    tile_values(b, tile, width);
}

/* ---- pieces ---- */

struct plan {
    struct sdpa s;
    int64_t rows, heads;  /* of a piece, most */
    int64_t tiles, parts; /* pieces of a head, and of the heads that share a key head */
};

/* One piece of work: rows [t, t + rows) of `heads` heads. */
struct piece {
    int64_t t, rows, head, heads;
    int64_t group, group_rows; /* the group of its rows */
};

static struct piece piece_of(const struct plan *plan, int64_t piece)
{
    const struct sdpa *s = &plan->s;
    const int64_t across = s->call->in[1]->shape[0] * plan->parts;
    const int64_t part = piece % plan->parts, g = piece % across / plan->parts;
    struct piece p;

    p.t = (plan->tiles - 1 - piece / across) * plan->rows; /* those with most keys first */
    p.rows = min_i64(plan->rows, s->tokens - p.t);
    p.head = g * s->shared + part * plan->heads;
    p.heads = min_i64(plan->heads, s->shared - part * plan->heads);
    p.group = sdpa_group_of(s, p.t, &p.group_rows);
    return p;
}

/* q of the tile's rows; the others are 0. */
static void tile_queries(const struct sdpa *s, int64_t h, struct tile *tile)
{
    const struct tensor *q = s->call->in[0];
    uint32_t most = 0, least = 0x7ffe; /* less one */

    tile->query = (const bf16 *)q->data + h * q->stride[0] + tile->t * q->stride[1];
    tile->query_step = q->stride[1];
    for (int64_t r = 0; r < TILE; r++) {
        const bf16 *from = tile->query + r * tile->query_step;
        float *to = tile->q + r * SDPA_WIDEST;
        uint32_t *pairs = tile->q_pairs + r * SDPA_WIDEST / 2;

        if (r >= tile->rows) {
            memset(to, 0, (size_t)s->width * sizeof(*to));
            memset(pairs, 0, (size_t)s->width / 2 * sizeof(*pairs));
            continue;
        }
        for (int64_t d = 0; d < s->width; d++) {
            const uint32_t size = from[d] & 0x7fffu;

            to[d] = bf16_to_f32(from[d]);
            most = size > most ? size : most;
            least = size - 1 < least ? size - 1 : least;
        }
        for (int64_t p = 0; p < s->width / 2; p++)
            pairs[p] = (uint32_t)from[2 * p] << 16 | from[2 * p + 1];
    }
    tile->q_size = (struct extremes){(int)most, (int)least + 1};
}

static void piece_block(const struct sdpa *s, const struct piece *p, const struct block *b,
                        struct sums *sums)
{
    const int64_t step = is_few(s, p->group_rows) ? 1 : TILE;
    const int64_t room = (p->rows + step - 1) / step * step;
    struct tile tile;

    for (int64_t h = 0; h < p->heads; h++)
        for (int64_t t = 0; t < p->rows; t += step) {
            const int64_t at = h * room + t;

            tile.t = p->t + t;
            tile.rows = min_i64(step, p->rows - t);
            tile.max = sums->max + at;
            tile.sum = sums->sum + at;
            tile.o = sums->o + at * sums->width;
            tile_queries(s, p->head + h, &tile);
            if (step == 1)
                few_block(s, b, p->group_rows, &tile);
            else
                many_block(s, b, p->group_rows, &tile, sums->width);
        }
}

static void block_open(const struct sdpa *s, const struct piece *p, int64_t n, struct block *b)
{
    const struct tensor *k = s->call->in[1], *v = s->call->in[2];
    const int64_t g = p->head / s->shared;
    int64_t to;

    b->n = n;
    b->N = min_i64(SDPA_KEYS, s->keys - n);
    b->keys = (const bf16 *)k->data + g * k->stride[0] + n * k->stride[1];
    b->values = (const bf16 *)v->data + g * v->stride[0] + n * v->stride[1];
    seen_in(s, b, p->t + p->rows - 1, &to);
    if (!in_lanes(s, p->group_rows, b->N))
        pack_keys(b, k->stride[1], s->width, s->masked ? b->N : to);
    else if (s->products == SDPA_MKL_AMD)
        pack_keys_in_lanes(b, k->stride[1], s->width);
    if (!is_few(s, p->group_rows))
        pack_values(b, values_chain(s, b->N), v->stride[1], s->width);
}

static void piece_finish(const struct sdpa *s, const struct piece *p, const struct sums *sums)
{
    const int64_t step = is_few(s, p->group_rows) ? 1 : TILE;
    const int64_t room = (p->rows + step - 1) / step * step;

    for (int64_t h = 0; h < p->heads; h++)
        for (int64_t t = 0; t < p->rows; t++) {
            const int64_t at = h * room + t;
            const float sum = sums->sum[at], inverse = 1.0f / (sum == 0.0f ? 1.0f : sum);
            const float *o = sums->o + at * sums->width;
            bf16 *y = cpu_row(s->call->out, p->t + t) + (p->head + h) * s->width;

            for (int64_t d = 0; d < s->width; d++)
                y[d] = finish_round(o[d] * inverse);
        }
}

static void sdpa_piece(const void *work, int64_t piece)
{
    const struct plan *plan = work;
    const struct sdpa *s = &plan->s;
    const struct piece p = piece_of(plan, piece);
    const int64_t end = sdpa_group_keys(s, p.group, p.group_rows);
    struct block b;
    struct sums sums;

    sums.width = (s->width + STRIP - 1) / STRIP * STRIP;
    for (int64_t i = 0; i < PIECE_ROWS; i++) {
        sums.max[i] = -INFINITY;
        sums.sum[i] = 0.0f;
    }
    memset(sums.o, 0, (size_t)(plan->rows * p.heads * sums.width) * sizeof(float));
    for (int64_t n = 0; n < end; n += SDPA_KEYS) {
        block_open(s, &p, n, &b);
        piece_block(s, &p, &b, &sums);
    }
    piece_finish(s, &p, &sums);
}

/* Chooses pieces so large that packing is cheap in comparison, but enough of them for all threads. */
static struct plan plan_of(const struct op_call *call)
{
    struct plan plan = {.s = sdpa_of(call)};
    const struct sdpa *s = &plan.s;
    const int64_t width = (s->width + STRIP - 1) / STRIP * STRIP, G = call->in[1]->shape[0];

    plan.rows = s->shared < 3 && s->group > 32 ? 64 : 32;
    plan.tiles = cpu_pieces(s->tokens, plan.rows);
    plan.heads = min_i64(s->shared, PIECE_SUMS / (width * plan.rows));
    plan.heads = min_i64(plan.heads, PIECE_ROWS / plan.rows);
    while (plan.heads > 1 &&
           plan.tiles * G * cpu_pieces(s->shared, plan.heads) < 2 * call->backend->threads)
        plan.heads = (plan.heads + 1) / 2;
    plan.parts = cpu_pieces(s->shared, plan.heads);
    return plan;
}

static int sdpa_run(const struct op_call *call)
{
    const struct plan plan = plan_of(call);

    cpu_run(call, sdpa_piece, &plan, plan.tiles * call->in[1]->shape[0] * plan.parts);
    return 0;
}
