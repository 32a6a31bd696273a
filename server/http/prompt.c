/* prompt.c - see prompt.h. */
#include "server/http/prompt.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/torch_host.h"
#include "server/http/json.h"
#include "server/http/token_text.h"

int prompt_text(const struct settings *settings, const json_t *root, const char *key,
                const char **text, size_t *size, struct error *err)
{
    const json_t *value = json_object_get(root, key);

    if (!value)
        return error_param(err, 400, key, "%s is missing; a string is expected", key);
    if (!json_is_string(value))
        return error_param(err, 400, key, "%s is %s; a string is expected", key, json_kind(value));
    *text = json_string_value(value);
    *size = json_string_length(value);
    if (*size > (uint64_t)settings->text_bytes)
        return error_param(err, 413, key,
                           "%s: %zu bytes; the limit is %" PRId64 " (\"text_bytes\")", key, *size,
                           settings->text_bytes);
    return 0;
}

/* "numerics", which is the engine's, and "attention" and "torch_threads", which the request may
 * choose. */
static int read_arithmetic(const struct engine *e, const json_t *root, struct prompt *out,
                           struct error *err)
{
    const char *numerics = e->backend->numerics->name, *wanted = numerics;
    struct torch_host torch;

    if (json_read_name(root, "numerics", &wanted, err))
        return -1;
    if (strcmp(wanted, numerics) != 0)
        return error_param(err, 400, "numerics", "numerics '%.100s' is not served here; %s is",
                           wanted, numerics);
    wanted = attention_name(e->attention);
    if (json_read_name(root, "attention", &wanted, err) ||
        engine_attention(e, wanted, &out->attention, err))
        return -1;
    if (json_read_int(root, "torch_threads", 1, TORCH_THREADS_MOST, &out->torch_threads, err))
        return -1;
    return engine_torch(e, out->torch_threads, &torch, err);
}

static int encode(const struct engine *e, const struct settings *settings, const json_t *root,
                  int special, int64_t **tokens, int64_t *count, struct error *err)
{
    const char *text;
    size_t size, n;

    if (prompt_text(settings, root, "prompt", &text, &size, err) ||
        token_text_needed(e, "prompt", err))
        return -1;
    if (tokenizer_encode(e->tokenizer, text, size, special, tokens, &n, err)) {
        if (err && !*err->param)
            strcpy(err->param, "prompt");
        return -1;
    }
    *count = (int64_t)n;
    if (!n)
        return error_param(err, 400, "prompt", "prompt is empty: it gives no tokens");
    return 0;
}

/* An id of the tokenizer that the model has no row for. */
static int refuse_beyond(const struct engine *e, int64_t id, struct error *err)
{
    const char *token = tokenizer_token(e->tokenizer, id);

    return error_param(err, 400, "prompt",
                       "prompt has \"%.60s\", id %" PRId64
                       "; the model's token ids are 0 to %" PRId64,
                       token ? token : "", id, e->vocab_size - 1);
}

static int check_tokens(const struct engine *e, int text, const int64_t *tokens, int64_t count,
                        struct error *err)
{
    char param[48];

    if (!count)
        return error_param(err, 400, "tokens", "tokens is empty; at least one id is needed");
    for (int64_t i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= e->vocab_size) {
            if (text)
                return refuse_beyond(e, tokens[i], err);
            snprintf(param, sizeof(param), "tokens[%" PRId64 "]", i);
            return error_param(err, 400, param,
                               "%s is %" PRId64 "; the model's token ids are 0 to %" PRId64, param,
                               tokens[i], e->vocab_size - 1);
        }
    return 0;
}

static int check_count(const struct settings *settings, const char *param, int64_t count,
                       struct error *err)
{
    if (count <= settings->tokens)
        return 0;
    return error_param(err, 400, param, "%" PRId64 " tokens; the limit is %" PRId64, count,
                       settings->tokens);
}

