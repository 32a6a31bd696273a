/* generation_config.c - see generation_config.h. */
#include "server/model/generation_config.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_IDS = 1 << 20, MOST_SEQUENCES = 1 << 14 };

/* Where a key stands and what is wrong with it. */
struct place {
    const char *where, *key;
    int64_t vocab_size;
    struct error *err;
};

static int bad(const struct place *p, const char *what)
{
    return error_param(p->err, 400, p->where ? p->where : p->key, "%s%s%s: %s",
                       p->where ? p->where : "", p->where ? ": " : "", p->key, what);
}

static int no_memory(const struct place *p)
{
    return error_set(p->err, 500, "no memory for %s", p->key);
}

/* ---- what a key may hold ---- */

static int read_id(const struct place *p, const json_t *value, int64_t *out)
{
    char what[96];

    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return bad(p, "not a token id from 0, or a list of them");
    *out = json_integer_value(value);
    if (*out < p->vocab_size)
        return 0;
    snprintf(what, sizeof(what), "token id %lld is not in 0..%lld", (long long)*out,
             (long long)p->vocab_size - 1);
    return bad(p, what);
}

/* An id or a list of them. */
static int read_ids(const struct place *p, const json_t *value, struct token_ids *out)
{
    const int list = json_is_array(value);
    const size_t count = list ? json_array_size(value) : 1;

    if (count > MOST_IDS)
        return bad(p, "more than 1048576 token ids");
    out->at = calloc(count ? count : 1, sizeof(*out->at));
    if (!out->at)
        return no_memory(p);
    out->count = (int64_t)count;
    for (size_t i = 0; i < count; i++)
        if (read_id(p, list ? json_array_get(value, i) : value, &out->at[i]))
            return -1;
    return 0;
}

/* A file's ids beyond the vocabulary suppress nothing, as in transformers; a request's are mistakes. */
static int read_suppressed(const struct place *p, const json_t *value, struct token_ids *out)
{
    json_t *kept, *id;
    size_t i;
    int rc;

    if (!p->where || !json_is_array(value))
        return read_ids(p, value, out);
    kept = json_array();
    json_array_foreach (value, i, id)
        if (!json_is_integer(id) || json_integer_value(id) < p->vocab_size)
            json_array_append(kept, id);
    rc = kept ? read_ids(p, kept, out) : no_memory(p);
    json_decref(kept);
    return rc;
}

static int is_sequence(const json_t *value)
{
    return json_is_array(value) && json_array_size(value) > 0;
}

/* [[id, ...], ...], each with a bias of -infinity. */
static int read_bad_words(const struct place *p, const json_t *value, struct token_biases *out)
{
    const size_t count = json_array_size(value);

    if (!count || count > MOST_SEQUENCES)
        return bad(p, "not a list of 1 to 16384 lists of token ids");
    out->at = calloc(count, sizeof(*out->at));
    if (!out->at)
        return no_memory(p);
    for (size_t i = 0; i < count; i++) {
        const json_t *ids = json_array_get(value, i);

        if (!is_sequence(ids))
            return bad(p, "not a list of lists of token ids");
        out->at[i].bias = -INFINITY;
        out->count++;
        if (read_ids(p, ids, &out->at[i].ids))
            return -1;
    }
    return 0;
}

/* [[[id, ...], bias], ...]. */
static int read_biases(const struct place *p, const json_t *value, struct token_biases *out)
{
    const size_t count = json_array_size(value);

    if (!count || count > MOST_SEQUENCES)
        return bad(p, "not a list of 1 to 16384 pairs of a list of token ids and a number");
    out->at = calloc(count, sizeof(*out->at));
    if (!out->at)
        return no_memory(p);
    for (size_t i = 0; i < count; i++) {
        const json_t *pair = json_array_get(value, i), *bias = json_array_get(pair, 1);

        if (json_array_size(pair) != 2 || !is_sequence(json_array_get(pair, 0)) ||
            !json_is_real(bias))
            return bad(p, "not a list of pairs of a list of token ids and a float");
        out->at[i].bias = (float)json_real_value(bias);
        out->count++;
        if (read_ids(p, json_array_get(pair, 0), &out->at[i].ids))
            return -1;
    }
    return 0;
}

static int read_decay(const struct place *p, const json_t *value, struct generation_config *g)
{
    const json_t *start = json_array_get(value, 0), *factor = json_array_get(value, 1);

    if (json_array_size(value) != 2 || !json_is_integer(start) || json_integer_value(start) < 0 ||
        !json_is_number(factor) || json_number_value(factor) <= 0)
        return bad(p, "not a pair of a number of tokens and a factor above 0");
    g->decay_start = json_integer_value(start);
    g->decay_factor = json_number_value(factor);
    return 0;
}

/* ---- the keys ---- */

enum kind { NUMBER, COUNT, BOOL, ID, IDS, SUPPRESSED, BAD_WORDS, BIASES, DECAY };

