/* prompt.c - see prompt.h. */
#include "server/http/prompt.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/http/json.h"

int prompt_text(const json_t *root, const char *key, const char **text, size_t *size,
                struct error *err)
{
    const json_t *value = json_object_get(root, key);

    if (!value)
        return error_param(err, 400, key, "%s is missing; a string is expected", key);
    if (!json_is_string(value))
        return error_param(err, 400, key, "%s is %s; a string is expected", key, json_kind(value));
    *text = json_string_value(value);
    *size = json_string_length(value);
    return 0;
}

static int check_served(const struct engine *e, const json_t *root, struct error *err)
{
    const char *numerics = numerics_name(e->backend->numerics), *attention = engine_attention(e);
    const char *wanted = numerics;

    if (json_read_name(root, "numerics", &wanted, err))
        return -1;
    if (strcmp(wanted, numerics) != 0)
        return error_param(err, 400, "numerics", "numerics '%.100s' is not served here; %s is",
                           wanted, numerics);
    wanted = attention;
    if (json_read_name(root, "attention", &wanted, err))
        return -1;
    if (strcmp(wanted, attention) != 0)
        return error_param(err, 400, "attention", "attention '%.100s' is not served here; %s is",
                           wanted, attention);
    return 0;
}

static int encode(const struct engine *e, const json_t *root, int special, int64_t **tokens,
                  int64_t *count, struct error *err)
{
    const char *text;
    size_t size, n;

    if (prompt_text(root, "prompt", &text, &size, err))
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

static int check_tokens(const struct engine *e, const int64_t *tokens, int64_t count,
                        struct error *err)
{
    char param[48];

    if (!count)
        return error_param(err, 400, "tokens", "tokens is empty; at least one id is needed");
    for (int64_t i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= e->vocab_size) {
            snprintf(param, sizeof(param), "tokens[%" PRId64 "]", i);
            return error_param(err, 400, param,
                               "%s is %" PRId64 "; the model's token ids are 0 to %" PRId64, param,
                               tokens[i], e->vocab_size - 1);
        }
    return 0;
}

static int read_tokens(const struct engine *e, const json_t *root, int64_t **tokens, int64_t *count,
                       struct error *err)
{
    const json_t *text = json_object_get(root, "prompt"), *ids = json_object_get(root, "tokens");
    int special = 1;

    if (json_read_bool(root, "special", &special, err))
        return -1;
    if (text && ids)
        return error_param(err, 400, "tokens", "prompt and tokens are both given; one is needed");
    if (!text && !ids)
        return error_param(err, 400, "prompt",
                           "neither prompt (a text) nor tokens (a list of ids) is given");
    if (text)
        return encode(e, root, special, tokens, count, err);
    return json_read_ints(ids, "tokens", INT64_MIN, INT64_MAX, tokens, count, err);
}

int prompt_read(const struct engine *e, const struct settings *settings, const json_t *root,
                int64_t **tokens, int64_t *count, struct error *err)
{
    *tokens = NULL;
    *count = 0;
    if (check_served(e, root, err) || read_tokens(e, root, tokens, count, err))
        goto fail;
    if (*count > settings->tokens) {
        error_param(err, 400, json_object_get(root, "prompt") ? "prompt" : "tokens",
                    "%" PRId64 " tokens; the limit is %" PRId64, *count, settings->tokens);
        goto fail;
    }
    if (check_tokens(e, *tokens, *count, err))
        goto fail;
    return 0;
fail:
    free(*tokens);
    *tokens = NULL;
    return -1;
}
