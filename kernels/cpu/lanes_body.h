/* lanes_body.h - DOT8 and FOUR products (numerics.h) in vectors of 8 lanes: linear, matmul_qk and
 * matmul_pv.  Compiled once for each instruction set.
 *
 * The file that includes it has defined, all static inline:
 *
 *     eight                                a vector of 8 f32
 *     eight_zero(), eight_all(float)       all 0; all alike
 *     eight_load(const float *)            from 32-byte aligned memory
 *     eight_store(float *, eight)          to memory of any alignment
 *     eight_widen(const bf16 *)            8 bf16
 *     eight_add(a, b), eight_fma(a, b, c)  a + b; a * b + c, rounded once
 *     eight_sum(eight)                     float: ((0+4)+(2+6)) + ((1+5)+(3+7))
 *
 * A few rows of x are widened to f32 once, a chunk of k at a time, and multiplied with every column of
 * the piece; between chunks the accumulators are kept in memory.  Heads that are too wide go to the
 * plain version.
 */
#include "kernels/base/integer.h"
#include "kernels/cpu/products.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/finish.h"
#include "kernels/products.h"

enum {
    DOT_ROWS = 3,        /* at a time: 3 rows x 4 accumulators in 12 vectors */
    DOT_COLUMNS = 64,    /* of a piece */
    DOT_CHUNK = 4096,    /* elements of k; a multiple of 64 */
    DOT_PIECE_ROWS = 48, /* rows of a piece; a multiple of DOT_ROWS */
    HEAD_MOST = 512,     /* head_dim whose accumulators fit on the stack */
};

static void widen_all(const bf16 *x, int64_t n, float *to)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = bf16_to_f32(x[i]);
}

/* Copies by elements: with memcpy the compiler would keep the accumulators in memory. */
static inline __attribute__((always_inline)) void move(eight (*to)[4], eight (*from)[4],
                                                       const int rows)
{
    for (int r = 0; r < rows; r++)
        for (int a = 0; a < 4; a++)
            to[r][a] = from[r][a];
}

/* ---- DOT8 ---- */

/* Adds n (a multiple of 64) elements to accumulators 4 * half .. 4 * half + 3 of some rows and one
 * column.  `rows` is a constant at every call. */
static inline __attribute__((always_inline)) void dot8_half(float (*x)[DOT_CHUNK], const int rows,
                                                            const bf16 *w, int64_t n, int half,
                                                            eight (*acc)[4])
{
    for (int64_t k = 32 * half; k < n; k += 64)
        for (int a = 0; a < 4; a++) {
            const eight right = eight_widen(w + k + 8 * a);

            for (int r = 0; r < rows; r++)
                acc[r][a] = eight_fma(eight_load(&x[r][k + 8 * a]), right, acc[r][a]);
        }
}

/* Adds one chunk of one column to kept[half][r], which is zero before the first chunk.  After the last
 * chunk, reduces the 8 accumulators of every row to sum[r]. */
static inline __attribute__((always_inline)) void dot8_column(float (*x)[DOT_CHUNK], const int rows,
                                                              const bf16 *w, int64_t n, int last,
                                                              eight (*kept)[DOT_ROWS][4],
                                                              float (*sum)[DOT_COLUMNS])
{
    eight low[DOT_ROWS][4], high[DOT_ROWS][4];

    move(low, kept[0], rows);
    dot8_half(x, rows, w, n, 0, low);
    if (!last)
        move(kept[0], low, rows);
    move(high, kept[1], rows);
    dot8_half(x, rows, w, n, 1, high);
    if (!last)
        move(kept[1], high, rows);
    for (int r = 0; last && r < rows; r++) {
        const eight a = eight_add(low[r][0], high[r][0]);
        const eight b = eight_add(low[r][1], high[r][1]);
        const eight c = eight_add(low[r][2], high[r][2]);
        const eight d = eight_add(low[r][3], high[r][3]);

        sum[r][0] = eight_sum(eight_add(eight_add(a, c), eight_add(b, d)));
    }
}

static void dot8_chunk(float (*x)[DOT_CHUNK], int rows, const bf16 *w, int64_t n, int last,
                       eight (*kept)[DOT_ROWS][4], float (*sum)[DOT_COLUMNS])
{
    switch (rows) {
    case 1:
        dot8_column(x, 1, w, n, last, kept, sum);
        break;
    case 2:
        dot8_column(x, 2, w, n, last, kept, sum);
        break;
    default:
        dot8_column(x, 3, w, n, last, kept, sum);
        break;
    }
}

