/* amx_row.c - see amx_row.h.  Scores are binary32 where oneDNN's are, in its order, since a tie decides
 * about bits. */
#include "kernels/amx_row.h"

#include <math.h>

#include "kernels/amx_units.h"
#include "kernels/base/integer.h"

/* Where K goes, for `on_k` threads along it and `columns` columns at a time. */
struct row {
    const struct product_shape *shape;
    int64_t m_block, n_block; /* rows, columns of a block */
    int64_t on_k, columns;
    int64_t k_block, k_blocks; /* elements of a block, blocks of a chunk */
    int64_t block;             /* elements of a chunk: what sums are cut into */
    int copied;                /* the left operand is */
};

static int keeps_sums(const struct row *r, int64_t span)
{
    const int64_t K = r->shape->K;

    return (r->on_k > 1 && K > span) || K > span || K % r->k_block > 0;
}

/* Bytes that a chunk takes of L2. */
static int64_t row_bytes(const struct row *r)
{
    const int64_t span = r->k_block * r->k_blocks, m = r->m_block, n = r->columns;

    return 2 * span * m + 2 * span * n + 2 * r->n_block * span + 2 * m * n +
           (keeps_sums(r, span) ? 4 * m * n : 0);
}

/* Blocks of a chunk, of which a thread has `mine` in all, if it takes so many bytes: as many as fit,
 * but preferably without one left over. */
static int64_t row_blocks(const struct row *r, int64_t mine, int64_t bytes)
{
    const int64_t K = r->shape->K, limit = amx_l2_limit(r->shape), times = bytes / limit;
    const int64_t spared = K >= 4096 && !(K & (K - 1)) ? 2 : 0;
    int64_t many, few;

    if (times <= spared || r->k_blocks <= 1)
        return r->k_blocks;
    many = max_i64(r->k_blocks / times, 1);
    few = amx_parts(r->k_blocks, amx_parts(bytes, limit));
    return !(mine % many == 0 || mine % few < mine % many) || mine % few == 0 ? few : many;
}

/* Cuts K; r->copied says whether the left operand was copied for the choice before. */
static void row_cut(struct row *r)
{
    const int64_t K = r->shape->K;
    int64_t mine, line, bytes, tail;
    int extends;

    r->k_blocks = 1;
    if (K < AMX_TILE_K) {
        r->block = r->k_block = amx_whole(K, 2);
        r->copied = K % 2 != 0;
        return;
    }
    r->k_block = min_i64(amx_whole(amx_parts(K, r->on_k), 2), AMX_TILE_K);
    mine = r->k_blocks = amx_parts(amx_parts(K, r->k_block), r->on_k);
    line = !r->copied
               ? K
               : amx_whole(r->k_block, AMX_TILE_K) +
                     (r->k_block >= 512 && !(r->k_block & (r->k_block - 1)) ? AMX_TILE_K : 0);
    bytes = row_bytes(r) + (r->copied ? 2 * line * r->k_blocks * r->m_block : 0);
    r->k_blocks = row_blocks(r, mine, bytes);
    r->block = r->k_block * r->k_blocks;
    tail = K % r->k_block;
    extends = K % AMX_TILE_K && r->block > AMX_TILE_K && line == K;
    if (extends || (tail == 0 && K % r->block == 0)) {
        r->k_block = min_i64(r->block, K);
        r->k_blocks = 1;
    } else if (r->on_k == 1 && K == r->block + tail) {
        r->k_block = r->block;
        r->k_blocks = 2;
    }
    r->copied = !extends && K % 2 != 0;
}

static float row_score(const struct row *r)
{
    const struct product_shape *s = r->shape;
    const int64_t limit = amx_l2_limit(s), size = row_bytes(r), threads = s->host->threads;
    const int64_t span = r->k_block * r->k_blocks, along = threads / r->on_k;
    const int64_t m_block = r->m_block, columns = r->columns;
    const float of = threads < 100 ? (float)threads : 100, balance = (of - 1.0f) / of;
    const float l2 = 1.0f - fabsf((float)limit - (float)size) / (float)max_i64(limit, size);
    const float fill_m = fminf((float)m_block / (float)min_i64(s->M, 256), 1);
    const float fill_n = fminf((float)columns / (float)min_i64(s->N, 64 * (r->copied ? 4 : 1)), 1);
    float score = 1.0f / of * l2 + 0.5f * (fill_m + fill_n), even_mn, even_k = 1;

    if (balance > 0) {
        const int64_t pieces = s->B * amx_parts(s->M, m_block) * amx_parts(s->N, columns);

        even_mn = (float)s->B * ((float)s->M / (float)m_block) * ((float)s->N / (float)columns) /
                  (float)amx_whole(pieces, along) * (float)along;
        if (r->on_k > 1)
            even_k = 0.8f * ((float)s->K / (float)span) /
                     (float)amx_whole(amx_parts(s->K, span), r->on_k) * (float)r->on_k;
        score += balance * (even_mn * even_k / (float)threads);
    }
    return score / (1.0f + balance + 1.0f / of);
}

/* Whether the pieces leave threads idle that fewer columns at a time would not. */
static int row_is_uneven(const struct row *r, int64_t on_k_most)
{
    const struct product_shape *s = r->shape;
    const int64_t along = s->host->threads / r->on_k;
    const int64_t pieces = s->B * amx_parts(s->M, r->m_block) * amx_parts(s->N, r->columns);

    return pieces < along * 3 && pieces % along != 0 && on_k_most == 1 && s->M != 4;
}

void amx_row_plan(const struct product_shape *s, struct amx_plan *p)
{
    const int64_t n_block = min_i64(64, s->N), blocks = amx_parts(s->N, n_block);
    const int64_t deep = amx_parts(s->K, 1024), threads = s->host->threads;
    const int64_t on_k_most = s->B == 1 ? min_i64(max_i64(1, min_i64(7, threads / 8)), deep) : 1;
    struct row r = {.shape = s, .m_block = min_i64(s->M, 64), .n_block = n_block};
    float top = 0;

    *p = (struct amx_plan){0};
    for (r.on_k = 1; r.on_k <= on_k_most; r.on_k++) {
        const int64_t work = s->B * blocks * min_i64(deep, r.on_k);
        const int64_t wide = min_i64(work > 16 * threads ? 6 : 4, blocks);
        int found = 0;

        /* After all widths: where none was taken, single blocks of columns, whatever is uneven. */
        for (int64_t width = wide; width >= 0 && !(width == 0 && found); width--) {
            float score;

            r.columns = n_block * max_i64(width, 1);
            row_cut(&r);
            score = row_score(&r);
            if ((width && row_is_uneven(&r, on_k_most)) || score <= top)
                continue;
            top = score;
            found = width > 0;
            *p = (struct amx_plan){r.block, r.block, r.on_k, 0, amx_is_small(r.m_block, s->K)};
        }
    }
}
