/* panels_heads.c - matmul_qk and matmul_pv against panels of keys and values; see panels.h. */
#include "kernels/base/integer.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/products.h"

enum {
    PANEL_CHUNK = 192,       /* rows of a piece at most; a multiple of PANEL_ROWS */
    PANEL_BLOCK_MOST = 1024, /* elements of k of a block */
    PANEL_HEAD_MOST = 512,   /* head_dim whose panel fits on the stack */
};

/* How a product is cut into pieces: each is one panel of columns and one chunk of rows. */
struct grid {
    const struct op_call *call;
    const struct panels *panels;
    int64_t block; /* of k */
    int64_t rows, N, K;
    int64_t columns, chunks; /* how many panels, and chunks of rows */
    int64_t chunk;           /* rows of all chunks but the last; a multiple of PANEL_ROWS */
};

static struct grid grid_of(const struct op_call *call, const struct product_rule *rule,
                           int64_t rows, int64_t N, int64_t K)
{
    struct grid g = {.call = call,
                     .panels = cpu_of(call)->panels,
                     .block = rule->block,
                     .rows = rows,
                     .N = N,
                     .K = K};

    g.columns = cpu_pieces(N, PANEL_COLUMNS);
    g.chunks = rows ? cpu_pieces(rows, PANEL_CHUNK) : 1;
    g.chunk = cpu_pieces(cpu_pieces(rows, g.chunks), PANEL_ROWS) * PANEL_ROWS;
    g.chunks = rows ? cpu_pieces(rows, g.chunk) : 0;
    return g;
}

/* ---- the query heads of one key head are rows of one product ---- */

struct heads {
    struct grid grid;
    int64_t tokens, shared; /* T; query heads of one key head */
};

static struct heads heads_of(const struct op_call *call, const struct product_rule *rule, int64_t N,
                             int64_t K)
{
    const struct tensor *x = call->in[0], *w = call->in[1];
    struct heads h = {.tokens = x->shape[1], .shared = x->shape[0] / w->shape[0]};

    h.grid = grid_of(call, rule, h.shared * h.tokens, N, K);
    return h;
}

/* One piece: a key-value head, the first column of the panel, and rows [first, end) of that head. */
struct heads_piece {
    int64_t head, column, first, end;
};

static struct heads_piece heads_piece_of(const struct heads *h, int64_t piece)
{
    const struct grid *g = &h->grid;
    const int64_t first = piece % g->chunks * g->chunk;

    return (struct heads_piece){.head = piece / g->chunks / g->columns,
                                .column = piece / g->chunks % g->columns * PANEL_COLUMNS,
                                .first = first,
                                .end = min_i64(first + g->chunk, g->rows)};
}

static void matmul_qk_piece(const void *work, int64_t piece)
{
    const struct heads *h = work;
    const struct grid *g = &h->grid;
    const struct heads_piece at = heads_piece_of(h, piece);
    const struct tensor *q = g->call->in[0], *k = g->call->in[1], *out = g->call->out;
    const int64_t columns = min_i64(g->N - at.column, PANEL_COLUMNS);
    _Alignas(64) uint32_t panel[PANEL_HEAD_MOST / 2 * PANEL_COLUMNS];
    _Alignas(64) float sum[PANEL_ROWS][PANEL_COLUMNS];

    g->panels->pack_rows((const bf16 *)k->data + at.head * k->stride[0] + at.column * k->stride[1],
                         k->stride[1], columns, g->K, panel);
    for (int64_t r = at.first; r < at.end; r += PANEL_ROWS) {
        const int count = (int)min_i64(at.end - r, PANEL_ROWS);
        const bf16 *x[PANEL_ROWS];

        for (int i = 0; i < count; i++)
            x[i] = cpu_row(q, at.head * g->rows + r + i);
        g->panels->block(x, count, panel, g->K, sum, 1);
        for (int i = 0; i < count; i++)
            g->panels->finish(sum[i], NULL, cpu_row(out, at.head * g->rows + r + i) + at.column,
                              columns);
    }
}

int cpu_qk_panels(const struct op_call *call, const struct product_rule *rule)
{
    const struct tensor *k = call->in[1];
    struct heads h;

    if (k->shape[2] > PANEL_HEAD_MOST || rule->flushes_output)
        return cpu_qk_plain(call, rule);
    h = heads_of(call, rule, k->shape[1], k->shape[2]);
    cpu_run(call, matmul_qk_piece, &h, k->shape[0] * h.grid.columns * h.grid.chunks);
    return 0;
}

/* Adds keys [l, l + count) to the sums of the piece's rows. */
static void matmul_pv_block(const struct heads *h, const struct heads_piece *at, int64_t l,
                            int64_t count, uint32_t *panel, float (*sum)[PANEL_COLUMNS])
{
    const struct grid *g = &h->grid;
    const struct tensor *p = g->call->in[0], *v = g->call->in[1];

    g->panels->pack_columns((const bf16 *)v->data + at->head * v->stride[0] + l * v->stride[1] +
                                at->column,
                            v->stride[1], min_i64(g->N - at->column, PANEL_COLUMNS), count, panel);
    for (int64_t r = at->first; r < at->end; r += PANEL_ROWS) {
        const int rows = (int)min_i64(at->end - r, PANEL_ROWS);
        const bf16 *x[PANEL_ROWS];

        for (int i = 0; i < rows; i++)
            x[i] = cpu_row(p, at->head * g->rows + r + i) + l;
        g->panels->block(x, rows, panel, count, sum + (r - at->first), l == 0);
    }
}

static void matmul_pv_piece(const void *work, int64_t piece)
{
    const struct heads *h = work;
    const struct grid *g = &h->grid;
    const struct heads_piece at = heads_piece_of(h, piece);
    _Alignas(64) uint32_t panel[PANEL_BLOCK_MOST / 2 * PANEL_COLUMNS];
    _Alignas(64) float sum[PANEL_CHUNK][PANEL_COLUMNS];

    for (int64_t l = 0; l < g->K; l += g->block)
        matmul_pv_block(h, &at, l, min_i64(g->K - l, g->block), panel, sum);
    for (int64_t r = at.first; r < at.end; r++) {
        const int64_t head = at.head * h->shared + r / h->tokens;

        g->panels->finish(sum[r - at.first], NULL,
                          cpu_row(g->call->out, r % h->tokens) + head * g->N + at.column,
                          min_i64(g->N - at.column, PANEL_COLUMNS));
    }
}

int cpu_pv_panels(const struct op_call *call, const struct product_rule *rule)
{
    const struct tensor *v = call->in[1];
    struct heads h;

    if (rule->flushes_output)
        return cpu_pv_plain(call, rule);
    h = heads_of(call, rule, v->shape[2], v->shape[1]);
    cpu_run(call, matmul_pv_piece, &h, v->shape[0] * h.grid.columns * h.grid.chunks);
    return 0;
}
