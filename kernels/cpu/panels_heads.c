/* panels_heads.c - matmul_qk and matmul_pv against panels of keys and values; see panels.h. */
#include <string.h>

#include "kernels/cpu/panels.h"
#include "kernels/cpu/product_cut.h"
#include "kernels/cpu/products.h"

enum {
    PANEL_CHUNK = 192, /* rows of a piece at most; a multiple of PANEL_ROWS */
    PANEL_PIECE_MOST =
        1024,              /* elements of k that are packed at a time: the longest block of PAIRS */
    PANEL_HEAD_MOST = 512, /* head_dim whose panel fits on the stack */
};

/* How a product is cut into pieces: each is one panel of columns and one chunk of rows. */
struct grid {
    const struct op_call *call;
    const struct panels *panels;
    const struct product_rule *rule;
    int64_t rows, N, K;
    int64_t columns, chunks; /* how many panels, and chunks of rows */
    int64_t chunk;           /* rows of all chunks but the last; a multiple of PANEL_ROWS */
};

static struct grid grid_of(const struct op_call *call, const struct product_rule *rule,
                           int64_t rows, int64_t N, int64_t K)
{
    struct grid g = {
        .call = call, .panels = cpu_of(call)->panels, .rule = rule, .rows = rows, .N = N, .K = K};

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
    struct panel_tile t = {.panel = panel, .K = g->K, .column = at.column, .columns = columns};

    g->panels->pack_rows((const bf16 *)k->data + at.head * k->stride[0] + at.column * k->stride[1],
                         k->stride[1], columns, g->K, panel);
    for (int64_t r = at.first; r < at.end; r += PANEL_ROWS) {
        t.rows = (int)min_i64(at.end - r, PANEL_ROWS);
        for (int i = 0; i < t.rows; i++) {
            t.row[i] = at.head * g->rows + r + i;
            t.rule[i] = g->rule;
            t.x[i] = cpu_row(q, t.row[i]);
            t.y[i] = cpu_row(out, t.row[i]) + at.column;
        }
        panels_tile(g->panels, &t);
    }
}

int cpu_qk_panels(const struct op_call *call, const struct product_rule *rule)
{
    const struct tensor *k = call->in[1];
    struct heads h;

    if (k->shape[2] > PANEL_HEAD_MOST || !product_cut_is_paired(rule, k->shape[2]))
        return cpu_qk_plain(call, rule);
    h = heads_of(call, rule, k->shape[1], k->shape[2]);
    cpu_run(call, matmul_qk_piece, &h, k->shape[0] * h.grid.columns * h.grid.chunks);
    return 0;
}

/* ---- weights times values ---- */

typedef float chunk_sums[PANEL_CHUNK][PANEL_COLUMNS];

/* The sums of a piece of work: over all keys so far, over those of a part, of a block. */
struct pv_sums {
    _Alignas(64) chunk_sums total, part, block;
};

static void add_rows(chunk_sums to, chunk_sums sum, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++)
        for (int c = 0; c < PANEL_COLUMNS; c++)
            to[r][c] += sum[r][c];
}

/* The keys of a piece of the sum, for all rows. */
static void pv_keys(const struct heads *h, const struct heads_piece *at, enum product kind,
                    const struct product_piece *keys, uint32_t *panel, chunk_sums sum)
{
    const struct grid *g = &h->grid;
    const struct tensor *p = g->call->in[0], *v = g->call->in[1];
    struct panel_piece piece = {.columns = PANEL_COLUMNS,
                                .panel = panel,
                                .K = keys->count,
                                .step = keys->step,
                                .goes_on = !keys->begins_block};

    g->panels->pack_columns(
        (const bf16 *)v->data + at->head * v->stride[0] + keys->k * v->stride[1] + at->column,
        v->stride[1], min_i64(g->N - at->column, PANEL_COLUMNS), keys->count, panel);
    for (int64_t r = at->first; r < at->end; r += PANEL_ROWS) {
        piece.rows = (int)min_i64(at->end - r, PANEL_ROWS);
        for (int i = 0; i < piece.rows; i++)
            piece.x[i] = cpu_row(p, at->head * g->rows + r + i) + keys->k;
        g->panels->sums[kind](&piece, sum + (r - at->first));
    }
}

