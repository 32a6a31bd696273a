/* panels.h - products (numerics.h) of many rows against panels of 64 columns.
 *
 * A panel holds 64 columns of the right operand as pairs of k: uint32 [ceil(K/2)][64], the element
 * of even k in the low half, that of odd k in the high one.  What lies beyond K or N is zero.
 * Tiling over rows and columns changes no bit: every output is a sum of its own. */
#ifndef SAMEBIT_CPU_PANELS_H
#define SAMEBIT_CPU_PANELS_H

#include "kernels/cpu/cpu.h"

enum { PANEL_COLUMNS = 64, PANEL_ROWS = 6 /* at a time */ };

/* Some rows against a panel: y[r][c] = bf(sum of the products, as the rule has it, + bias[c]). */
struct panel_tile {
    const bf16 *x[PANEL_ROWS];
    bf16 *y[PANEL_ROWS];
    const bf16 *add[PANEL_ROWS]; /* not NULL: y[r][c] = bf(what it would be + add[r][c]) */
    int rows;                    /* 1..PANEL_ROWS */
    int half;                    /* 1: only the 32 columns from `panel` on (panels.halves is 2) */
    const uint32_t *panel;
    int64_t K;
    const struct product_rule *rule[PANEL_ROWS]; /* cut alike */
    int64_t row[PANEL_ROWS], column; /* in PyTorch's call; column: the first of the panel */
    const bf16 *bias;                /* of the first column; may be NULL */
    int64_t columns;                 /* 1..PANEL_COLUMNS */
    /* Memory to prefetch while computing: with pair p the cache line at ahead[i] + p * stride[i].  It
     * need not be mapped. */
    const char *ahead[2];
    int64_t stride[2];
    /* With one row: what will be read after this panel, whose first cache lines are prefetched. */
    const char *next;
};

/* Some rows against K elements of k of a panel. */
struct panel_piece {
    const bf16 *x[PANEL_ROWS]; /* from the first k on */
    int rows;                  /* 1..PANEL_ROWS */
    int columns;               /* that are computed: 64, or 32 where panels.halves is 2 */
    const uint32_t *panel;     /* from the first pair on */
    int64_t K;
    int64_t step; /* TILES: elements of a step, even, at most 32 */
    int goes_on;  /* TILES: 1: the sums are there and go on; 0: they begin at 0 */
};

/* sum[r][c] of row r and column c. */
typedef void panel_sums_fn(const struct panel_piece *p, float (*sum)[PANEL_COLUMNS]);

/* What an instruction set provides. */
struct panels {
    int halves; /* 2: a tile can also be computed in two halves of 32 columns; 1: it cannot */
    /* PAIRS, PAIRS_KEPT: the chain of one block.  TILES: the steps of one block, or of a part of it.
     * LANES16: all of K. */
    panel_sums_fn *sums[PRODUCT_KINDS];
    void (*tile)(const struct panel_tile *t);
    /* y[c] = bf(sum[c] + bias[c]), c < columns <= 64.  bias may be NULL. */
    void (*finish)(const float *sum, const bf16 *bias, bf16 *y, int64_t columns);
    /* The same where an output that would be denormal is a zero. */
    void (*finish_flushed)(const float *sum, const bf16 *bias, bf16 *y, int64_t columns);
    /* Columns of K contiguous elements, `step` elements apart, into a panel (64 columns; those
     * from `columns` on are zero). */
    void (*pack_rows)(const bf16 *w, int64_t step, int64_t columns, int64_t K, uint32_t *panel);
    /* The same of columns that lie side by side: element k of column c is w[k * step + c]. */
    void (*pack_columns)(const bf16 *w, int64_t step, int64_t columns, int64_t K, uint32_t *panel);
};

/* Computes a tile piece by piece, by any rule. */
void panels_tile(const struct panels *by, const struct panel_tile *t);

extern const struct panels panels_avx512_bf16, panels_avx2, panels_neon;

/* Whether a linear with K inputs reads panels, by this rule. */
int panels_serve(const struct cpu *cpu, const struct product_rule *rule, int64_t K);

/* A linear's weight [N, K] as panels, one after the other. */
size_t panels_weight_bytes(const struct tensor *plain);
/* Packs rows [first, first + count) of a weight, on all threads.  `first` begins a panel; the last row
 * ends a panel or the weight. */
void panels_pack_weight(const struct cpu *cpu, const struct tensor *plain, int64_t first,
                        int64_t count, uint32_t *packed);
/* Reads the K elements of row n from the panels. */
void panels_read_row(const uint32_t *packed, int64_t K, int64_t n, bf16 *row);

product_fn cpu_linear_panels, cpu_qk_panels, cpu_pv_panels;

/* What is done with the sums of linears. */
enum product_end {
    PRODUCT_STORE, /* each its own output */
    PRODUCT_ADD,   /* of one linear: `end` is the add of its output and something else */
    PRODUCT_GATED, /* of two: end is the mul of silu(the first one's output) and the second's */
};

/* Computes linears that have the same input, reading their weights once: call[l * parts + k] is linear
 * l of part k.  end: [parts] operations whose outputs are written instead of those of the linears (see
 * enum product_end).  An output may not overlap an input.  Returns -1, having done nothing, if not all
 * of them are against panels of this backend. */
int panels_linears(const struct op_call *call, int linears, int parts, enum product_end how,
                   const struct op_call *end);

#endif
