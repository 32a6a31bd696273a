/* panels_linear.c - linears with packed weights: one, or several with the same input; for one call of
 * the model or several; and the operations that follow them.  See panels.h. */
#include "kernels/cpu/panels.h"
#include "kernels/cpu/product_cut.h"
#include "kernels/cpu/products.h"

enum {
    CHUNK_TILES = 32, /* of rows: taken at once at most */
    CHUNK_ROWS = CHUNK_TILES * PANEL_ROWS,
    FEW_ROWS = 32, /* up to so many, threads share the columns only: each weight is read once */
    LINE = 64,     /* bytes of a cache line */
};

/* Linears with the same input, as one piece of work: all their panels, times all rows of all parts.
 * Panels are numbered through all linears (those of PRODUCT_GATED are computed in twos, one of each
 * linear), rows through all parts.  Threads share it out in units: with few rows a unit is half a
 * panel for all rows, else a whole panel for some of the rows. */
struct linears {
    const struct op_call *call, *end; /* as panels_linears has them */
    enum product_end how;
    int linears, parts;
    const struct panels *panels;
    int64_t K, rows;
    int64_t row_end[GROUP_PARTS];    /* one past the last row of each part */
    const struct product_rule *rule; /* of each linear and part, as `call` */
    int64_t panel_end[GROUP_STEPS];  /* one past the last panel of each linear */
    int64_t all_panels;              /* that the threads share */
    int64_t units, unit_rows, grain; /* units of a panel; rows of a unit, 0: half a panel */
    struct pool_soon soon;           /* what will be read after this */
};

/* Where a strip's outputs are written. */
enum target { TO_OUT, TO_SUM, TO_BUFFER };

/* What a thread computes at a time: rows [first, end) times a panel, or half a panel, of one linear. */
struct strip {
    const struct op_call *call; /* of the linear, [parts] */
    const struct product_rule *rule;
    int64_t first, end;
    int64_t column, columns;
    int half;
    enum target to;
    bf16 (*buffer)[PANEL_COLUMNS]; /* [end - first] */
    const char *next;              /* the panel that is wanted after this one */
};

static const char *panel_of(const struct linears *p, int linear, int64_t panel)
{
    const int64_t pairs = (p->K + 1) / 2;

    return (const char *)((const uint32_t *)p->call[linear * p->parts].weight->packed +
                          panel * PANEL_COLUMNS * pairs);
}

/* ---- tiles ---- */

/* Returns the number of rows of the next tile; moves *at on to the part that row `first` is in. */
static int64_t tile_rows(const struct linears *p, const struct product_rule *rule, int *at,
                         int64_t first, int64_t end)
{
    int64_t rows = 0;

    while (first >= p->row_end[*at])
        ++*at;
    for (int k = *at; k < p->parts && product_cut_is_alike(&rule[k], &rule[*at]); k++)
        rows = min_i64(end, p->row_end[k]) - first;
    /* Tiles of nearly equal size, so that the last one is not left with a single row. */
    return cpu_pieces(rows, cpu_pieces(rows, PANEL_ROWS));
}

/* Row i of the tile is row `row` of the part. */
static void row_bind(const struct linears *p, const struct strip *s, struct panel_tile *t, int i,
                     int part, int64_t row)
{
    const struct op_call *call = &s->call[part], *end = s->to == TO_SUM ? &p->end[part] : NULL;

    t->x[i] = cpu_row(call->in[0], row);
    t->rule[i] = &s->rule[part];
    t->row[i] = call->scope.row + row;
    t->add[i] = end ? cpu_row(end->in[end->in[0] == call->out], row) + s->column : NULL;
    if (s->to == TO_BUFFER)
        return;
    t->y[i] = cpu_row(end ? end->out : call->out, row) + s->column;
    /* So that the output's lines are in the cache when the sums are stored. */
    __builtin_prefetch(t->y[i], 1);
    __builtin_prefetch(t->y[i] + PANEL_COLUMNS / 2, 1);
}

/* Points the tile at rows first .. first + t->rows - 1, whichever parts they belong to. */
static void tile_bind(const struct linears *p, const struct strip *s, struct panel_tile *t, int at,
                      int64_t first)
{
    for (int i = 0; i < t->rows; i++) {
        while (first + i >= p->row_end[at])
            at++;
        row_bind(p, s, t, i, at, first + i - (at ? p->row_end[at - 1] : 0));
        if (s->to == TO_BUFFER)
            t->y[i] = s->buffer[first + i - s->first];
    }
}

