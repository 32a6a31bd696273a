/* rotary.cu - see rotary.cuh.
 *
 * A table is made in pages of ROWS positions, each when one of its positions is first asked for.  The
 * rows of a call are copied from it into pinned memory and go to the device on the operations'
 * stream. */
#include "kernels/cuda/rotary.cuh"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda_state.cuh"
#include "kernels/cuda/staging.cuh"
#include "kernels/rotary.h"

enum { ROWS = 64 };

struct table {
    struct table *next;
    float *inv_freq; /* [half] */
    int64_t half;
    enum rotary_part part;
    enum rope_pairs layout;
    float scale;
    bf16 **page; /* [pages], each [ROWS, 2 * half] or NULL */
    int64_t pages;
};

struct rotary_tables {
    pthread_mutex_t lock;
    struct table *first;
};

struct rotary_tables *rotary_tables_open(void)
{
    struct rotary_tables *tables = (struct rotary_tables *)calloc(1, sizeof(*tables));

    if (tables)
        pthread_mutex_init(&tables->lock, NULL);
    return tables;
}

static void table_free(struct table *t)
{
    for (int64_t i = 0; i < t->pages; i++)
        free(t->page[i]);
    free(t->page);
    free(t->inv_freq);
    free(t);
}

void rotary_tables_close(struct rotary_tables *tables)
{
    if (!tables)
        return;
    for (struct table *t = tables->first, *next; t; t = next) {
        next = t->next;
        table_free(t);
    }
    pthread_mutex_destroy(&tables->lock);
    free(tables);
}

/* Returns the table for these attributes, which it makes if needed; NULL when there is no memory. */
static struct table *table_of(struct rotary_tables *tables, const struct op_attrs *attrs)
{
    const size_t size = (size_t)attrs->inv_freq_count * sizeof(float);
    struct table *t;

    for (t = tables->first; t; t = t->next)
        if (t->part == attrs->part && t->layout == attrs->table &&
            t->scale == attrs->rotary_scale && t->half == attrs->inv_freq_count &&
            memcmp(t->inv_freq, attrs->inv_freq, size) == 0)
            return t;
    t = (struct table *)calloc(1, sizeof(*t));
    if (t)
        t->inv_freq = (float *)malloc(size ? size : 1);
    if (!t || !t->inv_freq) {
        free(t);
        return NULL;
    }
    memcpy(t->inv_freq, attrs->inv_freq, size);
    t->half = attrs->inv_freq_count;
    t->part = attrs->part;
    t->layout = attrs->table;
    t->scale = attrs->rotary_scale;
    t->next = tables->first;
    tables->first = t;
    return t;
}

/* [2 * half] of one position. */
static void compute_row(const struct op_attrs *attrs, const float *inv_freq, int64_t position,
                        bf16 *y)
{
    const int64_t half = attrs->inv_freq_count;

    for (int64_t i = 0; i < half; i++) {
        const float angle = (float)position * inv_freq[i];

        const bf16 value = attrs->part == ROTARY_COS ? rotary_cos(angle, attrs->rotary_scale)
                                                     : rotary_sin(angle, attrs->rotary_scale);

        y[attrs->table == ROPE_NEIGHBOURS ? 2 * i : i] = value;
        y[attrs->table == ROPE_NEIGHBOURS ? 2 * i + 1 : i + half] = value;
    }
}

static void compute_page(const struct op_attrs *attrs, int64_t page, bf16 *y)
{
    for (int64_t row = 0; row < ROWS; row++, y += 2 * attrs->inv_freq_count)
        compute_row(attrs, attrs->inv_freq, page * ROWS + row, y);
}

static int table_grow(struct table *t, int64_t pages)
{
    bf16 **more = (bf16 **)realloc(t->page, (size_t)pages * sizeof(*more));

    if (!more)
        return -1;
    memset(more + t->pages, 0, (size_t)(pages - t->pages) * sizeof(*more));
    t->page = more;
    t->pages = pages;
    return 0;
}

/* Returns the row of a position, [2 * half]; NULL when there is no memory. */
static const bf16 *table_row(struct table *t, const struct op_attrs *attrs, int64_t position)
{
    const int64_t page = position / ROWS;

    if (page >= t->pages && table_grow(t, 2 * page + 8))
        return NULL;
    if (!t->page[page]) {
        t->page[page] = (bf16 *)malloc((size_t)(ROWS * 2 * t->half + 1) * sizeof(bf16));
        if (!t->page[page])
            return NULL;
        compute_page(attrs, page, t->page[page]);
    }
    return t->page[page] + position % ROWS * 2 * t->half;
}

/* Sends `rows` rows of the call from `first` on; they fit one piece of pinned memory.  t NULL: of an
 * inv_freq that no table keeps. */
static int send_rows(const struct op_call *call, struct table *t, const float *inv_freq,
                     int64_t first, int64_t rows)
{
    const struct cuda *cuda = cuda_of(call);
    const struct op_attrs *attrs = call->attrs;
    const int64_t width = 2 * attrs->inv_freq_count;
    bf16 *dst = (bf16 *)call->out->data + first * width;
    bf16 *piece = (bf16 *)staging_take(cuda->staging);
    int failed = 0;

    if (!piece)
        return -1;
    for (int64_t i = 0; i < rows && !failed; i++) {
        const int64_t position = op_position(&call->scope, first + i);
        const bf16 *row = t ? table_row(t, attrs, position) : NULL;

        failed = t && !row;
        if (row)
            memcpy(piece + i * width, row, (size_t)width * sizeof(bf16));
        else if (!t)
            compute_row(attrs, inv_freq, position, piece + i * width);
    }
    return staging_send(cuda->staging, dst, (size_t)(rows * width) * sizeof(bf16)) || failed ? -1
                                                                                             : 0;
}

int cuda_rotary(const struct op_call *call)
{
    const struct cuda *cuda = cuda_of(call);
    const int64_t tokens = call->out->shape[0], width = call->out->shape[1];
    const int64_t most = STAGING_BYTES / (width * (int64_t)sizeof(bf16));
    float room[ROPE_MOST_PAIRS];
    const float *inv_freq = rotary_of_call(call, room);
    const int kept = inv_freq == call->attrs->inv_freq;
    struct table *t = NULL;
    int rc;

    pthread_mutex_lock(&cuda->rotary->lock);
    if (kept)
        t = table_of(cuda->rotary, call->attrs);
    rc = (t || !kept) && most ? 0 : -1;
    for (int64_t i = 0; i < tokens && rc == 0; i += most)
        rc = send_rows(call, t, inv_freq, i, tokens - i < most ? tokens - i : most);
    pthread_mutex_unlock(&cuda->rotary->lock);
    return rc;
}
