/* engine.c - opens everything that one model needs, in the order in which mistakes are cheapest.
 *
 * The digest of the weights is one chain through the whole checkpoint, longer than all the rest on
 * any number of cores: the caller computes it, and a thread of its own does the rest meanwhile. */
#include "server/engine/engine.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "server/engine/prefixes.h"
#include "server/model/hf_folder.h"

static int open_families(struct engine *e, const struct engine_options *o, struct error *err)
{
    for (int a = 0; a < ATTENTION_COUNT; a++) {
        e->family[a] = family_for(o->families, e->config, (enum attention)a, err);
        if (!e->family[a])
            return -1;
    }
    return 0;
}

/* The first row of a family whose operation the backend lacks, or NULL. */
static const struct family_row *missing_row(const struct backend *b, const struct family *f)
{
    for (int section = 0; section < FAMILY_SECTIONS; section++)
        for (int i = 0; i < f->count[section]; i++)
            if (!b->op[f->rows[section][i].op])
                return &f->rows[section][i];
    return NULL;
}

static int check_attention(const struct engine *e, enum attention attention, struct error *err)
{
    const struct family_row *row = missing_row(e->backend, e->family[ATTENTION_EAGER]);

    if (e->program[attention])
        return 0;
    if (row)
        return error_param(err, 400, "numerics", "%s: numerics %s has no operation %s",
                           e->family[ATTENTION_EAGER]->name, e->backend->numerics->name,
                           op_name(row->op));
    return error_param(
        err, 400, "attention", "attention '%s' is not there under numerics %s; %s is",
        attention_name(attention), e->backend->numerics->name, attention_name(ATTENTION_EAGER));
}

static int choose_attention(struct engine *e, enum attention wanted, struct error *err)
{
    e->attention = wanted < ATTENTION_COUNT     ? wanted
                   : e->program[ATTENTION_SDPA] ? ATTENTION_SDPA
                                                : ATTENTION_EAGER;
    return check_attention(e, e->attention, err);
}

int engine_attention(const struct engine *e, const char *name, enum attention *out,
                     struct error *err)
{
    return attention_read(name, out, err) || check_attention(e, *out, err) ? -1 : 0;
}

static int open_programs(struct engine *e, const struct engine_options *o, struct error *err)
{
    e->parameters = parameters_create(e->weights, e->backend, o->progress, o->user, err);
    if (!e->parameters)
        return -1;
    for (int a = 0; a < ATTENTION_COUNT; a++) {
        if (missing_row(e->backend, e->family[a]))
            continue;
        e->program[a] = program_open(e->family[a], e->config, e->parameters, e->backend, err);
        if (!e->program[a])
            return -1;
    }
    return choose_attention(e, o->attention, err);
}

static int refuse_threads(const struct numerics *numerics, int64_t threads, struct error *err)
{
    return error_param(err, 400, "torch_threads",
                       "torch_threads %lld: the bits of numerics %s depend on no threads",
                       (long long)threads, numerics->name);
}

/* torch's threads are stated where bits depend on them, and nowhere else. */
static int set_torch(struct backend *b, const struct engine_options *o, struct error *err)
{
    const struct numerics *numerics = b->numerics;
    const int threads = o->torch_threads;

    if (o->torch_host && !numerics->of_caches)
        return error_param(err, 400, "torch_host",
                           "--torch-host: the bits of numerics %s depend on no caches",
                           numerics->name);
    if (o->torch_host)
        b->torch = *o->torch_host;
    if (numerics->of_host && !threads)
        return error_param(err, 400, "torch_threads",
                           "the bits of numerics %s depend on torch.get_num_threads() of the "
                           "machine whose they are: --torch-threads N",
                           numerics->name);
    if (!numerics->of_host && threads)
        return refuse_threads(numerics, threads, err) ? error_prefix(err, "--") : 0;
    if (threads)
        b->torch.threads = threads;
    return 0;
}

int engine_torch(const struct engine *e, int64_t torch_threads, struct torch_host *out,
                 struct error *err)
{
    *out = e->backend->torch;
    if (torch_threads && !e->backend->numerics->of_host)
        return refuse_threads(e->backend->numerics, torch_threads, err);
    if (torch_threads)
        out->threads = torch_threads;
    return 0;
}

/* What can be refused at once. */
static int open_parts(struct engine *e, const struct engine_options *o, struct error *err)
{
    e->folder = hf_folder_resolve(o->folder, err);
    if (!e->folder)
        return -1;
    e->name = hf_folder_name(e->folder);
    if (!e->name)
        return error_set(err, 500, "out of memory");
    e->config = hf_config_open(e->folder, err);
    for (int i = 0; e->config && hf_config_notice(e->config, i); i++)
        notices_add(&e->notices, "%s", hf_config_notice(e->config, i));
    if (!e->config || open_families(e, o, err) ||
        hf_config_count(e->config, "vocab_size", &e->vocab_size, err) ||
        hf_config_count(e->config, "max_position_embeddings", &e->max_positions, err))
        return -1;
    if (o->reuse_bytes && !(e->prefixes = prefixes_create(o->reuse_bytes)))
        return error_set(err, 500, "out of memory");
    if (o->notice)
        notices_add(&e->notices, "%s", o->notice);
    e->backend = backend_open(o->device, o->numerics, o->isa, o->threads, err);
    if (!e->backend || set_torch(e->backend, o, err))
        return -1;
    e->weights = weights_open(e->folder, err);
    if (!e->weights)
        return -1;
    if (e->backend->numerics->of_host && !e->backend->group[GROUP_LINEARS])
        notices_add(&e->notices,
                    "numerics %s has no vector kernels here: right, and slow; --numerics %s, the "
                    "portable one, is fast",
                    e->backend->numerics->name, numerics_at(0)->name);
    return 0;
}