/* Adds the last K % 64 elements to the sum of the others. */
static float dot8_end(float sum, const bf16 *x, const bf16 *w, int64_t K)
{
    const int64_t in16 = K & ~(int64_t)15;
    int64_t k = K & ~(int64_t)63;
    eight tail = eight_zero();

    for (; k < in16; k += 8)
        tail = eight_fma(eight_widen(x + k), eight_widen(w + k), tail);
    sum = sum + eight_sum(tail);
    for (; k < K; k++)
        sum = fmaf(bf16_to_f32(x[k]), bf16_to_f32(w[k]), sum);
    return sum;
}

/* Computes sum[r][c] for up to DOT_ROWS rows and DOT_COLUMNS columns, which are `step` elements apart. */
static void dot8_tile(const bf16 *const *x, int rows, const bf16 *w, int64_t step, int64_t columns,
                      int64_t K, float (*sum)[DOT_COLUMNS])
{
    _Alignas(32) float wide[DOT_ROWS][DOT_CHUNK];
    const int64_t in64 = K & ~(int64_t)63;
    eight kept[DOT_COLUMNS][2][DOT_ROWS][4];
    int64_t k = 0;

    memset(kept, 0, (size_t)(in64 > DOT_CHUNK ? columns : 1) * sizeof(kept[0]));
    do {
        const int64_t n = min_i64(in64 - k, DOT_CHUNK);

        for (int r = 0; r < rows; r++)
            widen_all(x[r] + k, n, wide[r]);
        for (int64_t c = 0; c < columns; c++)
            dot8_chunk(wide, rows, w + c * step + k, n, k + n == in64,
                       kept[in64 > DOT_CHUNK ? c : 0], (float(*)[DOT_COLUMNS])(void *)&sum[0][c]);
        k += n;
    } while (k < in64);
    for (int64_t c = 0; c < columns; c++)
        for (int r = 0; r < rows; r++)
            sum[r][c] = dot8_end(sum[r][c], x[r], w + c * step, K);
}

/* ---- pieces: some columns of some rows; query heads of one key head are rows alike ---- */

struct dots {
    const struct op_call *call;
    struct tensor w; /* [groups, N, K] (pv: [groups, K, N]) */
    const bf16 *bias;
    int64_t rows, N, K;      /* rows of one group */
    int64_t columns, chunks; /* pieces of a group: of columns, of rows */
};

static struct dots dots_of(const struct op_call *call, int64_t rows, int64_t N, int64_t K)
{
    struct dots d = {.call = call, .rows = rows, .N = N, .K = K};

    d.columns = cpu_pieces(N, DOT_COLUMNS);
    d.chunks = cpu_pieces(rows, DOT_PIECE_ROWS);
    return d;
}

static void dot8_piece(const void *work, int64_t piece)
{
    const struct dots *d = work;
    const int64_t group = piece / d->chunks / d->columns;
    const int64_t column = piece / d->chunks % d->columns * DOT_COLUMNS;
    const int64_t first = piece % d->chunks * DOT_PIECE_ROWS;
    const int64_t end = min_i64(first + DOT_PIECE_ROWS, d->rows);
    const int64_t columns = min_i64(d->N - column, DOT_COLUMNS), base = group * d->rows;
    const bf16 *w = (const bf16 *)d->w.data + group * d->w.stride[0] + column * d->w.stride[1];
    float sum[DOT_ROWS][DOT_COLUMNS];
    const bf16 *x[DOT_ROWS];

    for (int64_t r = first; r < end; r += DOT_ROWS) {
        const int rows = (int)min_i64(end - r, DOT_ROWS);

        for (int i = 0; i < rows; i++)
            x[i] = cpu_row(d->call->in[0], base + r + i);
        dot8_tile(x, rows, w, d->w.stride[1], columns, d->K, sum);
        for (int i = 0; i < rows; i++)
            finish_sums(sum[i], d->bias ? d->bias + column : NULL,
                        cpu_row(d->call->out, base + r + i) + column, columns);
    }
}

int cpu_linear_lanes(const struct op_call *call, const struct product_rule *rule)
{
    const struct tensor *w = &call->weight->plain;
    const int64_t shape[] = {1, w->shape[0], w->shape[1]};
    struct dots d = dots_of(call, cpu_row_count(call->in[0]), w->shape[0], w->shape[1]);

    (void)rule;
    d.w = tensor_make(DTYPE_BF16, 3, shape, w->data);
    d.bias = call->bias ? call->bias->plain.data : NULL;
    cpu_run(call, dot8_piece, &d, d.columns * d.chunks);
    return 0;
}

int cpu_qk_lanes(const struct op_call *call, const struct product_rule *rule)
{
    const struct tensor *q = call->in[0], *k = call->in[1];
    const int64_t H = q->shape[0], T = q->shape[1], G = k->shape[0];
    struct dots d = dots_of(call, H / G * T, k->shape[1], k->shape[2]);

    (void)rule;
    d.w = *k;
    cpu_run(call, dot8_piece, &d, G * d.columns * d.chunks);
    return 0;
}