static const struct key {
    const char *name;
    enum kind kind;
    size_t offset;     /* of the field */
    double low, high;  /* NUMBER, COUNT: what is allowed */
    int low_open;      /* low itself is not */
    const char *range; /* in words */
} keys[] = {
#define FIELD(name, kind) #name, kind, offsetof(struct generation_config, name)
    {FIELD(repetition_penalty, NUMBER), 0, HUGE_VAL, 1, "not a number above 0"},
    {FIELD(no_repeat_ngram_size, COUNT), 0, 1 << 20, 0, "not a whole number from 0"},
    {FIELD(min_length, COUNT), 0, 1 << 30, 0, "not a whole number from 0"},
    {FIELD(min_new_tokens, COUNT), 0, 1 << 30, 0, "not a whole number from 0"},
    {FIELD(forced_bos_token_id, ID), 0, 0, 0, ""},
    {FIELD(forced_eos_token_id, IDS), 0, 0, 0, ""},
    {FIELD(remove_invalid_values, BOOL), 0, 0, 0, ""},
    {"exponential_decay_length_penalty", DECAY, 0, 0, 0, 0, ""},
    {FIELD(suppress_tokens, SUPPRESSED), 0, 0, 0, ""},
    {FIELD(begin_suppress_tokens, SUPPRESSED), 0, 0, 0, ""},
    {"bad_words_ids", BAD_WORDS, offsetof(struct generation_config, bad_words), 0, 0, 0, ""},
    {FIELD(sequence_bias, BIASES), 0, 0, 0, ""},
    {FIELD(do_sample, BOOL), 0, 0, 0, ""},
    /* SAMPLING_KEYS */
    {FIELD(temperature, NUMBER), 0, HUGE_VAL, 1, "not a number above 0"},
    {FIELD(top_k, COUNT), 0, 1 << 30, 0, "not a whole number from 0"},
    {FIELD(top_p, NUMBER), 0, 1, 0, "not a number from 0 to 1"},
    {FIELD(min_p, NUMBER), 0, 1, 0, "not a number from 0 to 1"},
#undef FIELD
};

/* Keys that change the choice and are not mirrored: fine with this value alone, with the words below,
 * and with null. */
static const struct {
    const char *name;
    double only;
    int sampling; /* matters only there */
} others[] = {
    {"num_beams", 1, 0},
    {"num_beam_groups", 1, 0},
    {"num_return_sequences", 1, 0},
    {"penalty_alpha", 0, 0},
    {"guidance_scale", 1, 0},
    {"dola_layers", NAN, 0},
    {"prompt_lookup_num_tokens", NAN, 0},
    {"assistant_early_exit", NAN, 0},
    {"use_mtp", 0, 0},
    {"constraints", NAN, 0},
    {"force_words_ids", NAN, 0},
    {"watermarking_config", NAN, 0},
    {"stop_strings", NAN, 0},
    {"max_time", NAN, 0},
    {"renormalize_logits", 0, 0},
    {"token_healing", 0, 0},
    {"use_cache", 1, 0},
    {"typical_p", 1, 1},
    {"epsilon_cutoff", 0, 1},
    {"eta_cutoff", 0, 1},
    {"top_h", NAN, 1},
    {"encoder_repetition_penalty", 1, 0}, /* counts the prompt's tokens where there is no encoder */
    {"encoder_no_repeat_ngram_size", 0, 0},
    {"prefill_chunk_size", NAN, 0},
    {"cache_implementation", NAN, 0},
};

/* "hybrid" was once written into every model with a window, and counts as none. */
static const struct {
    const char *key, *word;
} words[] = {{"cache_implementation", "dynamic"},
             {"cache_implementation", "offloaded"},
             {"cache_implementation", "hybrid"}};

enum {
    KEYS = sizeof(keys) / sizeof(keys[0]),
    OTHERS = sizeof(others) / sizeof(others[0]),
    SAMPLING_KEYS = 4 /* the last of keys */
};

const char *generation_config_key(int i, int sampling)
{
    return i < KEYS - (sampling ? 0 : SAMPLING_KEYS) ? keys[i].name : NULL;
}

/* ---- defaults ---- */

void generation_config_init(struct generation_config *g, int64_t vocab_size)
{
    memset(g, 0, sizeof(*g));
    g->vocab_size = vocab_size;
    g->repetition_penalty = 1;
    g->min_new_tokens = -1;
    g->forced_bos_token_id = -1;
    g->decay_start = -1;
    g->temperature = 1;
    g->top_k = 50;
    g->top_p = 1;
    g->min_p = -1;
}

static void ids_clear(struct token_ids *ids)
{
    free(ids->at);
    memset(ids, 0, sizeof(*ids));
}

static void biases_clear(struct token_biases *biases)
{
    for (int64_t i = 0; i < biases->count; i++)
        ids_clear(&biases->at[i].ids);
    free(biases->at);
    memset(biases, 0, sizeof(*biases));
}

