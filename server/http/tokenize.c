/* tokenize.c - POST /v1/tokenize and /v1/detokenize: text to ids and back. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/http/facts.h"
#include "server/http/json.h"
#include "server/http/prompt.h"
#include "server/http/routes.h"
#include "server/http/token_text.h"

static void name_field(struct error *err, const char *field)
{
    if (!*err->param)
        strcpy(err->param, field);
}

static void put_tokens(const struct request *r, struct buffer *out, const int64_t *ids,
                       size_t count)
{
    const char *piece;

    buffer_text(out, "{\"tokens\":");
    json_put_ints(out, ids, (int64_t)count);
    buffer_text(out, ",\"pieces\":[");
    for (size_t i = 0; i < count; i++) {
        piece = tokenizer_token(r->engine->tokenizer, ids[i]);
        buffer_text(out, i ? "," : "");
        json_put_name(out, piece ? piece : "");
    }
    buffer_text(out, "],");
    facts_json(out, r->engine, r->engine->attention, 0);
    buffer_text(out, "}\n");
}

static int encode(const struct request *r, const json_t *root, struct reply *reply,
                  struct error *err)
{
    const char *text;
    int64_t *ids = NULL;
    size_t size, count;
    int special = 1;

    if (prompt_text(&r->server->settings, root, "text", &text, &size, err) ||
        token_text_flag(root, "special", &special, err) ||
        token_text_needed(r->engine, "text", err))
        return -1;
    if (tokenizer_encode(r->engine->tokenizer, text, size, special, &ids, &count, err)) {
        name_field(err, "text");
        return -1;
    }
    put_tokens(r, &reply->body, ids, count);
    free(ids);
    reply_json(reply);
    return 0;
}

int tokenize_post(const struct request *r, struct reply *reply, struct error *err)
{
    static const char *const fields[] = {"text", "special", "add_special_tokens", NULL};
    json_t *root = request_json(r, err);
    int rc = -1;

    if (root && !json_only(root, fields, err) && !request_takes_json(r, err))
        rc = encode(r, root, reply, err);
    json_decref(root);
    return rc;
}

static int decode(const struct request *r, const json_t *root, struct reply *reply,
                  struct error *err)
{
    const struct engine *e = r->engine;
    const json_t *list = json_object_get(root, "tokens");
    struct buffer text = {0};
    int64_t *ids = NULL, count;
    int64_t most = e->vocab_size - 1; /* what /v1/generate may give, and what /v1/tokenize may */
    int skip = 0, rc = -1;

    if (token_text_needed(e, "tokens", err))
        return -1;
    if (tokenizer_vocab_size(e->tokenizer) > e->vocab_size)
        most = tokenizer_vocab_size(e->tokenizer) - 1;
    if (!list)
        return error_param(err, 400, "tokens", "tokens is missing; a list of ids is expected");
    if ((int64_t)json_array_size(list) > r->server->settings.text_bytes / 8)
        return error_param(err, 413, "tokens",
                           "%zu ids; the limit is %" PRId64 " (an eighth of \"text_bytes\")",
                           json_array_size(list), r->server->settings.text_bytes / 8);
    if (token_text_flag(root, "skip_special", &skip, err) ||
        json_read_ints(list, "tokens", 0, most, &ids, &count, err))
        return -1;
    if (tokenizer_decode(e->tokenizer, ids, (size_t)count, skip, &text, err)) {
        name_field(err, "tokens");
        goto out;
    }
    buffer_text(&reply->body, "{\"text\":");
    json_put_text(&reply->body, text.data ? text.data : "", text.size);
    buffer_text(&reply->body, ",");
    facts_json(&reply->body, r->engine, r->engine->attention, 0);
    buffer_text(&reply->body, "}\n");
    reply->body.failed |= text.failed;
    reply_json(reply);
    rc = 0;
out:
    buffer_clear(&text);
    free(ids);
    return rc;
}

int detokenize_post(const struct request *r, struct reply *reply, struct error *err)
{
    static const char *const fields[] = {"tokens", "skip_special", "skip_special_tokens", NULL};
    json_t *root = request_json(r, err);
    int rc = -1;

    if (root && !json_only(root, fields, err) && !request_takes_json(r, err))
        rc = decode(r, root, reply, err);
    json_decref(root);
    return rc;
}
