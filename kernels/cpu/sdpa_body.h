/* sdpa_body.h - scaled_dot_product_attention in vectors, compiled once for each instruction set;
 * sdpa.c is what it must equal.
 *
 * The file that includes it has defined LANES, VECTOR, ROWS (of a register tile) and the five
 * operations.  A piece of work is some rows of one group, of some of the query heads that share a
 * key head.  It goes through the blocks of keys once; each is widened out of the way of the loops
 * ("packed") and then serves all of its rows, eight at a time.
 *
 * Keys that no row of a tile sees are left out where that cannot change a bit:
 *   - scores: without a mask they become -inf whatever they were; with one they do if they are
 *     finite, which a bound on |q| and |k| tells, else they are looked at;
 *   - products with values: their weights are +0, which changes no chain but one that stands at -0,
 *     if the values are finite.  Both are looked at, and the whole chain is computed if need be. */
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/finish.h"
#include "kernels/cpu/sdpa.h"

enum {
    TILE = 8,            /* rows that share a pass over a block */
    STRIP = 32,          /* columns of a pass */
    HALF = STRIP / 2,    /* words of packed columns: column l, and column HALF + l above it */
    PIECE_ROWS = 512,    /* most, of all heads */
    PIECE_SUMS = 1 << 15 /* likewise, rows times D */
};

/* A block of keys and values: k by strips of keys, then d; v by strips of d, then keys. */
struct block {
    int64_t n, N;
    int k_most, v_most; /* greatest magnitudes, as bf16 */
    const bf16 *keys;
    const bf16 *values;
    _Alignas(64) uint32_t k[SDPA_KEYS / STRIP * SDPA_WIDEST * HALF];
    _Alignas(64) uint32_t v[SDPA_WIDEST / STRIP * SDPA_KEYS * HALF];
};

/* What a piece has summed so far. */
struct sums {
    int64_t width; /* D, rounded up to whole strips */
    float max[PIECE_ROWS], sum[PIECE_ROWS];
    _Alignas(64) float o[PIECE_SUMS];
};

/* Some rows of one head in one block. */
struct tile {
    int64_t t, rows;
    float *max, *sum, *o;
    int q_most;
    int64_t from, to; /* keys of the block that a row of the tile sees, or more of them */
    _Alignas(64) float q[TILE * SDPA_WIDEST];
    _Alignas(64) float x[TILE * SDPA_KEYS]; /* scores, then weights */
};

/* ---- packing ---- */

static __m256i load_pair(const bf16 *low, const bf16 *high)
{
    const __m128i zero = _mm_setzero_si128();
    const __m128i a = low ? _mm_loadu_si128((const __m128i *)(const void *)low) : zero;
    const __m128i b = high ? _mm_loadu_si128((const __m128i *)(const void *)high) : zero;

    return _mm256_set_m128i(_mm_unpackhi_epi16(a, b), _mm_unpacklo_epi16(a, b));
}

static __m256i most_of(__m256i most, __m256i pairs)
{
    return _mm256_max_epu16(most, _mm256_and_si256(pairs, _mm256_set1_epi16(0x7fff)));
}

static int most_value(__m256i most)
{
    uint16_t each[16];
    int value = 0;

    memcpy(each, &most, sizeof(each));
    for (int i = 0; i < 16; i++)
        value = each[i] > value ? each[i] : value;
    return value;
}

/* to[i * HALF + l] = word i of a[l]. */
static inline void store_turned(__m256i *a, uint32_t *to)
{
    __m256i b[8];

    for (int i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            a[i + 2 * j] = _mm256_unpacklo_epi64(b[i + j], b[i + j + 2]);
            a[i + 2 * j + 1] = _mm256_unpackhi_epi64(b[i + j], b[i + j + 2]);
        }
    for (int i = 0; i < 4; i++) {
        __m256i *low = (__m256i *)(void *)(to + i * HALF);
        __m256i *high = (__m256i *)(void *)(to + (i + 4) * HALF);

        _mm256_store_si256(low, _mm256_permute2x128_si256(a[i], a[i + 4], 0x20));
        _mm256_store_si256(high, _mm256_permute2x128_si256(a[i], a[i + 4], 0x31));
    }
}