static void strip_run(const struct linears *p, const struct strip *s, const char *panel)
{
    const struct op_call *call = s->call;
    const char *ahead = s->next;
    int few, at = 0;
    struct panel_tile t = {
        .half = s->half,
        .panel = (const uint32_t *)(const void *)panel,
        .K = p->K,
        .column = s->column,
        .bias = call->bias ? (const bf16 *)call->bias->plain.data + s->column : NULL,
        .columns = s->columns,
        .next = s->next,
    };

    /* The tiles of a strip together prefetch the whole next panel.  Each also prefetches the rows of
     * the next tile or, if there are few tiles, twice as much of the panel. */
    t.stride[0] = cpu_pieces((int64_t)(PANEL_COLUMNS * sizeof(uint32_t)),
                             cpu_pieces(s->end - s->first, PANEL_ROWS));
    few = t.stride[0] > LINE;
    t.stride[1] = few ? t.stride[0] : 2 * PANEL_ROWS * (int64_t)sizeof(bf16);
    for (int64_t r = s->first; r < s->end; r += t.rows) {
        t.rows = (int)tile_rows(p, s->rule, &at, r, s->end);
        tile_bind(p, s, &t, at, r);
        t.ahead[0] = ahead;
        t.ahead[1] = few ? ahead + LINE : (const char *)(t.x[t.rows - 1] + call->in[0]->stride[0]);
        p->panels->tile(&t);
        ahead += (p->K + 1) / 2 * t.stride[0];
    }
}

/* ---- ranges of units, which lie in one panel ---- */

/* If `panel` is the last of this thread's share, returns where the thread will begin to read in the
 * work that follows (`soon`).  NULL: it is not the last one, or what follows is not known. */
static const char *panel_after_all(const struct linears *p, int64_t panel)
{
    const int64_t threads = p->call->backend->threads, member = panel * threads / p->all_panels;

    if (!p->soon.at[0] || panel + 1 != p->all_panels * (member + 1) / threads)
        return NULL;
    return (const char *)p->soon.at[0] + (size_t)(p->soon.units * member / threads) * p->soon.unit;
}

/* Returns the strip that is units [first, end) of a linear's panel. */
static struct strip strip_of(const struct linears *p, int linear, int64_t panel, int64_t first,
                             int64_t end)
{
    const struct op_call *call = &p->call[linear * p->parts];
    struct strip s = {.call = call,
                      .rule = &p->rule[linear * p->parts],
                      .end = p->rows,
                      .column = panel * PANEL_COLUMNS};

    if (p->unit_rows) {
        s.first = min_i64(first * p->unit_rows, p->rows);
        s.end = min_i64(end * p->unit_rows, p->rows);
    } else if (end - first < p->units) {
        s.half = 1;
        s.column += first * PANEL_COLUMNS / 2;
    }
    s.columns = min_i64(call->weight->plain.shape[0] - s.column, PANEL_COLUMNS >> s.half);
    return s;
}

/* Returns whether a strip has nothing to compute: the last units of a panel may have no rows, the
 * second half of the last panel no columns. */
static int strip_is_empty(const struct strip *s)
{
    return s->columns <= 0 || s->first >= s->end;
}

static const char *strip_panel(const struct linears *p, int linear, int64_t panel,
                               const struct strip *s)
{
    return panel_of(p, linear, panel) +
           (s->column - panel * PANEL_COLUMNS) * (int64_t)sizeof(uint32_t);
}

static void store_range(const struct linears *p, int64_t panel, int64_t first, int64_t end)
{
    const char *after_all = panel_after_all(p, panel);
    struct strip s;
    int linear = 0, next;

    while (panel >= p->panel_end[linear])
        linear++;
    next = linear;
    panel -= linear ? p->panel_end[linear - 1] : 0;
    s = strip_of(p, linear, panel, first, end);
    if (strip_is_empty(&s))
        return;
    s.to = p->how == PRODUCT_ADD ? TO_SUM : TO_OUT;
    next += panel + 1 == p->panel_end[linear] - (linear ? p->panel_end[linear - 1] : 0);
    s.next = end < p->units      ? panel_of(p, linear, panel)
             : after_all         ? after_all
             : next == linear    ? panel_of(p, linear, panel + 1)
             : next < p->linears ? panel_of(p, next, 0)
                                 : panel_of(p, linear, panel);
    strip_run(p, &s, strip_panel(p, linear, panel, &s));
}

/* Writes silu(gate) * up for the strip's rows, with the roundings of silu and mul. */
static void gated_finish(const struct linears *p, const struct strip *s,
                         bf16 (*gate)[PANEL_COLUMNS], bf16 (*up)[PANEL_COLUMNS])
{
    const struct rows *rows = cpu_of(p->call)->rows;
    int at = 0;

    for (int64_t r = s->first; r < s->end; r++) {
        int64_t row;

        while (r >= p->row_end[at])
            at++;
        row = r - (at ? p->row_end[at - 1] : 0);
        rows->gate(gate[r - s->first], up[r - s->first], cpu_row(p->end[at].out, row) + s->column,
                   s->columns);
    }
}