/* ---- FOUR ---- */

/* Adds n elements of k to chains 0..3 of some rows and the 8 columns at v.  The first element has
 * k % 4 = 0; those from `whole` on go to chain 0. */
static inline __attribute__((always_inline)) void four_columns(float (*p)[DOT_CHUNK],
                                                               const int rows, const bf16 *v,
                                                               int64_t step, int64_t n,
                                                               int64_t whole, eight (*kept)[4])
{
    eight acc[DOT_ROWS][4];
    int64_t k = 0;

    move(acc, kept, rows);
    for (; k < whole; k += 4)
        for (int a = 0; a < 4; a++) {
            const eight right = eight_widen(v + (k + a) * step);

            for (int r = 0; r < rows; r++)
                acc[r][a] = eight_fma(eight_all(p[r][k + a]), right, acc[r][a]);
        }
    for (; k < n; k++)
        for (int r = 0; r < rows; r++)
            acc[r][0] = eight_fma(eight_all(p[r][k]), eight_widen(v + k * step), acc[r][0]);
    move(kept, acc, rows);
}

static void four_chunk(float (*p)[DOT_CHUNK], int rows, const bf16 *v, int64_t step, int64_t n,
                       int64_t whole, eight (*kept)[4])
{
    switch (rows) {
    case 1:
        four_columns(p, 1, v, step, n, whole, kept);
        break;
    case 2:
        four_columns(p, 2, v, step, n, whole, kept);
        break;
    default:
        four_columns(p, 3, v, step, n, whole, kept);
        break;
    }
}

/* sum[r][c]: rows of p [K] times v [K, columns], columns a multiple of 8. */
static void four_tile(const bf16 *const *p, int rows, const bf16 *v, int64_t step, int64_t columns,
                      int64_t K, float (*sum)[HEAD_MOST])
{
    _Alignas(32) float wide[DOT_ROWS][DOT_CHUNK];
    eight kept[HEAD_MOST / 8][DOT_ROWS][4];

    memset(kept, 0, (size_t)columns / 8 * sizeof(kept[0]));
    for (int64_t k = 0; k < K; k += DOT_CHUNK) {
        const int64_t n = min_i64(K - k, DOT_CHUNK), whole = min_i64((K & ~(int64_t)3) - k, n);

        for (int r = 0; r < rows; r++)
            widen_all(p[r] + k, n, wide[r]);
        for (int64_t c = 0; c < columns / 8; c++)
            four_chunk(wide, rows, v + k * step + 8 * c, step, n, whole, kept[c]);
    }
    for (int64_t c = 0; c < columns / 8; c++)
        for (int r = 0; r < rows; r++) {
            const eight *a = kept[c][r];
            const eight all = eight_add(eight_add(eight_add(a[0], a[1]), a[2]), a[3]);

            eight_store(&sum[r][8 * c], all);
        }
}

static void four_piece(const void *work, int64_t piece)
{
    const struct dots *d = work;
    const struct tensor *p = d->call->in[0], *out = d->call->out;
    const int64_t group = piece / d->chunks, tokens = p->shape[1];
    const int64_t first = piece % d->chunks * DOT_PIECE_ROWS;
    const int64_t end = min_i64(first + DOT_PIECE_ROWS, d->rows), shared = d->rows / tokens;
    const bf16 *v = (const bf16 *)d->w.data + group * d->w.stride[0];
    float sum[DOT_ROWS][HEAD_MOST];
    const bf16 *x[DOT_ROWS];

    for (int64_t r = first; r < end; r += DOT_ROWS) {
        const int rows = (int)min_i64(end - r, DOT_ROWS);

        for (int i = 0; i < rows; i++)
            x[i] = cpu_row(p, group * d->rows + r + i);
        four_tile(x, rows, v, d->w.stride[1], d->N, d->K, sum);
        for (int i = 0; i < rows; i++) {
            const int64_t head = group * shared + (r + i) / tokens;

            finish_sums(sum[i], NULL, cpu_row(out, (r + i) % tokens) + head * d->N, d->N);
        }
    }
}

int cpu_pv_lanes(const struct op_call *call, const struct product_rule *rule)
{
    const struct tensor *p = call->in[0], *v = call->in[1];
    const int64_t H = p->shape[0], T = p->shape[1], G = v->shape[0];
    struct dots d = dots_of(call, H / G * T, v->shape[2], v->shape[1]);

    if (d.N % 8 || d.N > HEAD_MOST)
        return cpu_pv_plain(call, rule);
    d.w = *v;
    cpu_run(call, four_piece, &d, G * d.chunks);
    return 0;
}