/* Keys [0, count) of the block, by whole strips. */
static void pack_keys(struct block *b, int64_t step, int64_t D, int64_t count)
{
    __m256i a[8], most = _mm256_setzero_si256();

    for (int64_t first = 0; first < count; first += STRIP)
        for (int64_t d = 0; d < D; d += 8)
            for (int64_t l = 0; l < HALF; l += 8) {
                for (int i = 0; i < 8; i++) {
                    const int64_t low = first + l + i, high = low + HALF;

                    a[i] = load_pair(low < b->N ? b->keys + low * step + d : NULL,
                                     high < b->N ? b->keys + high * step + d : NULL);
                    most = most_of(most, a[i]);
                }
                store_turned(a, b->k + (first / STRIP * D + d) * HALF + l);
            }
    b->k_most = most_value(most);
}

static void pack_values(struct block *b, int64_t step, int64_t D)
{
    __m256i most = _mm256_setzero_si256();

    for (int64_t j = 0; j < b->N; j++)
        for (int64_t d = 0; d < D; d += STRIP)
            for (int64_t l = 0; l < HALF; l += 8) {
                const int64_t low = d + l, high = low + HALF;
                const __m256i pairs = load_pair(low < D ? b->values + j * step + low : NULL,
                                                high < D ? b->values + j * step + high : NULL);
                uint32_t *to = b->v + (d / STRIP * SDPA_KEYS + j) * HALF + l;

                most = most_of(most, pairs);
                _mm256_store_si256((__m256i *)(void *)to, pairs);
            }
    b->v_most = most_value(most);
}

/* ---- chains ---- */

/* sum[r][c] = chain over k < n of fma(a[r * step + k], b[k][c]), for TILE rows and a strip. */
static void chains(const float *a, int64_t step, const uint32_t *b, int64_t n,
                   float (*restrict sum)[STRIP])
{
    for (int r = 0; r < TILE; r += ROWS)
        for (int c = 0; c < HALF; c += LANES) {
            const float *rows = a + r * step;
            const uint32_t *word = b + c;
            VECTOR low[ROWS], high[ROWS];

#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++)
                low[i] = high[i] = ZERO;
            for (int64_t k = 0; k < n; k++, word += HALF) {
                const VECTOR even = WIDEN_LOW(word), odd = WIDEN_HIGH(word);

#pragma GCC unroll 8
                for (int i = 0; i < ROWS; i++) {
                    const VECTOR x = ALL(rows[i * step + k]);

                    low[i] = FMA(x, even, low[i]);
                    high[i] = FMA(x, odd, high[i]);
                }
            }
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++) {
                STORE(&sum[r + i][c], low[i]);
                STORE(&sum[r + i][HALF + c], high[i]);
            }
        }
}

/* ---- sums in lanes, for calls of few rows or keys ---- */