void generation_config_clear(struct generation_config *g)
{
    ids_clear(&g->eos_token_id);
    ids_clear(&g->forced_eos_token_id);
    ids_clear(&g->suppress_tokens);
    ids_clear(&g->begin_suppress_tokens);
    biases_clear(&g->sequence_bias);
    biases_clear(&g->bad_words);
}

/* Takes a key back to its default. */
static void reset(struct generation_config *g, const struct key *k)
{
    struct generation_config defaults;
    void *field = (char *)g + k->offset;

    generation_config_init(&defaults, g->vocab_size);
    switch (k->kind) {
    case NUMBER:
        *(double *)field = *(const double *)((const char *)&defaults + k->offset);
        break;
    case COUNT:
    case ID:
        *(int64_t *)field = *(const int64_t *)((const char *)&defaults + k->offset);
        break;
    case BOOL:
        *(int *)field = 0;
        break;
    case IDS:
    case SUPPRESSED:
        ids_clear(field);
        break;
    case BAD_WORDS:
    case BIASES:
        biases_clear(field);
        break;
    case DECAY:
        g->decay_start = -1;
        break;
    }
}

/* ---- reading ---- */

static int read_number(const struct place *p, const struct key *k, const json_t *value, double *out)
{
    *out = json_number_value(value);
    return !json_is_number(value) || *out < k->low || *out > k->high ||
                   (k->low_open && *out == k->low)
               ? bad(p, k->range)
               : 0;
}

static int read_key(const struct place *p, struct generation_config *g, const struct key *k,
                    const json_t *value)
{
    void *field = (char *)g + k->offset;
    double number;

    switch (k->kind) {
    case NUMBER:
        return read_number(p, k, value, field);
    case COUNT:
        if (!json_is_integer(value) || read_number(p, k, value, &number))
            return bad(p, k->range);
        *(int64_t *)field = json_integer_value(value);
        return 0;
    case BOOL:
        if (!json_is_boolean(value))
            return bad(p, "not true or false");
        *(int *)field = json_is_true(value);
        return 0;
    case ID:
        return read_id(p, value, field);
    case IDS:
        return read_ids(p, value, field);
    case SUPPRESSED:
        return read_suppressed(p, value, field);
    case BAD_WORDS:
        return read_bad_words(p, value, field);
    case BIASES:
        return read_biases(p, value, field);
    case DECAY:
        return read_decay(p, value, g);
    }
    return -1;
}

static int is_fine_word(const char *key, const json_t *value)
{
    const char *text = json_string_value(value);

    for (size_t i = 0; text && i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(key, words[i].key) == 0 && strcmp(text, words[i].word) == 0)
            return 1;
    return 0;
}

static int check_other(const struct place *p, const json_t *value, double only)
{
    const double number = json_is_boolean(value)  ? json_is_true(value)
                          : json_is_number(value) ? json_number_value(value)
                                                  : NAN;

    if (number == only || is_fine_word(p->key, value) ||
        (json_is_array(value) && json_array_size(value) == 0))
        return 0;
    return bad(p, p->where ? "not supported; a null in the request says to do without"
                           : "not supported");
}

int generation_config_read(struct generation_config *g, const json_t *object, const char *where,
                           int sampling, struct error *err)
{
    struct place p = {.where = where, .vocab_size = g->vocab_size, .err = err};

    for (int i = 0; i < KEYS - (sampling ? 0 : SAMPLING_KEYS); i++) {
        const json_t *value = json_object_get(object, p.key = keys[i].name);

        if (!value || (where && keys[i].offset == offsetof(struct generation_config, do_sample) &&
                       keys[i].kind == BOOL))
            continue;
        reset(g, &keys[i]);
        if (!json_is_null(value) && read_key(&p, g, &keys[i], value))
            return -1;
    }
    return 0;
}

int generation_config_check(const json_t *file, const char *where, const json_t *request,
                            int sampling, struct error *err)
{
    struct place p = {.err = err};

    for (int i = 0; i < OTHERS; i++) {
        const json_t *asked = json_object_get(request, p.key = others[i].name);
        const json_t *value = asked ? asked : json_object_get(file, others[i].name);

        p.where = asked ? NULL : where;
        if (value && !json_is_null(value) && (sampling || !others[i].sampling) &&
            check_other(&p, value, others[i].only))
            return -1;
    }
    return 0;
}

int generation_config_is_plain(const struct generation_config *g)
{
    return !g->do_sample && g->sequence_bias.count == 0 && g->repetition_penalty == 1 &&
           g->no_repeat_ngram_size == 0 && g->bad_words.count == 0 &&
           (g->min_new_tokens < 0 ? g->min_length : g->min_new_tokens) == 0 &&
           g->forced_bos_token_id < 0 && g->forced_eos_token_id.count == 0 &&
           !g->remove_invalid_values && g->decay_start < 0 && g->suppress_tokens.count == 0 &&
           g->begin_suppress_tokens.count == 0;
}
