/* decode_json.c - reads the "decoder" of tokenizer.json. */
#include "server/tokenizer/decode_parts.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/utf8.h"

static int read_text(const json_t *json, const char *key, struct decoder_stage *s,
                     struct error *err)
{
    const json_t *value = json_object_get(json, key);

    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
        return error_param(err, 400, key, "decoder: \"%s\" is not a string", key);
    s->text = strdup(json_string_value(value));
    s->text_size = json_string_length(value);
    return s->text ? 0 : error_set(err, 500, "decoder: out of memory");
}

static int read_character(const json_t *json, const char *key, struct decoder_stage *s,
                          struct error *err)
{
    uint32_t point;

    if (read_text(json, key, s, err))
        return -1;
    if (!s->text_size || (size_t)utf8_get(s->text, &point) != s->text_size)
        return error_param(err, 400, key, "decoder: \"%s\" is not one character", key);
    return 0;
}

static int read_count(const json_t *json, const char *key, size_t *out, struct error *err)
{
    const json_t *value = json_object_get(json, key);

    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return error_param(err, 400, key, "decoder: \"%s\" is not a count", key);
    *out = (size_t)json_integer_value(value);
    return 0;
}

static int read_strip(const json_t *json, struct decoder_stage *s, struct error *err)
{
    return read_character(json, "content", s, err) || read_count(json, "start", &s->start, err) ||
                   read_count(json, "stop", &s->stop, err)
               ? -1
               : 0;
}

static int read_metaspace(const json_t *json, struct decoder_stage *s, struct error *err)
{
    const char *scheme = json_string_value(json_object_get(json, "prepend_scheme"));

    s->flag = !(scheme && !strcmp(scheme, "never")) &&
              !json_is_false(json_object_get(json, "add_prefix_space"));
    return read_character(json, "replacement", s, err);
}

static int read_word_piece(const json_t *json, struct decoder_stage *s, struct error *err)
{
    s->flag = json_is_true(json_object_get(json, "cleanup"));
    return read_text(json, "prefix", s, err);
}

static int read_suffix(const json_t *json, struct decoder_stage *s, struct error *err)
{
    if (read_text(json, "suffix", s, err))
        return -1;
    return s->text_size ? 0 : error_param(err, 400, "suffix", "decoder: \"suffix\" is empty");
}

static int read_replace(const json_t *json, struct decoder_stage *s, struct error *err)
{
    s->replace = replace_open(json, err);
    return s->replace ? 0 : error_prefix(err, "decoder: ");
}

static const struct {
    const char *type;
    enum decoder_kind kind;
    int (*read)(const json_t *json, struct decoder_stage *s, struct error *err);
} types[] = {
    {"ByteLevel", DECODE_BYTE_LEVEL, NULL},
    {"ByteFallback", DECODE_BYTE_FALLBACK, NULL},
    {"Fuse", DECODE_FUSE, NULL},
    {"Strip", DECODE_STRIP, read_strip},
    {"Replace", DECODE_REPLACE, read_replace},
    {"Metaspace", DECODE_METASPACE, read_metaspace},
    {"WordPiece", DECODE_WORD_PIECE, read_word_piece},
    {"BPEDecoder", DECODE_SUFFIX, read_suffix},
};

static struct decoder_stage *add_stage(struct decoder *d, enum decoder_kind kind, struct error *err)
{
    struct decoder_stage *grown = realloc(d->stages, (size_t)(d->count + 1) * sizeof(*grown));

    if (!grown) {
        error_set(err, 500, "decoder: out of memory");
        return NULL;
    }
    d->stages = grown;
    memset(&grown[d->count], 0, sizeof(*grown));
    grown[d->count].kind = kind;
    return &grown[d->count++];
}

static int read(struct decoder *d, const json_t *json, int depth, struct error *err)
{
    const char *type = json_string_value(json_object_get(json, "type"));
    const json_t *list, *item;
    struct decoder_stage *stage;
    size_t i;

    if (!type || depth > 8)
        return error_param(err, 400, "decoder", "decoder: no \"type\", or nested too deep");
    if (!strcmp(type, "Sequence")) {
        list = json_object_get(json, "decoders");
        if (!json_is_array(list))
            return error_param(err, 400, "decoders", "decoder: \"decoders\" is not a list");
        json_array_foreach (list, i, item)
            if (read(d, item, depth + 1, err))
                return -1;
        return 0;
    }
    for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(type, types[i].type))
            continue;
        stage = add_stage(d, types[i].kind, err);
        if (!stage)
            return -1;
        return types[i].read ? types[i].read(json, stage, err) : 0;
    }
    return error_param(err, 400, "decoder", "decoder: \"%.40s\" is not supported", type);
}

struct decoder *decoder_open(const json_t *json, struct error *err)
{
    struct decoder *d = calloc(1, sizeof(*d));
    int rc;

    if (!d) {
        error_set(err, 500, "decoder: out of memory");
        return NULL;
    }
    if (!json || json_is_null(json))
        rc = add_stage(d, DECODE_SPACED, err) ? 0 : -1;
    else
        rc = read(d, json, 0, err);
    if (rc) {
        decoder_close(d);
        return NULL;
    }
    return d;
}

void decoder_close(struct decoder *d)
{
    int i;

    if (!d)
        return;
    for (i = 0; i < d->count; i++) {
        replace_close(d->stages[i].replace);
        free(d->stages[i].text);
    }
    free(d->stages);
    free(d);
}