static float key_in_lanes(const float *q, const bf16 *key, int64_t D)
{
    __m128 s = _mm_setzero_ps();

    for (int64_t d = 0; d < D; d += 4) {
        const __m128i words =
            _mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(key + d)));

        s = _mm_fmadd_ps(_mm_loadu_ps(q + d), _mm_castsi128_ps(_mm_slli_epi32(words, 16)), s);
    }
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static float key_in_wide_lanes(const float *q, const bf16 *key, int64_t D)
{
    float s[8] = {0};

    for (int64_t d = 0; d < D; d += 8)
        for (int l = 0; l < 8; l++)
            s[l] = fmaf(q[d + l], bf16_to_f32(key[d + l]), s[l]);
    for (int l = 0; l < 4; l++)
        s[l] = s[l] + s[l + 4];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

/* rows: of the group. */
static void row_in_lanes(const float *q, int64_t D, int64_t rows, const struct block *b,
                         int64_t step, float *x)
{
    const int64_t wide = rows > 1 && b->N > 1 ? b->N % 4 : 0;

    for (int64_t j = 0; j < b->N - wide; j++)
        x[j] = key_in_lanes(q, b->keys + j * step, D);
    for (int64_t j = b->N - wide; j < b->N; j++)
        x[j] = key_in_wide_lanes(q, b->keys + j * step, D);
}

/* ---- softmax of a row in a block ---- */

/* As signed integers these compare like the numbers, which need not be told apart from -0. */
static inline int32_t order(float x)
{
    const int32_t i = (int32_t)f32_bits(x);

    return i ^ (i >> 31 & 0x7fffffff);
}

/* x *= scale; returns the maximum, or NaN where there is one. */
static float row_scale(float *restrict x, int64_t n, float scale)
{
    int32_t most = order(-INFINITY), nan = 0;

    for (int64_t j = 0; j < n; j++) {
        const float y = x[j] * scale;
        const int32_t key = order(y);

        x[j] = y;
        nan |= (f32_bits(y) & 0x7fffffff) > 0x7f800000;
        most = key > most ? key : most;
    }
    return nan ? NAN : f32_from_bits((uint32_t)(most ^ (most >> 31 & 0x7fffffff)));
}

/* Whether a masked score is NaN instead of -inf. */
static int row_spoilt(const float *x, int64_t n, float scale)
{
    int nan = 0;

    for (int64_t j = 0; j < n; j++)
        nan |= fmaf(x[j], scale, -INFINITY) != -INFINITY;
    return nan;
}

static void row_exp(float *restrict x, int64_t n, float most)
{
    for (int64_t j = 0; j < n; j++)
        x[j] = sdpa_fexp(x[j] - most);
}

/* Sum of x[from..to), which are 0 beyond; rounds them.  `lanes` is a constant at every call. */
static inline float row_sum_by(float *restrict x, int64_t from, int64_t to, const int lanes)
{
    float sum[32] = {0};
    int64_t j = from / (2 * lanes) * (2 * lanes);

    for (; j + lanes < to; j += 2 * lanes)
        for (int l = 0; l < 2 * lanes; l++) {
            sum[l] += x[j + l];
            x[j + l] = bf16_to_f32(finish_round(x[j + l]));
        }
    for (int l = 0; j < to && l < lanes; l++) {
        sum[l] += x[j + l];
        x[j + l] = bf16_to_f32(finish_round(x[j + l]));
    }
    for (int w = lanes; w; w /= 2)
        for (int l = 0; l < w; l++)
            sum[l] = sum[l] + sum[l + w];
    return sum[0];
}

/* Scores of [from, to) become weights, all others 0; returns their sum before rounding. */
static float row_weights(float *x, int64_t from, int64_t to, int64_t N, float most, int lanes)
{
    const int64_t whole = N / lanes * lanes, end = sdpa_least(to, whole);
    float sum;

    memset(x, 0, (size_t)from * sizeof(*x));
    memset(x + to, 0, (size_t)(SDPA_KEYS - to) * sizeof(*x));
    if (from < end)
        row_exp(x + from, end - from, most);
    for (int64_t j = from > whole ? from : whole; j < to; j++)
        x[j] = sdpa_exp_tail(x[j] - most);
    sum = lanes == 16 ? row_sum_by(x, from, end, 16) : row_sum_by(x, from, end, 8);
    for (int64_t j = whole; j < to; j++) {
        sum += x[j];
        x[j] = bf16_to_f32(finish_round(x[j]));
    }
    return sum;
}

/* x: N scores, those outside [from, to) not necessarily computed unless `looked`; they become
 * weights.  Brings max, sum and o up to date. */
static void row_softmax(const struct sdpa *s, const struct block *b, int64_t from, int64_t to,
                        int looked, float *x, float *max, float *sum, float *o)
{
    float most = row_scale(x + from, to - from, s->scale), old, now;

    if (looked && (row_spoilt(x, from, s->scale) || row_spoilt(x + to, b->N - to, s->scale)))
        most = NAN;
    if (*max > most)
        most = *max;
    if (most == -INFINITY) {
        memset(x, 0, SDPA_KEYS * sizeof(*x));
        return;
    }
    now = row_weights(x, from, to, b->N, most, s->lanes);
    old = sdpa_exp_old(*max - most);
    *sum = fmaf(old, *sum, now);
    *max = most;
    for (int64_t d = 0; b->n && d < s->width; d++)
        o[d] = o[d] * old;
}

/* Keys of the block that row t sees. */
static int64_t seen_in(const struct sdpa *s, const struct block *b, int64_t t, int64_t *to)
{
    int64_t from = sdpa_seen(s, t, to) - b->n;

    *to -= b->n;
    *to = *to < 0 ? 0 : sdpa_least(*to, b->N);
    return from < 0 ? 0 : sdpa_least(from, *to);
}

/* ---- one row of a group of three or less ---- */

static void row_times_values(const struct sdpa *s, const struct block *b, int64_t rows,
                             const float *restrict p, float *restrict y)
{
    const int64_t step = s->call->in[2]->stride[1], fours = b->N & ~3;
    const bf16 *v = b->values;

    if (rows > 1) {
        for (int64_t j = 0; j < b->N; j++, v += step)
            for (int64_t d = 0; d < s->width; d++)
                y[d] = fmaf(bf16_to_f32(v[d]), p[j], y[d]);
        return;
    }
    for (int64_t j = 0; j < fours; j += 4, v += 4 * step)
        for (int64_t d = 0; d < s->width; d++) {
            const float v0 = bf16_to_f32(v[d]), v1 = bf16_to_f32(v[d + step]);
            const float v2 = bf16_to_f32(v[d + 2 * step]), v3 = bf16_to_f32(v[d + 3 * step]);

            y[d] = y[d] + (fmaf(v2, p[j + 2], v0 * p[j]) + fmaf(v3, p[j + 3], v1 * p[j + 1]));
        }
    for (int64_t j = b->N - 1; j >= fours; j--)
        for (int64_t d = 0; d < s->width; d++)
            y[d] = fmaf(bf16_to_f32(b->values[j * step + d]), p[j], y[d]);
}

static void few_block(const struct sdpa *s, const struct block *b, int64_t rows, struct tile *tile)
{
    int64_t to, from = seen_in(s, b, tile->t, &to);

    row_in_lanes(tile->q, s->width, rows, b, s->call->in[1]->stride[1], tile->x);
    row_softmax(s, b, from, to, s->masked, tile->x, tile->max, tile->sum, tile->o);
    row_times_values(s, b, rows, tile->x, tile->o);
}

/* ---- eight rows ---- */

/* Whether every score is finite, and stays so when it is scaled. */
static int scores_are_finite(const struct sdpa *s, const struct block *b, const struct tile *tile)
{
    const double q = (double)bf16_to_f32((bf16)tile->q_most);
    const double k = (double)bf16_to_f32((bf16)b->k_most);
    const double scale = fabs((double)s->scale);

    return q * k * (double)s->width * (scale > 1 ? scale : 1) < 0x1p126;
}

static void tile_products(const struct sdpa *s, const struct block *b, struct tile *tile,
                          int64_t from, int64_t to)
{
    const int64_t D = s->width, chain = sdpa_chain(D);
    _Alignas(64) float sum[TILE][STRIP];

    for (int64_t first = from / STRIP * STRIP; first < to; first += STRIP)
        for (int64_t d = 0; d < D; d += chain) {
            chains(tile->q + d, SDPA_WIDEST, b->k + (first / STRIP * D + d) * HALF,
                   sdpa_least(chain, D - d), sum);
            for (int r = 0; r < TILE; r++) {
                float *x = tile->x + r * SDPA_KEYS + first;

                for (int c = 0; c < STRIP; c++)
                    x[c] = d ? x[c] + sum[r][c] : sum[r][c];
            }
        }
}

static void chain_of_values(const struct tile *tile, const uint32_t *v, int64_t from, int64_t to,
                            float (*sum)[STRIP])
{
    chains(tile->x + from, SDPA_KEYS, v + from * HALF, to - from, sum);
}

static int has_minus_zero(float (*sum)[STRIP])
{
    int minus = 0;

    for (int r = 0; r < TILE; r++)
        for (int c = 0; c < STRIP; c++)
            minus |= f32_bits(sum[r][c]) == 0x80000000u;
    return minus;
}

static void tile_values(const struct block *b, const struct tile *tile, int64_t width)
{
    const int64_t chain = sdpa_chain(b->N);
    _Alignas(64) float sum[TILE][STRIP];

    for (int64_t d = 0; d < width; d += STRIP)
        for (int64_t j = 0; j < b->N; j += chain) {
            const uint32_t *v = b->v + d / STRIP * SDPA_KEYS * HALF;
            const int64_t end = sdpa_least(j + chain, b->N), to = sdpa_least(end, tile->to);
            const int64_t from = j > tile->from ? j : tile->from;

            chain_of_values(tile, v, from, to, sum);
            if (to < end && has_minus_zero(sum))
                chain_of_values(tile, v, j, end, sum);
            for (int r = 0; r < TILE; r++) {
                float *o = tile->o + r * width + d;

                for (int c = 0; c < STRIP; c++)
                    o[c] = b->n || j ? o[c] + sum[r][c] : sum[r][c];
            }
        }
}

/* Scores of the tile's rows; returns whether those of keys that are not seen are there too. */
static int tile_scores(const struct sdpa *s, const struct block *b, int64_t rows, struct tile *tile)
{
    const int all = s->masked && !scores_are_finite(s, b, tile);

    if (sdpa_in_lanes(rows, b->N)) {
        for (int64_t r = 0; r < tile->rows; r++)
            row_in_lanes(tile->q + r * SDPA_WIDEST, s->width, rows, b, s->call->in[1]->stride[1],
                         tile->x + r * SDPA_KEYS);
        return s->masked;
    }
    tile_products(s, b, tile, all ? 0 : tile->from, all ? b->N : tile->to);
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
    if (b->v_most >= 0x7f80) {
        tile->from = 0;
        tile->to = b->N;
    }
    tile_values(b, tile, width);
}

/* ---- pieces ---- */

struct plan {
    struct sdpa s;
    int64_t rows, heads;  /* of a piece, most */
    int64_t tiles, parts; /* pieces of a head, and of the heads that share a key head */
};

/* What a piece does: rows [t, t + rows) of `heads` heads. */
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
    p.rows = sdpa_least(plan->rows, s->tokens - p.t);
    p.head = g * s->shared + part * plan->heads;
    p.heads = sdpa_least(plan->heads, s->shared - part * plan->heads);
    p.group = sdpa_group_of(s, p.t, &p.group_rows);
    return p;
}

