/* logits_processor.c - see logits_processor.h. */
#include "server/engine/logits_processor.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/reduce.h"
#include "kernels/cpu/sleef.h"

struct logits_processor {
    const struct generation_config *config;
    int64_t prompt, max_length;
    uint64_t state; /* of the draws */
    int lanes;      /* of softmax's sum */
    float *scores;  /* [vocab_size] */
    float *other;   /* [vocab_size]: biases, copies of scores, probabilities */
    int64_t *order; /* [vocab_size]; NULL where nothing is sorted */
};

struct logits_processor *logits_processor_create(const struct generation_config *config,
                                                 int64_t prompt, int64_t max_new_tokens,
                                                 uint64_t seed, const struct numerics *numerics,
                                                 struct error *err)
{
    const size_t n = (size_t)config->vocab_size;
    struct logits_processor *p = calloc(1, sizeof(*p));

    if (p) {
        p->config = config;
        p->prompt = prompt;
        p->max_length = prompt + max_new_tokens;
        p->state = seed;
        p->lanes = numerics->lanes;
        p->scores = malloc(n * sizeof(*p->scores));
        p->other = malloc(n * sizeof(*p->other));
        p->order = config->do_sample ? malloc(n * sizeof(*p->order)) : NULL;
    }
    if (!p || !p->scores || !p->other || (config->do_sample && !p->order)) {
        logits_processor_free(p);
        error_set(err, 500, "no memory for the scores of %zu tokens", n);
        return NULL;
    }
    return p;
}

void logits_processor_free(struct logits_processor *p)
{
    if (!p)
        return;
    free(p->scores);
    free(p->other);
    free(p->order);
    free(p);
}

const float *logits_processor_scores(const struct logits_processor *p)
{
    return p->scores;
}

/* ---- processors ---- */

static void suppress(struct logits_processor *p, const struct token_ids *ids)
{
    for (int64_t i = 0; i < ids->count; i++)
        p->scores[ids->at[i]] = -INFINITY;
}

/* Nothing but these tokens. */
static void force(struct logits_processor *p, const int64_t *ids, int64_t count)
{
    for (int64_t i = 0; i < p->config->vocab_size; i++)
        p->scores[i] = -INFINITY;
    for (int64_t i = 0; i < count; i++)
        p->scores[ids[i]] = 0.0f;
}

static int is_single_eos(const struct generation_config *g, const struct token_ids *ids)
{
    for (int64_t i = 0; ids->count == 1 && i < g->eos_token_id.count; i++)
        if (g->eos_token_id.at[i] == ids->at[0])
            return 1;
    return 0;
}

/* Whether the text ends with all of the sequence but its last token. */
static int can_follow(const struct token_ids *sequence, const int64_t *ids, int64_t count)
{
    const int64_t prefix = sequence->count - 1;

    return prefix <= count &&
           memcmp(sequence->at, ids + count - prefix, (size_t)prefix * sizeof(*ids)) == 0;
}

/* SequenceBiasLogitsProcessor: of single tokens that come twice the last bias counts, longer
 * sequences add theirs; the sum goes to the scores.  spare: tokens that keep their score. */
static void add_biases(struct logits_processor *p, const struct token_biases *biases, int spare_eos,
                       const int64_t *ids, int64_t count)
{
    memset(p->other, 0, (size_t)p->config->vocab_size * sizeof(*p->other));
    for (int64_t i = 0; i < biases->count; i++) {
        const struct token_bias *b = &biases->at[i];

        if (b->ids.count == 1 && !(spare_eos && is_single_eos(p->config, &b->ids)))
            p->other[b->ids.at[0]] = b->bias;
    }
    for (int64_t i = 0; i < biases->count; i++) {
        const struct token_bias *b = &biases->at[i];

        if (b->ids.count > 1 && can_follow(&b->ids, ids, count))
            p->other[b->ids.at[b->ids.count - 1]] += b->bias;
    }
    for (int64_t i = 0; i < p->config->vocab_size; i++)
        p->scores[i] += p->other[i];
}