/* A model without a tokenizer that can be read serves ids.  Ids that only the tokenizer has (a pad
 * token added without a row for it) matter to the request that uses one. */
static int open_tokenizer(struct engine *e, const struct engine_options *o, struct error *err)
{
    struct error why = {0};
    int64_t count;

    e->tokenizer_ids = o->tokenizer;
    e->tokenizer = tokenizer_open(e->folder, o->tokenizer, &why);
    malloc_trim(0); /* reading it took several times of what it keeps */
    if (!e->tokenizer && why.code != 400)
        return error_set(err, why.code, "%s", why.text);
    if (!e->tokenizer) {
        snprintf(e->tokenizer_missing, sizeof(e->tokenizer_missing), "%s", why.text);
        notices_add(&e->notices, "without a tokenizer, only token ids are served: %s", why.text);
        return 0;
    }
    for (int i = 0; tokenizer_notice(e->tokenizer, i); i++)
        notices_add(&e->notices, "%s", tokenizer_notice(e->tokenizer, i));
    count = tokenizer_vocab_size(e->tokenizer);
    if (count > e->vocab_size)
        notices_add(&e->notices,
                    "the tokenizer has ids up to %lld, the model 0 to %lld: a prompt that uses one "
                    "beyond is refused",
                    (long long)count - 1, (long long)e->vocab_size - 1);
    return 0;
}

/* What transformers warns of too, as a config.json with fewer layers than the checkpoint. */
static void note_unused(struct engine *e)
{
    const char *first = "";
    const int count = weights_unused(e->weights, &first);

    if (count)
        notices_add(&e->notices,
                    "%d of %d tensors of the checkpoint are not used, as '%.200s': the model that "
                    "config.json describes has no such parameters",
                    count, weights_count(e->weights), first);
}

/* A scale of cos and sin that PyTorch was not asked about: which values may differ, up to the length that
 * config.json says. */
static void note_one_rope(struct engine *e, const struct program_rope *rope, int64_t pairs)
{
    const float scale = (float)rope->config.attention_factor;
    const int64_t most = 1 << 17, positions = e->max_positions < most ? e->max_positions : most;
    float far[ROPE_MOST_PAIRS];
    int64_t first = 0, later = 0, count;

    if (rotary_is_listed(scale))
        return;
    rotary_inv_freq(&rope->config, 2 * pairs, INT64_MAX, e->backend->numerics, far);
    count = rotary_unsure(rope->inv_freq, pairs, scale, positions, &first);
    if (memcmp(far, rope->inv_freq, (size_t)pairs * sizeof(*far)) != 0) {
        const int64_t more = rotary_unsure(far, pairs, scale, positions, &later);

        first = more && (!count || later < first) ? later : first;
        count += more;
    }
    if (count)
        notices_add(
            &e->notices,
            "cos and sin are multiplied by %.9g, for which PyTorch was not asked about every "
            "angle: of those up to position %lld, %lld may differ from its in the last bit, "
            "the first at position %lld",
            (double)scale, (long long)positions - 1, (long long)count, (long long)first);
}

static void note_rope(struct engine *e)
{
    const struct program *p = e->program[0] ? e->program[0] : e->program[1];

    for (int i = 0; i < PROGRAM_ROPES; i++)
        if (p->rope[i].inv_freq)
            note_one_rope(e, &p->rope[i], p->inv_freq_count);
}

struct rest {
    struct engine *engine;
    const struct engine_options *options;
    struct error err;
    int rc;
};

/* Where cores are few it must not keep the digest from one.  The priority is the thread's alone. */
static void *open_rest(void *user)
{
    enum { NICE = 10 };
    struct rest *r = user;

    setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
    r->rc = open_tokenizer(r->engine, r->options, &r->err) ||
            open_programs(r->engine, r->options, &r->err);
    if (r->rc)
        return NULL;
    note_unused(r->engine);
    note_rope(r->engine);
    return NULL;
}

static int open_all(struct engine *e, const struct engine_options *o, struct error *err)
{
    struct rest rest = {.engine = e, .options = o};
    pthread_t thread;
    int rc;

    if (open_parts(e, o, err))
        return -1;
    if (pthread_create(&thread, NULL, open_rest, &rest))
        return error_set(err, 500, "no thread to load with");
    rc = weights_digest(e->weights, e->digest, NULL, NULL, err);
    pthread_join(thread, NULL);
    if (rest.rc && err)
        *err = rest.err;
    return rc || rest.rc ? -1 : weights_check(e->weights, err);
}

struct engine *engine_open(const struct engine_options *options, struct error *err)
{
    struct engine *e = calloc(1, sizeof(*e));

    if (!e) {
        error_set(err, 500, "out of memory");
        return NULL;
    }
    if (open_all(e, options, err) || (e->notices.failed && error_set(err, 500, "out of memory"))) {
        engine_close(e);
        return NULL;
    }
    return e;
}

void engine_close(struct engine *e)
{
    if (!e)
        return;
    engine_ideal_close(e->ideal);
    prefixes_free(e->prefixes);
    for (int a = 0; a < ATTENTION_COUNT; a++)
        program_close(e->program[a]);
    parameters_free(e->parameters);
    tokenizer_close(e->tokenizer);
    weights_close(e->weights);
    backend_close(e->backend);
    for (int a = 0; a < ATTENTION_COUNT; a++)
        family_close(e->family[a]);
    hf_config_close(e->config);
    notices_clear(&e->notices);
    free(e->folder);
    free(e->name);
    free(e);
}
