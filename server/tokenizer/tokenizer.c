/* tokenizer.c - see tokenizer.h.
 *
 * Encoding: added tokens are cut out, the rest is normalized (normalize.c), split into words
 * (pretokenize.c) and merged into tokens (bpe.c); the template adds special tokens around them. */
#include "server/tokenizer/tokenizer.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "server/tokenizer/added_tokens.h"
#include "server/tokenizer/bpe.h"
#include "server/tokenizer/byte_level.h"
#include "kernels/base/json_file.h"
#include "server/tokenizer/normalize.h"
#include "server/tokenizer/pretokenize.h"
#include "server/tokenizer/template.h"
#include "kernels/base/utf8.h"

/* The bytes that an id decodes to. */
struct shown {
    uint32_t start, size; /* in tokenizer.bytes */
    int special;
};

struct tokenizer {
    struct normalizer *normalizer;
    struct pretokenizer *pretokenizer;
    struct bpe *bpe;
    struct added_tokens *added;
    struct template *template;
    int byte_level; /* the decoder is ByteLevel: characters of a token stand for bytes */
    int64_t ids;
    struct shown *shown; /* by id */
    struct buffer bytes;
};

/* Accepts decoders that turn each token into bytes on its own: ByteLevel, Fuse, or both in order. */
static int read_decoder(struct tokenizer *t, const json_t *json, int first, struct error *err)
{
    const char *type = json_string_value(json_object_get(json, "type"));
    const json_t *list, *item;
    size_t i;

    if (!type)
        return error_param(err, 400, "decoder", "\"decoder\" is missing or has no \"type\"");
    if (!strcmp(type, "Fuse"))
        return 0;
    if (!strcmp(type, "ByteLevel") && first) {
        t->byte_level = 1;
        return 0;
    }
    list = json_object_get(json, "decoders");
    if (strcmp(type, "Sequence") || !first)
        return error_param(err, 400, "decoder", "decoder: \"%.40s\" is not supported%s", type,
                           first ? "" : " behind another");
    if (!json_array_size(list))
        return error_param(err, 400, "decoders", "decoder: \"decoders\" is not a list, or empty");
    json_array_foreach (list, i, item) {
        if (read_decoder(t, item, i == 0, err))
            return -1;
    }
    return 0;
}

static int refuse_set(const json_t *json, const char *key, struct error *err)
{
    const json_t *value = json_object_get(json, key);

    if (!value || json_is_null(value))
        return 0;
    return error_param(err, 400, key, "\"%s\" is set, which is not supported", key);
}

static int show(struct tokenizer *t, int64_t id, struct error *err)
{
    const char *text;
    size_t size;

    t->shown[id].start = (uint32_t)t->bytes.size;
    text = added_tokens_text(t->added, id, &size, &t->shown[id].special);
    if (!text)
        text = token_map_text(bpe_vocabulary(t->bpe), id, &size);
    if (text && t->byte_level)
        byte_level_decode(text, size, &t->bytes);
    else if (text)
        buffer_append(&t->bytes, text, size);
    t->shown[id].size = (uint32_t)(t->bytes.size - t->shown[id].start);
    if (t->bytes.failed || t->bytes.size > UINT32_MAX)
        return error_set(err, 500, "out of memory");
    return 0;
}

static int read_parts(struct tokenizer *t, const json_t *json, struct error *err)
{
    int64_t id, added;

    if (refuse_set(json, "truncation", err) || refuse_set(json, "padding", err))
        return -1;
    if (!(t->normalizer = normalizer_open(json_object_get(json, "normalizer"), err)) ||
        !(t->pretokenizer = pretokenizer_open(json_object_get(json, "pre_tokenizer"), err)) ||
        !(t->template = template_open(json_object_get(json, "post_processor"), err)) ||
        read_decoder(t, json_object_get(json, "decoder"), 1, err) ||
        !(t->bpe = bpe_open(json_object_get(json, "model"), err)) ||
        !(t->added = added_tokens_open(json_object_get(json, "added_tokens"),
                                       bpe_vocabulary(t->bpe), t->normalizer, err)))
        return -1;
    t->ids = (int64_t)bpe_vocabulary(t->bpe)->ids;
    added = (int64_t)added_tokens_map(t->added)->ids;
    if (added > t->ids)
        t->ids = added;
    if (template_largest(t->template) > t->ids)
        return error_param(err, 400, "special_tokens",
                           "post_processor: \"special_tokens\": id %lld is no token's",
                           (long long)template_largest(t->template) - 1);
    t->shown = calloc((size_t)t->ids + 1, sizeof(*t->shown));
    if (!t->shown)
        return error_set(err, 500, "out of memory");
    for (id = 0; id < t->ids; id++)
        if (show(t, id, err))
            return -1;
    return 0;
}

struct tokenizer *tokenizer_open(const char *folder, struct error *err)
{
    struct tokenizer *t = calloc(1, sizeof(*t));
    json_t *json = NULL;

    if (!t) {
        error_set(err, 500, "tokenizer: out of memory");
        goto failed;
    }
    json = json_file_read(folder, "tokenizer.json", JSON_FILE_NO_DUPLICATES, err);
    if (!json)
        goto failed;
    if (read_parts(t, json, err)) {
        error_prefix(err, "%s/tokenizer.json: ", folder);
        goto failed;
    }
    json_decref(json);
    return t;
failed:
    json_decref(json);
    tokenizer_close(t);
    return NULL;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t)
        return;
    normalizer_close(t->normalizer);
    pretokenizer_close(t->pretokenizer);
    bpe_close(t->bpe);
    added_tokens_close(t->added);
    template_close(t->template);
    buffer_clear(&t->bytes);
    free(t->shown);
    free(t);
}