/* Each token of the text once, whatever its number: all are computed from the scores as they came. */
static void penalize_repetition(struct logits_processor *p, const int64_t *ids, int64_t count)
{
    const float penalty = (float)p->config->repetition_penalty;

    memcpy(p->other, p->scores, (size_t)p->config->vocab_size * sizeof(*p->other));
    for (int64_t i = 0; i < count; i++) {
        const float score = p->other[ids[i]];

        p->scores[ids[i]] = score < 0 ? score * penalty : score / penalty;
    }
}

static void ban_ngrams(struct logits_processor *p, const int64_t *ids, int64_t count)
{
    const int64_t size = p->config->no_repeat_ngram_size;
    const int64_t *prefix = ids + count - (size - 1);

    for (int64_t i = 0; i + size <= count; i++)
        if (memcmp(ids + i, prefix, (size_t)(size - 1) * sizeof(*ids)) == 0)
            p->scores[ids[i + size - 1]] = -INFINITY;
}

static void remove_invalid(struct logits_processor *p)
{
    for (int64_t i = 0; i < p->config->vocab_size; i++) {
        const float s = p->scores[i];

        p->scores[i] = s != s ? 0.0f : s == INFINITY ? FLT_MAX : s == -INFINITY ? -FLT_MAX : s;
    }
}

static void decay(struct logits_processor *p, int64_t count)
{
    const struct generation_config *g = p->config;
    const int64_t over = count - (g->decay_start + p->prompt);
    const float factor = (float)(pow(g->decay_factor, (double)over) - 1);

    for (int64_t i = 0; over > 0 && i < g->eos_token_id.count; i++)
        p->other[i] = fabsf(p->scores[g->eos_token_id.at[i]]) * factor;
    for (int64_t i = 0; over > 0 && i < g->eos_token_id.count; i++)
        p->scores[g->eos_token_id.at[i]] += p->other[i];
}

static int is_too_short(const struct logits_processor *p, int64_t count)
{
    const struct generation_config *g = p->config;

    return count < (g->min_new_tokens < 0 ? g->min_length : p->prompt + g->min_new_tokens);
}

static void process(struct logits_processor *p, const int64_t *ids, int64_t count)
{
    const struct generation_config *g = p->config;
    const int64_t begin = p->prompt + (p->prompt <= 1 && g->forced_bos_token_id >= 0);

    if (g->sequence_bias.count)
        add_biases(p, &g->sequence_bias, 0, ids, count);
    if (g->repetition_penalty != 1)
        penalize_repetition(p, ids, count);
    if (g->no_repeat_ngram_size && count >= g->no_repeat_ngram_size)
        ban_ngrams(p, ids, count);
    if (g->bad_words.count)
        add_biases(p, &g->bad_words, 1, ids, count);
    if (is_too_short(p, count))
        suppress(p, &g->eos_token_id);
    if (g->forced_bos_token_id >= 0 && count == 1)
        force(p, &g->forced_bos_token_id, 1);
    if (g->forced_eos_token_id.count && count == p->max_length - 1)
        force(p, g->forced_eos_token_id.at, g->forced_eos_token_id.count);
    if (g->remove_invalid_values)
        remove_invalid(p);
    if (g->decay_start >= 0)
        decay(p, count);
    suppress(p, &g->suppress_tokens);
    if (count == begin)
        suppress(p, &g->begin_suppress_tokens);
}

/* ---- what sampling adds ---- */

/* torch.softmax of f32 [n]: kernels/ops.h, "softmax", without the last rounding. */
static void softmax(const float *x, int64_t n, int lanes, float *y)
{
    struct reduce_lanes sum;
    float max = -INFINITY, total = 0;

    for (int64_t i = 0; i < n; i++)
        max = x[i] > max || x[i] != x[i] ? x[i] : max;
    for (int64_t i = 0; i < n; i++)
        y[i] = sleef_expf(x[i] - max);
    if (n >= lanes) {
        reduce_lanes_add(&sum, lanes, y, 0, n);
        total = reduce_lanes_sum(&sum, lanes);
    } else {
        for (int64_t i = 0; i < n; i++)
            total += y[i];
    }
    for (int64_t i = 0; i < n; i++)
        y[i] = y[i] * (1 / total);
}

