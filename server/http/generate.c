/* generate.c - POST /v1/generate: a continuation of a prompt, as transformers' generate() makes it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/engine/logits_processor.h"
#include "kernels/base/json_memory.h"
#include "server/http/facts.h"
#include "server/http/json.h"
#include "server/http/negotiate.h"
#include "server/http/prompt.h"
#include "server/http/routes.h"
#include "server/http/work.h"

static const char *const fields[] = {PROMPT_FIELDS, "max_tokens",    "stop_at_eos", "stream",
                                     "seed",        GENERATION_KEYS, NULL};

enum { MOST_EOS = 16, DEFAULT_TOKENS = 32 };

struct generation {
    int by_line; /* a JSON object for each token, as it comes */
    int64_t eos[MOST_EOS];
    int eos_count;
    int stopped; /* by one of these */
    int64_t *tokens, count;
    struct generation_config config;
    struct logits_processor *processor; /* NULL: the greatest logit is taken */
    json_t *applied; /* what of the model's file and the request is not the default */
    struct tokenizer_stream decoder;
    struct buffer text;
};

static int is_eos(const struct generation *g, int64_t id)
{
    for (int i = 0; i < g->eos_count; i++)
        if (g->eos[i] == id)
            return 1;
    return 0;
}

/* The text from a byte on; null without a tokenizer. */
static void put_text(struct work *w, size_t from)
{
    const struct generation *g = w->state;

    if (w->engine->tokenizer)
        json_put_text(&w->out, g->text.data ? g->text.data + from : "", g->text.size - from);
    else
        buffer_text(&w->out, "null");
}

static int put_line(struct work *w, int64_t id, size_t from, struct error *err)
{
    buffer_format(&w->out, "{\"token\":%" PRId64 ",\"text\":", id);
    put_text(w, from);
    buffer_text(&w->out, "}\n");
    if (work_send(w, 1, err))
        return -1;
    stream_flush(w->stream);
    return 0;
}

static int on_token(struct work *w, int64_t call, int64_t id, struct error *err)
{
    struct generation *g = w->state;
    size_t from = g->text.size;

    (void)call;
    g->tokens[g->count++] = id;
    if (w->engine->tokenizer &&
        tokenizer_stream_push(w->engine->tokenizer, &g->decoder, id, 1, &g->text, err))
        return -1;
    g->stopped = is_eos(g, id);
    if ((g->stopped || g->count == w->run->steps + 1) &&
        tokenizer_stream_finish(&g->decoder, &g->text, err))
        return -1;
    if (g->text.failed)
        return error_set(err, 500, "no memory for the text");
    if (g->by_line && put_line(w, id, from, err))
        return -1;
    return g->stopped;
}

/* The keys that changed the choice, as they were read. */
static void put_applied(struct work *w)
{
    const struct generation *g = w->state;
    char *text = json_memory_text(g->applied, JSON_COMPACT);

    buffer_format(&w->out, "\"generation_config\":%s,", text ? text : "null");
    w->out.failed |= !text;
    free(text);
}

static int on_close(struct work *w, struct error *err)
{
    struct generation *g = w->state;

    (void)err;
    buffer_text(&w->out, "{");
    if (g->by_line)
        buffer_text(&w->out, "\"done\":true,");
    buffer_text(&w->out, "\"text\":");
    put_text(w, 0);
    buffer_text(&w->out, ",\"tokens\":");
    json_put_ints(&w->out, g->tokens, g->count);
    buffer_format(&w->out, ",\"reason\":\"%s\",\"prompt_tokens\":", g->stopped ? "eos" : "length");
    json_put_ints(&w->out, w->run->tokens, w->run->token_count);
    buffer_text(&w->out, ",");
    put_applied(w);
    facts_json(&w->out, w->engine, w->run->program->family->attention, w->run->torch_threads);
    facts_notice_json(&w->out, w->engine, w->run->token_count + w->run->steps);
    buffer_text(&w->out, "}\n");
    return 0;
}

static void on_free(void *user)
{
    struct generation *g = user;

    tokenizer_stream_close(&g->decoder);
    buffer_clear(&g->text);
    json_decref(g->applied);
    logits_processor_free(g->processor);
    generation_config_clear(&g->config);
    free(g->tokens);
    free(g);
}

/* What changes the choice: the request's keys before the file's.  Sampling is the
 * request's alone to ask for, since without it a text is the same on every machine. */
