/* panels_body.h - the parts of struct panels that all instruction sets share, compiled once for
 * each of them.
 *
 * The file that includes it has defined one function, and no macro:
 *
 *     8 pairs of 8 columns, of which `columns` are there; panel: of the first pair and column
 *     static inline void pack_square(const bf16 *w, int64_t step, int64_t columns, uint32_t *panel) */
#include <string.h>

#include "kernels/cpu/finish.h"
#include "kernels/cpu/panels.h"

static void panels_finish(const float *sum, const bf16 *bias, bf16 *y, int64_t columns)
{
    finish_sums(sum, bias, y, columns);
}

static void panels_finish_flushed(const float *sum, const bf16 *bias, bf16 *y, int64_t columns)
{
    finish_sums_flushed(sum, bias, y, columns);
}

static void panels_pack_columns(const bf16 *restrict w, int64_t step, int64_t columns, int64_t K,
                                uint32_t *restrict panel)
{
    for (int64_t k = 0; k < K; k += 2, panel += PANEL_COLUMNS) {
        const bf16 *even = w + k * step, *odd = even + step;

        if (k + 1 < K)
            for (int64_t c = 0; c < columns; c++)
                panel[c] = (uint32_t)even[c] | (uint32_t)odd[c] << 16;
        else
            for (int64_t c = 0; c < columns; c++)
                panel[c] = even[c];
        memset(panel + columns, 0, (size_t)(PANEL_COLUMNS - columns) * sizeof(*panel));
    }
}

/* Packs pairs [first, ceil(K/2)) of columns that lie one after the other, one by one. */
static void pack_rows_from(const bf16 *w, int64_t step, int64_t columns, int64_t first, int64_t K,
                           uint32_t *panel)
{
    for (int64_t p = first; p < (K + 1) / 2; p++) {
        const size_t bytes = 2 * p + 1 < K ? sizeof(uint32_t) : sizeof(bf16);

        for (int64_t c = 0; c < PANEL_COLUMNS; c++) {
            uint32_t pair = 0;

            if (c < columns)
                memcpy(&pair, w + c * step + 2 * p, bytes);
            panel[p * PANEL_COLUMNS + c] = pair;
        }
    }
}

/* Packs one cache line of every column at a time. */
static void panels_pack_rows(const bf16 *w, int64_t step, int64_t columns, int64_t K,
                             uint32_t *panel)
{
    const int64_t lines = K / 32;

    for (int64_t line = 0; line < lines; line++)
        for (int64_t c = 0; c < PANEL_COLUMNS; c += 8)
            for (int half = 0; half < 2; half++) {
                const int64_t p = 16 * line + 8 * half;

                pack_square(w + c * step + 2 * p, step, columns - c, panel + p * PANEL_COLUMNS + c);
            }
    pack_rows_from(w, step, columns, 16 * lines, K, panel);
}