/* torch.sort: ascending, NaN last, equals in the order of their indices. */
static int by_score(const void *a, const void *b, void *user)
{
    const float *scores = user;
    const int64_t i = *(const int64_t *)a, k = *(const int64_t *)b;
    const float x = scores[i], y = scores[k];

    if (x < y || (y != y && x == x))
        return -1;
    if (x > y || (x != x && y == y))
        return 1;
    return (i > k) - (i < k);
}

static void sort(struct logits_processor *p)
{
    for (int64_t i = 0; i < p->config->vocab_size; i++)
        p->order[i] = i;
    qsort_r(p->order, (size_t)p->config->vocab_size, sizeof(*p->order), by_score, p->scores);
}

static void keep_top_k(struct logits_processor *p)
{
    const int64_t n = p->config->vocab_size, k = p->config->top_k < n ? p->config->top_k : n;
    float last;

    sort(p);
    last = p->scores[p->order[n - k]];
    for (int64_t i = 0; i < n; i++)
        if (p->scores[i] < last)
            p->scores[i] = -INFINITY;
}

/* cumsum adds in double and rounds each sum; the softmax is of the sorted scores. */
static void keep_top_p(struct logits_processor *p)
{
    const int64_t n = p->config->vocab_size;
    const float limit = (float)(1 - p->config->top_p);
    double sum = 0;

    sort(p);
    for (int64_t i = 0; i < n; i++)
        p->other[i] = p->scores[p->order[i]];
    softmax(p->other, n, p->lanes, p->other);
    for (int64_t i = 0; i + 1 < n; i++) {
        sum += (double)p->other[i];
        if ((float)sum <= limit)
            p->scores[p->order[i]] = -INFINITY;
    }
}

static void keep_min_p(struct logits_processor *p)
{
    const int64_t n = p->config->vocab_size;
    int64_t top = 0;
    float limit;

    softmax(p->scores, n, p->lanes, p->other);
    for (int64_t i = 1; i < n; i++)
        if (p->other[i] > p->other[top])
            top = i;
    limit = (float)p->config->min_p * p->other[top];
    for (int64_t i = 0; i < n; i++)
        if (i != top && p->other[i] < limit)
            p->scores[i] = -INFINITY;
}

static void warp(struct logits_processor *p)
{
    const struct generation_config *g = p->config;
    const float temperature = (float)g->temperature;

    for (int64_t i = 0; g->temperature != 1 && i < g->vocab_size; i++)
        p->scores[i] /= temperature;
    if (g->top_k)
        keep_top_k(p);
    if (g->top_p < 1)
        keep_top_p(p);
    if (g->min_p >= 0)
        keep_min_p(p);
}

/* SplitMix64 (Steele, Lea and Flood, 2014), its upper 53 bits as a number in [0, 1). */
static double draw_number(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* The first token at which the sum of the probabilities, from the lowest id on, passes the number; -1:
 * there are none. */
static int64_t draw(struct logits_processor *p)
{
    const int64_t n = p->config->vocab_size;
    double sum = 0, at;
    int64_t last = -1;

    softmax(p->scores, n, p->lanes, p->other);
    for (int64_t i = 0; i < n; i++)
        sum += (double)p->other[i];
    at = draw_number(&p->state) * sum;
    sum = 0;
    for (int64_t i = 0; i < n; i++)
        if (p->other[i] > 0) {
            last = i;
            sum += (double)p->other[i];
            if (sum > at)
                break;
        }
    return last;
}

/* torch.argmax: the lowest index among equal maxima; the first NaN wins. */
static int64_t argmax(const float *x, int64_t n)
{
    int64_t best = 0;

    for (int64_t i = 0; i < n; i++) {
        if (x[i] != x[i])
            return i;
        if (x[i] > x[best])
            best = i;
    }
    return best;
}

int64_t logits_processor_choose(struct logits_processor *p, const int64_t *ids, int64_t count,
                                const bf16 *logits)
{
    const struct generation_config *g = p->config;

    for (int64_t i = 0; i < g->vocab_size; i++)
        p->scores[i] = bf16_to_f32(logits[i]);
    process(p, ids, count);
    if (!g->do_sample)
        return argmax(p->scores, g->vocab_size);
    warp(p);
    return draw(p);
}
