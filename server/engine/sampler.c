/* sampler.c - see sampler.h. */
#include "server/engine/sampler.h"

#include "kernels/cpu/rows.h"
#include "kernels/cpu/sleef.h"

int64_t sampler_argmax(const bf16 *logits, int64_t count)
{
    return rows_best()->argmax(logits, count);
}

int64_t sampler_argmax_f64(const double *logits, int64_t count)
{
    int64_t best = 0;

    for (int64_t i = 1; i < count && logits[best] == logits[best]; i++)
        if (logits[i] > logits[best] || logits[i] != logits[i])
            best = i;
    return best;
}

void sampler_log_softmax(const bf16 *logits, int64_t count, const struct numerics *numerics,
                         float *out)
{
    float max, log_sum;

    if (count < 1)
        return;
    log_sum = sleef_logf(rows_best()->exp_sum(logits, count, numerics->lanes, &max));
    for (int64_t i = 0; i < count; i++)
        out[i] = (bf16_to_f32(logits[i]) - max) - log_sum;
}

/* Whether token a comes before token b.  A NaN comes before every number, as in torch.topk. */
static int comes_before(const bf16 *logits, int64_t a, int64_t b)
{
    const float x = bf16_to_f32(logits[a]), y = bf16_to_f32(logits[b]);
    const int x_nan = x != x, y_nan = y != y;

    if (x_nan != y_nan)
        return x_nan;
    if (!x_nan && x != y)
        return x > y;
    return a < b;
}

/* Moves heap[at] down to where no child comes after it: the last of the chosen is on top. */
static void heap_sink(const bf16 *logits, int64_t *heap, int64_t size, int64_t at)
{
    for (;;) {
        int64_t last = at, moved = heap[at];

        for (int64_t child = 2 * at + 1; child <= 2 * at + 2 && child < size; child++)
            if (comes_before(logits, heap[last], heap[child]))
                last = child;
        if (last == at)
            return;
        heap[at] = heap[last];
        heap[last] = moved;
        at = last;
    }
}

void sampler_top_k(const bf16 *logits, int64_t count, int64_t k, int64_t *index)
{
    for (int64_t i = 0; i < k; i++)
        index[i] = i;
    for (int64_t i = k / 2; i-- > 0;)
        heap_sink(logits, index, k, i);
    for (int64_t i = k; k > 0 && i < count; i++)
        if (comes_before(logits, i, index[0])) {
            index[0] = i;
            heap_sink(logits, index, k, 0);
        }
    for (int64_t size = k; size > 1;) {
        const int64_t last = index[0];

        index[0] = index[--size];
        index[size] = last;
        heap_sink(logits, index, size, 0);
    }
}
