/* token_text.c - see token_text.h. */
#include "server/http/token_text.h"

#include <string.h>

#include "server/http/json.h"
#include "server/tokenizer/byte_level.h"
#include "kernels/base/utf8.h"

static void put_bytes(struct buffer *out, const struct buffer *bytes)
{
    buffer_text(out, ",\"bytes\":[");
    for (size_t i = 0; i < bytes->size; i++)
        buffer_format(out, "%s%d", i ? "," : "", (unsigned char)bytes->data[i]);
    buffer_text(out, "]");
}

void token_put(struct buffer *out, const struct tokenizer *t, int64_t id)
{
    const char *token = t ? tokenizer_token(t, id) : NULL;
    struct buffer text = {0}, bytes = {0};
    struct error err = {0};
    size_t at;

    if (!t) {
        buffer_text(out, "\"token\":null");
        return;
    }
    /* An id that the model has and the tokenizer has not decodes to nothing. */
    if (token && tokenizer_decode(t, &id, 1, 0, &text, &err) == 0)
        byte_level_decode(token, strlen(token), &bytes);
    buffer_text(out, "\"token\":");
    json_put_text(out, text.data ? text.data : "", text.size);
    if (bytes.size && utf8_check(bytes.data, bytes.size, &at))
        put_bytes(out, &bytes);
    out->failed |= text.failed | bytes.failed | (err.code >= 500);
    buffer_clear(&text);
    buffer_clear(&bytes);
}

int token_text_needed(const struct engine *e, const char *field, struct error *err)
{
    if (e->tokenizer)
        return 0;
    return error_param(err, 400, field,
                       "%s: this model is served without a tokenizer, so only token ids are taken; "
                       "%s",
                       field, e->tokenizer_missing);
}

int token_text_flag(const json_t *root, const char *name, int *value, struct error *err)
{
    const char *other = strcmp(name, "special") ? "skip_special_tokens" : "add_special_tokens";
    int second;

    if (json_read_bool(root, name, value, err))
        return -1;
    second = *value;
    if (json_read_bool(root, other, &second, err))
        return -1;
    if (json_object_get(root, name) && json_object_get(root, other) && second != *value)
        return error_param(err, 400, other, "%s and %s are the same and differ", name, other);
    *value = second;
    return 0;
}