static void gated_range(const struct linears *p, int64_t panel, int64_t first, int64_t end)
{
    const char *after_all = panel_after_all(p, panel);
    bf16 sums[2][CHUNK_ROWS][PANEL_COLUMNS];
    struct strip s;

    for (int l = 0; l < 2; l++) {
        const int64_t after = min_i64(panel + l, p->panel_end[0] - 1);

        s = strip_of(p, l, panel, first, end);
        if (strip_is_empty(&s))
            return;
        s.to = TO_BUFFER;
        s.buffer = sums[l];
        s.next = l && after_all && end == p->units
                     ? after_all
                     : panel_of(p, !l, end < p->units ? panel : after);
        strip_run(p, &s, strip_panel(p, l, panel, &s));
    }
    gated_finish(p, &s, sums[0], sums[1]);
}

static void product_range(const void *work, int64_t first, int64_t end)
{
    const struct linears *p = work;
    const int64_t panel = first / p->units, before = panel * p->units;

    if (p->how == PRODUCT_GATED)
        gated_range(p, panel, first - before, end - before);
    else
        store_range(p, panel, first - before, end - before);
}

/* ---- all of it ---- */

int panels_serve(const struct cpu *cpu, const struct product_rule *rule, int64_t K)
{
    return cpu->panels && cpu->product[rule->kind][PRODUCT_OF_LINEAR] == cpu_linear_panels &&
           product_cut_is_paired(rule, K);
}

/* Sets row_end, and rule of every linear and part; returns 0 if not all parts read panels. */
static int rows_join(struct linears *p, struct product_rule *rule)
{
    for (int i = 0; i < p->linears * p->parts; i++) {
        const struct op_call *call = &p->call[i];
        const int k = i % p->parts;

        rule[i] = product_rule_of_linear(call);
        if (!call->weight->packed || !panels_serve(cpu_of(call), &rule[i], p->K))
            return 0;
        p->row_end[k] = (k ? p->row_end[k - 1] : 0) + cpu_row_count(call->in[0]);
    }
    p->rule = rule;
    p->rows = p->row_end[p->parts - 1];
    return 1;
}

/* Decides how the work is divided; returns the number of units. */
static int64_t units_of(struct linears *p)
{
    const int64_t tiles = cpu_pieces(p->rows, PANEL_ROWS), chunks = cpu_pieces(tiles, CHUNK_TILES);
    int64_t panels = 0;

    for (int l = 0; l < p->linears; l++) {
        panels += cpu_pieces(p->call[l * p->parts].weight->plain.shape[0], PANEL_COLUMNS);
        p->panel_end[l] = panels;
    }
    if (p->how == PRODUCT_GATED)
        panels = p->panel_end[0];
    p->all_panels = panels;
    p->unit_rows = p->rows <= FEW_ROWS ? 0 : PANEL_ROWS;
    p->grain = p->unit_rows ? cpu_pieces(tiles, chunks) : p->panels->halves;
    p->units = p->unit_rows ? p->grain * chunks : p->grain;
    return panels * p->units;
}

/* Returns the weights that will be read after this one, for pool_run_ranges. */
static struct pool_soon soon_of(const struct op_call *call)
{
    const struct weight *w = call->soon[0], *beside = call->soon[1];
    struct pool_soon soon = {0};

    if (!w || !w->packed)
        return soon;
    soon.unit = (size_t)((w->plain.shape[1] + 1) / 2) * PANEL_COLUMNS * sizeof(uint32_t);
    soon.units = cpu_pieces(w->plain.shape[0], PANEL_COLUMNS);
    soon.at[0] = w->packed;
    soon.at[1] = beside ? beside->packed : NULL;
    return soon;
}

int panels_linears(const struct op_call *call, int linears, int parts, enum product_end how,
                   const struct op_call *end)
{
    struct linears p = {.call = call,
                        .end = end,
                        .how = how,
                        .linears = linears,
                        .parts = parts,
                        .panels = cpu_of(call)->panels,
                        .K = call->weight->plain.shape[1]};
    struct product_rule rule[GROUP_STEPS * GROUP_PARTS];
    int64_t units;

    if (!p.panels || !rows_join(&p, rule))
        return -1;
    units = units_of(&p);
    p.soon = soon_of(call);
    if (p.rows)
        pool_run_ranges(cpu_of(call)->pool, product_range, &p, units, p.grain, &p.soon);
    return 0;
}

int cpu_linear_panels(const struct op_call *call, const struct product_rule *rule)
{
    return panels_linears(call, 1, 1, PRODUCT_STORE, NULL) ? cpu_linear_plain(call, rule) : 0;
}