static void pv_sums_by(const struct heads *h, const struct heads_piece *at,
                       const struct product_rule *rule, struct pv_sums *sums)
{
    struct product_cut cut = product_cut_of(rule, h->grid.K, PANEL_PIECE_MOST);
    _Alignas(64) uint32_t panel[PANEL_PIECE_MOST / 2 * PANEL_COLUMNS];
    struct product_piece keys;

    while (product_cut_next(&cut, &keys)) {
        float(*of_part)[PANEL_COLUMNS] = keys.first_part ? sums->total : sums->part;

        pv_keys(h, at, rule->kind, &keys, panel, keys.first_block ? of_part : sums->block);
        if (keys.ends_block && !keys.first_block)
            add_rows(of_part, sums->block, at->end - at->first);
        if (keys.ends_part && !keys.first_part)
            add_rows(sums->total, sums->part, at->end - at->first);
    }
}

/* Columns [from, to) of the panel of one row. */
static void pv_finish(const struct heads *h, const struct heads_piece *at, int64_t r, int64_t from,
                      int64_t to, const struct pv_sums *sums)
{
    const struct grid *g = &h->grid;
    const int64_t head = at->head * h->shared + r / h->tokens;
    bf16 *y = cpu_row(g->call->out, r % h->tokens) + head * g->N + at->column + from;

    (g->rule->flushes_output ? g->panels->finish_flushed : g->panels->finish)(
        &sums->total[r - at->first][from], NULL, y, to - from);
}

/* DEALT: those outputs that are alone, or those that are not.  count: only counts them. */
static int64_t pv_dealt(const struct heads *h, const struct heads_piece *at, int alone, int count,
                        const struct pv_sums *sums)
{
    const struct grid *g = &h->grid;
    const int64_t columns = min_i64(g->N - at->column, PANEL_COLUMNS);
    int64_t outputs = 0, until;

    for (int64_t r = at->first; r < at->end; r++)
        for (int64_t c = 0; c < columns; c = until) {
            const int is =
                product_is_alone(&g->rule->shape, at->head * g->rows + r, at->column + c, &until);

            until = min_i64(until - at->column, columns);
            if (is != alone)
                continue;
            outputs += until - c;
            if (!count)
                pv_finish(h, at, r, c, until, sums);
        }
    return outputs;
}

static void matmul_pv_piece(const void *work, int64_t piece)
{
    const struct heads *h = work;
    const struct grid *g = &h->grid;
    const struct heads_piece at = heads_piece_of(h, piece);
    struct pv_sums sums;

    if (g->rule->kind == PRODUCT_DEALT) {
        for (int alone = 0; alone < 2; alone++) {
            const struct product_rule rule = product_rule_dealt(g->rule, alone);

            if (!pv_dealt(h, &at, alone, 1, &sums))
                continue;
            pv_sums_by(h, &at, &rule, &sums);
            pv_dealt(h, &at, alone, 0, &sums);
        }
        return;
    }
    pv_sums_by(h, &at, g->rule, &sums);
    for (int64_t r = at.first; r < at.end; r++)
        pv_finish(h, &at, r, 0, min_i64(g->N - at.column, PANEL_COLUMNS), &sums);
}

int cpu_pv_panels(const struct op_call *call, const struct product_rule *rule)
{
    const struct tensor *v = call->in[1];
    const struct heads h = heads_of(call, rule, v->shape[2], v->shape[1]);

    cpu_run(call, matmul_pv_piece, &h, v->shape[0] * h.grid.columns * h.grid.chunks);
    return 0;
}