/* q of the tile's rows; the others are 0. */
static void tile_queries(const struct sdpa *s, int64_t h, struct tile *tile)
{
    const struct tensor *q = s->call->in[0];
    uint32_t most = 0;

    for (int64_t r = 0; r < TILE; r++) {
        const bf16 *from = (const bf16 *)q->data + h * q->stride[0] + (tile->t + r) * q->stride[1];
        float *to = tile->q + r * SDPA_WIDEST;

        if (r >= tile->rows)
            memset(to, 0, (size_t)s->width * sizeof(*to));
        for (int64_t d = 0; r < tile->rows && d < s->width; d++) {
            const uint32_t magnitude = from[d] & 0x7fffu;

            to[d] = bf16_to_f32(from[d]);
            most = magnitude > most ? magnitude : most;
        }
    }
    tile->q_most = (int)most;
}

static void piece_block(const struct sdpa *s, const struct piece *p, const struct block *b,
                        struct sums *sums)
{
    const int64_t step = p->group_rows < 4 ? 1 : TILE, room = (p->rows + step - 1) / step * step;
    struct tile tile;

    for (int64_t h = 0; h < p->heads; h++)
        for (int64_t t = 0; t < p->rows; t += step) {
            const int64_t at = h * room + t;

            tile.t = p->t + t;
            tile.rows = sdpa_least(step, p->rows - t);
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
    b->N = sdpa_least(SDPA_KEYS, s->keys - n);
    b->keys = (const bf16 *)k->data + g * k->stride[0] + n * k->stride[1];
    b->values = (const bf16 *)v->data + g * v->stride[0] + n * v->stride[1];
    if (p->group_rows < 4)
        return;
    seen_in(s, b, p->t + p->rows - 1, &to);
    pack_keys(b, k->stride[1], s->width, s->masked ? b->N : to);
    pack_values(b, v->stride[1], s->width);
}

static void piece_finish(const struct sdpa *s, const struct piece *p, const struct sums *sums)
{
    const int64_t step = p->group_rows < 4 ? 1 : TILE, room = (p->rows + step - 1) / step * step;

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

/* Pieces are large enough for packing to be little, and there are some for every thread. */
static struct plan plan_of(const struct op_call *call)
{
    struct plan plan = {.s = sdpa_of(call)};
    const struct sdpa *s = &plan.s;
    const int64_t width = (s->width + STRIP - 1) / STRIP * STRIP, G = call->in[1]->shape[0];

    plan.rows = s->shared < 3 && s->group > 32 ? 64 : 32;
    plan.tiles = cpu_pieces(s->tokens, plan.rows);
    plan.heads = sdpa_least(s->shared, PIECE_SUMS / (width * plan.rows));
    plan.heads = sdpa_least(plan.heads, PIECE_ROWS / plan.rows);
    while (plan.heads > 1 &&
           plan.tiles * G * cpu_pieces(s->shared, plan.heads) < 3 * call->backend->threads)
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
