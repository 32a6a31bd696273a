/* panels_tile.c - the sums of some rows against a panel, by any rule: see panels.h. */
#include <string.h>

#include "kernels/cpu/finish.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/product_cut.h"

typedef float sums[PANEL_ROWS][PANEL_COLUMNS];

static int columns_of(const struct panel_tile *t)
{
    return t->half ? PANEL_COLUMNS / 2 : PANEL_COLUMNS;
}

static void add_sums(float (*to)[PANEL_COLUMNS], float (*sum)[PANEL_COLUMNS], int rows, int columns)
{
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            to[r][c] += sum[r][c];
}

/* Rows [first, first + rows) of the tile, all by this rule. */
static void sums_by(const struct panels *by, const struct product_rule *rule,
                    const struct panel_tile *t, int first, int rows, float (*total)[PANEL_COLUMNS])
{
    struct product_cut cut = product_cut_of(rule, t->K, t->K);
    struct panel_piece p = {.rows = rows, .columns = columns_of(t)};
    struct product_piece at;
    _Alignas(64) sums part, block;

    while (product_cut_next(&cut, &at)) {
        float(*of_part)[PANEL_COLUMNS] = at.first_part ? total : part;

        for (int r = 0; r < rows; r++)
            p.x[r] = t->x[first + r] + at.k;
        p.panel = t->panel + at.k / 2 * PANEL_COLUMNS;
        p.K = at.count;
        p.step = at.step;
        by->sums[rule->kind](&p, at.first_block ? of_part : block);
        if (!at.first_block)
            add_sums(of_part, block, rows, p.columns);
        if (at.ends_part && !at.first_part)
            add_sums(total, part, rows, p.columns);
    }
}

/* ---- DEALT ---- */

/* Which columns of a row are alone: from `column` on, `until` where that changes. */
static int is_alone(const struct panel_tile *t, int r, int column, int *until)
{
    int64_t end;
    const int alone = product_is_alone(&t->rule[r]->shape, t->row[r], t->column + column, &end);

    *until = end - t->column < t->columns ? (int)(end - t->column) : (int)t->columns;
    return alone;
}

/* Whether any output of the tile is alone, or is not. */
static int has_some(const struct panel_tile *t, int alone)
{
    for (int r = 0; r < t->rows; r++)
        for (int c = 0, until; c < t->columns; c = until)
            if (is_alone(t, r, c, &until) == alone)
                return 1;
    return 0;
}

static void sums_dealt(const struct panels *by, const struct panel_tile *t,
                       float (*sum)[PANEL_COLUMNS])
{
    const struct product_rule together = product_rule_dealt(t->rule[0], 0);
    const struct product_rule alone = product_rule_dealt(t->rule[0], 1);
    _Alignas(64) float own[1][PANEL_COLUMNS];

    if (has_some(t, 0))
        sums_by(by, &together, t, 0, t->rows, sum);
    for (int r = 0; r < t->rows; r++) {
        int computed = 0;

        for (int c = 0, until; c < t->columns; c = until)
            if (is_alone(t, r, c, &until)) {
                if (!computed++)
                    sums_by(by, &alone, t, r, 1, own);
                memcpy(&sum[r][c], &own[0][c], (size_t)(until - c) * sizeof(float));
            }
    }
}

void panels_tile(const struct panels *by, const struct panel_tile *t)
{
    const struct product_rule *rule = t->rule[0];
    _Alignas(64) sums sum;

    if (rule->kind == PRODUCT_DEALT)
        sums_dealt(by, t, sum);
    else
        sums_by(by, rule, t, 0, t->rows, sum);
    for (int r = 0; r < t->rows; r++) {
        (rule->flushes_output ? by->finish_flushed : by->finish)(sum[r], t->bias, t->y[r],
                                                                 t->columns);
        if (t->add[r])
            finish_add(t->y[r], t->add[r], t->columns);
    }
}