static json_t *merge_keys(const json_t *file, const json_t *request, int sampling)
{
    json_t *out = json_object();
    const char *key;

    for (int i = 0; out && (key = generation_config_key(i, sampling)); i++) {
        const json_t *asked = json_object_get(request, key);
        const json_t *value =
            asked || strcmp(key, "do_sample") == 0 ? asked : json_object_get(file, key);

        if (value && !json_is_null(value) &&
            json_object_set(out, key, (json_t *)(uintptr_t)value)) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}

static int read_config(struct work *w, const json_t *root, struct error *err)
{
    struct generation *g = w->state;
    const json_t *file = hf_config_generation(w->engine->config);
    const char *where = hf_config_generation_file(w->engine->config);
    struct generation_config *c = &g->config;

    generation_config_init(c, w->engine->vocab_size);
    c->eos_token_id.at = calloc(MOST_EOS, sizeof(*c->eos_token_id.at));
    if (!c->eos_token_id.at)
        return error_set(err, 500, "no memory for the reply");
    c->eos_token_id.count = hf_config_eos(w->engine->config, c->eos_token_id.at, MOST_EOS);
    if (generation_config_read(c, file, where, json_is_true(json_object_get(root, "do_sample")),
                               err) ||
        generation_config_read(c, root, NULL, 1, err) ||
        generation_config_check(file, where, root, c->do_sample, err))
        return -1;
    g->applied = merge_keys(file, root, c->do_sample);
    return g->applied ? 0 : error_set(err, 500, "no memory for the reply");
}

static int make_processor(struct work *w, const json_t *root, struct error *err)
{
    struct generation *g = w->state;
    const struct numerics *numerics = w->engine->backend->numerics;
    int64_t seed = 0;

    if (read_config(w, root, err) || json_read_int(root, "seed", 0, INT64_MAX, &seed, err))
        return -1;
    if (generation_config_is_plain(&g->config))
        return 0;
    if (numerics->activations != DTYPE_BF16)
        return error_param(err, 400, "numerics",
                           "%s: the logits processors are those of bf16 models", numerics->name);
    g->processor = logits_processor_create(&g->config, w->run->token_count, w->run->steps + 1,
                                           (uint64_t)seed, numerics, err);
    w->run->processor = g->processor;
    return g->processor ? 0 : -1;
}

static int setup(struct work *w, const json_t *root, int by_line, int stop, struct error *err)
{
    static const struct writer writer = {.token = on_token, .close = on_close, .free = on_free};
    struct generation *g = calloc(1, sizeof(*g));

    if (!g)
        return error_set(err, 500, "no memory for the reply");
    w->writer = &writer;
    w->state = g;
    g->by_line = w->by_line = by_line;
    if (stop)
        g->eos_count = hf_config_eos(w->engine->config, g->eos, MOST_EOS);
    g->tokens = calloc((size_t)w->run->steps + 1, sizeof(*g->tokens));
    if (!g->tokens)
        return error_set(err, 500, "no memory for the reply");
    return make_processor(w, root, err);
}

static int prepare(struct work *w, const struct request *r, const json_t *root, struct error *err)
{
    const struct settings *s = &r->server->settings;
    const struct run_limits limits = prompt_limits(s);
    struct run_request run = {.which = POSITIONS_LAST};
    struct prompt prompt = {0};
    int64_t most = DEFAULT_TOKENS <= s->steps ? DEFAULT_TOKENS : s->steps + 1;

    if (!prompt_read(r->engine, s, root, &prompt, err) &&
        !json_read_int(root, "max_tokens", 1, s->steps + 1, &most, err)) {
        /* The prefill gives the first token, each step one more; the last is not fed. */
        run.steps = most - 1;
        prompt_apply(&prompt, &run);
        w->run = run_create(r->engine, &run, &limits, err);
    }
    prompt_clear(&prompt);
    return w->run ? 0 : -1;
}

static int check_accept(const struct request *r, int by_line, struct error *err)
{
    static const char *const lines[] = {TYPE_NDJSON, TYPE_JSON, NULL};

    if (!by_line)
        return request_takes_json(r, err);
    if (!accept_best(r->accept, lines))
        return error_param(err, 406, "Accept", "a stream comes as %s, which Accept does not allow",
                           TYPE_NDJSON);
    return 0;
}

int generate_post(const struct request *r, struct reply *reply, struct error *err)
{
    struct work *w = work_create(r, err);
    json_t *root = request_json(r, err);
    int by_line = 0, stop = 1, rc = -1;

    if (w && root && !json_only(root, fields, err) &&
        !json_read_bool(root, "stream", &by_line, err) &&
        !json_read_bool(root, "stop_at_eos", &stop, err) && !check_accept(r, by_line, err) &&
        !prepare(w, r, root, err) && !setup(w, root, by_line, stop, err))
        rc = work_submit(w, r, reply, by_line ? TYPE_NDJSON : TYPE_JSON, err);
    else
        work_free(w);
    json_decref(root);
    return rc;
}