static int read_tokens(const struct engine *e, const struct settings *settings, const json_t *root,
                       int64_t **tokens, int64_t *count, struct error *err)
{
    const json_t *text = json_object_get(root, "prompt"), *ids = json_object_get(root, "tokens");
    int special = 1;

    if (token_text_flag(root, "special", &special, err))
        return -1;
    if (text && ids)
        return error_param(err, 400, "tokens", "prompt and tokens are both given; one is needed");
    if (!text && !ids)
        return error_param(err, 400, "prompt",
                           "neither prompt (a text) nor tokens (a list of ids) is given");
    if (text)
        return encode(e, settings, root, special, tokens, count, err);
    if (check_count(settings, "tokens", (int64_t)json_array_size(ids), err))
        return -1;
    return json_read_ints(ids, "tokens", INT64_MIN, INT64_MAX, tokens, count, err);
}

/* "arange", the default, or "mask". */
static int read_position_ids(const json_t *root, int *from_mask, struct error *err)
{
    const json_t *value = json_object_get(root, "position_ids");
    const char *text = json_string_value(value);

    if (!value || json_is_null(value) || (text && strcmp(text, "arange") == 0))
        return 0;
    if (!text || strcmp(text, "mask") != 0)
        return error_param(
            err, 400, "position_ids",
            "position_ids is \"arange\" (0, 1, 2, ...) or \"mask\" (counted from the "
            "first token that is no padding)");
    *from_mask = 1;
    return 0;
}

static int read_chunks(const json_t *root, struct prompt *p, struct error *err)
{
    const json_t *list = json_object_get(root, "chunks");

    if (!list || json_is_null(list))
        return 0;
    if ((int64_t)json_array_size(list) > p->count)
        return error_param(err, 400, "chunks", "%zu chunks of %" PRId64 " tokens",
                           json_array_size(list), p->count);
    if (json_read_ints(list, "chunks", 1, INT64_MAX, &p->chunks, &p->chunk_count, err))
        return -1;
    if (!p->chunk_count)
        return error_param(err, 400, "chunks", "chunks is empty; at least one length is needed");
    return 0;
}

int prompt_read(const struct engine *e, const struct settings *settings, const json_t *root,
                struct prompt *out, struct error *err)
{
    *out = (struct prompt){0};
    if (read_arithmetic(e, root, out, err) ||
        read_tokens(e, settings, root, &out->tokens, &out->count, err) ||
        check_count(settings, json_object_get(root, "prompt") ? "prompt" : "tokens", out->count,
                    err))
        return -1;
    if (check_tokens(e, json_object_get(root, "prompt") != NULL, out->tokens, out->count, err) ||
        json_read_int(root, "padding", 0, out->count - 1, &out->padding, err) ||
        read_position_ids(root, &out->ids_from_mask, err) ||
        json_read_int(root, "batch", 1, PROMPT_BATCH_MOST, &out->batch, err))
        return -1;
    return read_chunks(root, out, err);
}

struct engine *prompt_engine(struct engine *e, const json_t *root, struct error *err)
{
    const char *numerics = json_string_value(json_object_get(root, "numerics"));

    return numerics && strcmp(numerics, numerics_ideal.name) == 0 ? engine_ideal(e, err) : e;
}

struct run_limits prompt_limits(const struct settings *settings)
{
    return (struct run_limits){.tokens = settings->tokens,
                               .values = settings->values,
                               .memory = (uint64_t)settings->memory_bytes};
}

void prompt_apply(const struct prompt *p, struct run_request *run)
{
    run->attention = p->attention;
    run->tokens = p->tokens;
    run->token_count = p->count;
    run->padding = p->padding;
    run->ids_from_mask = p->ids_from_mask;
    run->batch = p->batch;
    run->torch_threads = p->torch_threads;
    run->chunks = p->chunks;
    run->chunk_count = p->chunk_count;
}

void prompt_clear(struct prompt *p)
{
    free(p->tokens);
    free(p->chunks);
    *p = (struct prompt){0};
}
