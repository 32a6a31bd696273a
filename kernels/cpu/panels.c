/* panels.c - packed weights; see panels.h. */
#include "kernels/base/integer.h"
#include "kernels/cpu/panels.h"

#include <string.h>

static int64_t weight_pairs(int64_t K)
{
    return (K + 1) / 2;
}

size_t panels_weight_bytes(const struct tensor *plain)
{
    return (size_t)cpu_pieces(plain->shape[0], PANEL_COLUMNS) * PANEL_COLUMNS *
           (size_t)weight_pairs(plain->shape[1]) * sizeof(uint32_t);
}

struct packing {
    const struct cpu *cpu;
    const struct tensor *plain; /* the rows to pack */
    uint32_t *packed;           /* their first panel */
};

static void pack_piece(const void *work, int64_t piece)
{
    const struct packing *p = work;
    const int64_t N = p->plain->shape[0], K = p->plain->shape[1], first = piece * PANEL_COLUMNS;

    p->cpu->panels->pack_rows((const bf16 *)p->plain->data + first * K, K,
                              min_i64(N - first, PANEL_COLUMNS), K,
                              p->packed + first * weight_pairs(K));
}

void panels_pack_weight(const struct cpu *cpu, const struct tensor *plain, int64_t first,
                        int64_t count, uint32_t *packed)
{
    const struct tensor rows = tensor_slice(plain, 0, first, count);
    const struct packing p = {cpu, &rows, packed + first * weight_pairs(plain->shape[1])};

    pool_run(cpu->pool, pack_piece, &p, cpu_pieces(count, PANEL_COLUMNS));
}

void panels_read_row(const uint32_t *packed, int64_t K, int64_t n, bf16 *row)
{
    const uint32_t *pair =
        packed + n / PANEL_COLUMNS * PANEL_COLUMNS * weight_pairs(K) + n % PANEL_COLUMNS;

    for (int64_t p = 0; p < K / 2; p++)
        memcpy(row + 2 * p, pair + p * PANEL_COLUMNS, sizeof(*pair));
    if (K % 2)
        row[K - 1] = (bf16)pair[K / 2 * PANEL_COLUMNS];
}