int64_t tokenizer_vocab_size(const struct tokenizer *t)
{
    return t->ids;
}

/* Cuts out the added tokens with "normalized": false, normalizes the rest, and cuts out of that the
 * other added tokens. */
static int extract(const struct tokenizer *t, const char *text, size_t size, struct pieces *out,
                   struct error *err)
{
    struct buffer normal = {0};
    struct pieces raw = {0};
    int rc = 0;
    size_t i;

    added_tokens_split(t->added, 1, text, size, &raw);
    for (i = 0; i < raw.count && !rc && !raw.failed; i++) {
        if (raw.list[i].id >= 0) {
            pieces_append(out, pieces_text(&raw, i), raw.list[i].size, raw.list[i].id);
            continue;
        }
        normal.size = 0;
        rc = normalizer_run(t->normalizer, pieces_text(&raw, i), raw.list[i].size, &normal, err);
        if (!rc)
            added_tokens_split(t->added, 0, normal.data ? normal.data : "", normal.size, out);
    }
    if (!rc && (raw.failed || out->failed))
        rc = error_set(err, 500, "tokenizer: out of memory");
    buffer_clear(&normal);
    pieces_clear(&raw);
    return rc;
}

static int merge(const struct tokenizer *t, const struct pieces *pieces, struct bpe_work *work,
                 struct error *err)
{
    size_t i;

    for (i = 0; i < pieces->count; i++) {
        if (pieces->list[i].id >= 0) {
            if (bpe_append(work, pieces->list[i].id, err))
                return -1;
        } else if (bpe_encode(t->bpe, work, pieces_text(pieces, i), pieces->list[i].size, err)) {
            return -1;
        }
    }
    return 0;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t size, int special,
                     int64_t **ids, size_t *count, struct error *err)
{
    struct bpe_work work = {0};
    struct pieces pieces = {0};
    size_t offset;
    int rc;

    if (size > (1u << 28))
        return error_set(err, 400, "text: %zu bytes are more than the tokenizer takes", size);
    if (utf8_check(text, size, &offset))
        return error_set(err, 400, "text: not UTF-8 at byte %zu", offset);
    rc = extract(t, text, size, &pieces, err);
    if (!rc)
        rc = pretokenizer_run(t->pretokenizer, &pieces, err);
    if (!rc)
        rc = merge(t, &pieces, &work, err);
    if (!rc)
        rc = template_apply(t->template, work.ids, work.count, special, ids, count, err);
    pieces_clear(&pieces);
    bpe_work_close(&work);
    return rc;
}

/* Sets *bytes and *size to what one id decodes to; size 0 if it is skipped or has no token. */
static int bytes_of(const struct tokenizer *t, int64_t id, int skip_special, const char **bytes,
                    size_t *size, struct error *err)
{
    if (id < 0 || id >= t->ids)
        return error_set(err, 400, "token id %lld is not in 0 to %lld", (long long)id,
                         (long long)t->ids - 1);
    *bytes = t->bytes.data ? t->bytes.data + t->shown[id].start : "";
    *size = skip_special && t->shown[id].special ? 0 : t->shown[id].size;
    return 0;
}

int tokenizer_decode(const struct tokenizer *t, const int64_t *ids, size_t count, int skip_special,
                     struct buffer *out, struct error *err)
{
    struct buffer all = {0};
    const char *bytes = "";
    size_t i, size = 0;
    int rc = 0;

    for (i = 0; i < count && !rc; i++) {
        rc = bytes_of(t, ids[i], skip_special, &bytes, &size, err);
        if (!rc)
            buffer_append(&all, bytes, size);
    }
    if (!rc && all.size)
        utf8_lossy(all.data, all.size, 0, out);
    if (!rc && (all.failed || out->failed))
        rc = error_set(err, 500, "tokenizer: out of memory");
    buffer_clear(&all);
    return rc;
}

const char *tokenizer_token(const struct tokenizer *t, int64_t id)
{
    const char *text;
    size_t size;
    int special;

    text = added_tokens_text(t->added, id, &size, &special);
    return text ? text : token_map_text(bpe_vocabulary(t->bpe), id, NULL);
}

int64_t tokenizer_id(const struct tokenizer *t, const char *token)
{
    int64_t id = token_map_find(added_tokens_map(t->added), token, strlen(token));

    return id >= 0 ? id : token_map_find(bpe_vocabulary(t->bpe), token, strlen(token));
}

int tokenizer_stream_push(const struct tokenizer *t, struct tokenizer_stream *s, int64_t id,
                          int skip_special, struct buffer *out, struct error *err)
{
    struct buffer all = {0};
    const char *bytes = "";
    size_t size = 0;

    if (bytes_of(t, id, skip_special, &bytes, &size, err))
        return -1;
    buffer_append(&all, s->held, (size_t)s->held_size);
    buffer_append(&all, bytes, size);
    if (!all.failed && all.size) {
        s->held_size = utf8_lossy(all.data, all.size, 1, out);
        memcpy(s->held, all.data + all.size - s->held_size, (size_t)s->held_size);
    }
    size = (size_t)(all.failed || out->failed);
    buffer_clear(&all);
    return size ? error_set(err, 500, "tokenizer: out of memory") : 0;
}

void tokenizer_stream_finish(struct tokenizer_stream *s, struct buffer *out)
{
    utf8_lossy((const char *)s->held, (size_t)s->held_size, 0, out);
    s->held_size = 0;
}
