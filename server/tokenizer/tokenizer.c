/* tokenizer.c - see tokenizer.h.  How a text goes through the parts, and ids back. */
#include "server/tokenizer/tokenizer.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/utf8.h"
#include "server/tokenizer/added_tokens.h"
#include "server/tokenizer/decode.h"
#include "server/tokenizer/files.h"
#include "server/tokenizer/normalize.h"
#include "server/tokenizer/pretokenize.h"
#include "server/tokenizer/subword.h"
#include "server/tokenizer/template.h"

enum { NOTICES = 4 };

struct tokenizer {
    struct normalizer *normalizer;
    struct pretokenizer *pretokenizer;
    struct subword *subword;
    struct added_tokens *added;
    struct template *template;
    struct decoder *decoder;
    int64_t ids;
    char notices[NOTICES][512];
    int notice_count;
};

const char *tokenizer_ids_name(enum tokenizer_ids ids)
{
    return ids == TOKENIZER_AUTO ? "auto" : "file";
}

static void __attribute__((format(printf, 2, 3))) notice(struct tokenizer *t, const char *format,
                                                         ...)
{
    va_list arguments;

    if (t->notice_count == NOTICES)
        return;
    va_start(arguments, format);
    vsnprintf(t->notices[t->notice_count++], sizeof(t->notices[0]), format, arguments);
    va_end(arguments);
}

const char *tokenizer_notice(const struct tokenizer *t, int i)
{
    return i >= 0 && i < t->notice_count ? t->notices[i] : NULL;
}

/* Settings that Tokenizer.encode applies and AutoTokenizer, asked for no more than ids, does not. */
static void notice_ignored(struct tokenizer *t, const json_t *json)
{
    static const char *const keys[] = {"truncation", "padding"};
    const json_t *value;
    size_t i;

    for (i = 0; i < 2; i++) {
        value = json_object_get(json, keys[i]);
        if (value && !json_is_null(value))
            notice(t,
                   "\"%s\" of tokenizer.json is not applied, as AutoTokenizer does not by default",
                   keys[i]);
    }
    if (*added_tokens_moved(t->added))
        notice(t, "%s", added_tokens_moved(t->added));
}

static int read_parts(struct tokenizer *t, const json_t *json, struct error *err)
{
    int64_t added;

    if (!(t->normalizer = normalizer_open(json_object_get(json, "normalizer"), err)) ||
        !(t->pretokenizer = pretokenizer_open(json_object_get(json, "pre_tokenizer"), err)) ||
        !(t->template = template_open(json_object_get(json, "post_processor"), err)) ||
        !(t->decoder = decoder_open(json_object_get(json, "decoder"), err)) ||
        !(t->subword = subword_open(json_object_get(json, "model"), err)) ||
        !(t->added = added_tokens_open(json_object_get(json, "added_tokens"),
                                       subword_vocabulary(t->subword), t->normalizer, err)))
        return -1;
    t->ids = (int64_t)subword_vocabulary(t->subword)->ids;
    added = (int64_t)added_tokens_map(t->added)->ids;
    if (added > t->ids)
        t->ids = added;
    if (template_largest(t->template) > t->ids)
        return error_param(err, 400, "special_tokens",
                           "post_processor: \"special_tokens\": id %lld is no token's",
                           (long long)template_largest(t->template) - 1);
    notice_ignored(t, json);
    return 0;
}

static struct tokenizer *open_document(const json_t *json, struct error *err)
{
    struct tokenizer *t = calloc(1, sizeof(*t));

    if (!t) {
        error_set(err, 500, "tokenizer: out of memory");
        return NULL;
    }
    if (read_parts(t, json, err)) {
        tokenizer_close(t);
        return NULL;
    }
    return t;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t)
        return;
    normalizer_close(t->normalizer);
    pretokenizer_close(t->pretokenizer);
    subword_close(t->subword);
    added_tokens_close(t->added);
    template_close(t->template);
    decoder_close(t->decoder);
    free(t);
}

/* ---- does AutoTokenizer give other ids? ---- */

/* Texts that differ where normalizers, pre-tokenizers, decoders and prefixes do. */
static const char *const samples[] = {
    "the cat",
    "Hello, world! It's 2024: we'll see 12345 things.",
    "a  b   c",
    " leading and trailing ",
    "line one\nline two\n\n\tindented\r\n",
    "cafe\u0301 na\u00EFve \uFB01 \u2460",
    "\u65E5\u672C\u8A9E \u0440\u0443\u0441\u0441\u043A\u0438\u0439 \U0001F600",
    "x=y+1; // (comment) [0] {\"k\": 'v'}",
    "\u2581under \u00A0space",
};

enum { IDS_SHOWN = 8 };

/* Returns where two lists first differ, or 0 if that is among the first that are shown. */
static size_t shown_from(int64_t *const ids[2], const size_t count[2])
{
    size_t i = 0;

    while (i < count[0] && i < count[1] && ids[0][i] == ids[1][i])
        i++;
    return i < IDS_SHOWN ? 0 : i;
}

static void put_ids(struct buffer *out, const int64_t *ids, size_t from, size_t count)
{
    size_t i;

    buffer_text(out, from ? "..." : count ? "" : "none");
    for (i = from; i < count && i < from + IDS_SHOWN; i++)
        buffer_format(out, "%s%lld", i ? " " : "", (long long)ids[i]);
    buffer_text(out, count > i ? " ..." : "");
}

/* Whether two tokenizers differ in the ids of a text; then *text tells how. */
static int differs(const struct tokenizer *a, const struct tokenizer *b, const char *sample,
                   struct buffer *text)
{
    int64_t *ids[2] = {NULL, NULL};
    size_t count[2] = {0, 0}, from;
    int rc[2], other;

    rc[0] = tokenizer_encode(a, sample, strlen(sample), 1, &ids[0], &count[0], NULL);
    rc[1] = tokenizer_encode(b, sample, strlen(sample), 1, &ids[1], &count[1], NULL);
    other = rc[0] != rc[1] || count[0] != count[1] ||
            (count[0] && memcmp(ids[0], ids[1], count[0] * sizeof(**ids)) != 0);
    if (other) {
        from = shown_from(ids, count);
        put_ids(text, ids[0], from, count[0]);
        buffer_text(text, " here, ");
        put_ids(text, ids[1], from, count[1]);
        buffer_text(text, " there");
    }
    free(ids[0]);
    free(ids[1]);
    return other;
}

/* Whether the two differ in this text; then a notice says how. */
static int compare(struct tokenizer *t, enum tokenizer_ids ids, const struct tokenizer *other,
                   const char *sample)
{
    struct buffer how = {0};
    const int found = differs(t, other, sample, &how);

    if (found)
        notice(t,
               ids == TOKENIZER_FILE
                   ? "AutoTokenizer of transformers 5.18 gives other ids than tokenizer.json: for "
                     "\"%s\" %s; --tokenizer auto takes its"
                   : "these are the ids of AutoTokenizer of transformers 5.18; tokenizer.json has "
                     "others: for \"%s\" %s; --tokenizer file takes those",
               sample, how.data ? how.data : "");
    buffer_clear(&how);
    return found;
}

/* The added tokens of a document, each within a text. */
static int compare_added(struct tokenizer *t, enum tokenizer_ids ids, const struct tokenizer *other,
                         const json_t *document)
{
    char sample[128];
    json_t *item;
    size_t i;

    json_array_foreach (json_object_get(document, "added_tokens"), i, item) {
        const char *content = json_string_value(json_object_get(item, "content"));

        if (!content || strlen(content) > 96)
            continue;
        snprintf(sample, sizeof(sample), "the %s cat", content);
        if (compare(t, ids, other, sample))
            return 1;
    }
    return 0;
}

static void compare_all(struct tokenizer *t, enum tokenizer_ids ids, const struct tokenizer *other,
                        const struct tokenizer_files *files)
{
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
        if (compare(t, ids, other, samples[i]))
            return;
    if (!compare_added(t, ids, other, files->file))
        compare_added(t, ids, other, files->autos);
}

static void notice_auto(struct tokenizer *t, enum tokenizer_ids ids,
                        const struct tokenizer_files *files)
{
    const json_t *there = ids == TOKENIZER_FILE ? files->autos : files->file;
    struct tokenizer *other;

    if (ids == TOKENIZER_FILE && !files->autos)
        notice(t, "the ids are tokenizer.json's; %s", files->unknown);
    if (!files->file || !files->autos || files->file == files->autos)
        return;
    other = open_document(there, NULL);
    if (other)
        compare_all(t, ids, other, files);
    else
        notice(t, "whether AutoTokenizer of transformers 5.18 gives other ids is not known here");
    tokenizer_close(other);
}

static struct tokenizer *open_files(const char *folder, enum tokenizer_ids ids,
                                    const struct tokenizer_files *files, struct error *err)
{
    const json_t *json = ids == TOKENIZER_AUTO || !files->file ? files->autos : files->file;
    struct tokenizer *t;

    if (!json) {
        error_param(err, 400, "tokenizer", "%s: --tokenizer auto: %s", folder, files->unknown);
        return NULL;
    }
    t = open_document(json, err);
    if (t)
        notice_auto(t, ids, files);
    else
        error_prefix(err, "%s/tokenizer.json: ", folder);
    return t;
}

struct tokenizer *tokenizer_open(const char *folder, enum tokenizer_ids ids, struct error *err)
{
    struct tokenizer_files files;
    struct tokenizer *t = NULL;

    if (!tokenizer_files_read(folder, &files, err))
        t = open_files(folder, ids, &files, err);
    tokenizer_files_clear(&files);
    return t;
}

int64_t tokenizer_vocab_size(const struct tokenizer *t)
{
    return t->ids;
}

/* ---- text to ids ---- */

/* Splits at tokens that are matched in the text as it is; normalizes the rest; splits that at tokens
 * that are matched in normalized text. */
static int extract(const struct tokenizer *t, const char *text, size_t size, struct pieces *out,
                   struct error *err)
{
    struct buffer normal = {0};
    struct pieces raw = {0};
    int rc = 0;
    size_t i, zero, first, start;
    uint32_t point;

    added_tokens_split(t->added, 1, text, size, &raw);
    for (i = 0; i < raw.count && !rc && !raw.failed; i++) {
        if (raw.list[i].id >= 0) {
            pieces_append(out, pieces_text(&raw, i), raw.list[i].size, raw.list[i].id);
            continue;
        }
        normal.size = 0;
        zero = raw.list[i].start ? 0 : (size_t)utf8_get(text, &point);
        rc = normalizer_run(t->normalizer, pieces_text(&raw, i), raw.list[i].size, &zero, &normal,
                            err);
        first = out->count;
        start = out->text.size;
        if (!rc)
            added_tokens_split(t->added, 0, normal.data ? normal.data : "", normal.size, out);
        pieces_align(out, first, start, zero);
    }
    if (!rc && (raw.failed || out->failed))
        rc = error_set(err, 500, "tokenizer: out of memory");
    buffer_clear(&normal);
    pieces_clear(&raw);
    return rc;
}

static int look_up(const struct tokenizer *t, const struct pieces *pieces, struct id_list *ids,
                   struct error *err)
{
    struct subword_work work = {0};
    int rc = 0;
    size_t i;

    for (i = 0; i < pieces->count && !rc; i++) {
        if (pieces->list[i].id >= 0)
            id_list_append(ids, pieces->list[i].id);
        else
            rc = subword_encode(t->subword, &work, pieces_text(pieces, i), pieces->list[i].size,
                                ids, err);
    }
    subword_work_close(&work);
    return ids->failed ? error_set(err, 500, "tokenizer: out of memory") : rc;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t size, int special,
                     int64_t **ids, size_t *count, struct error *err)
{
    struct id_list list = {0};
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
        rc = look_up(t, &pieces, &list, err);
    if (!rc)
        rc = template_apply(t->template, list.ids, list.count, special, ids, count, err);
    pieces_clear(&pieces);
    id_list_clear(&list);
    return rc;
}

/* ---- ids to text ---- */

/* What the decoder gets of an id, or NULL: nothing. */
static const char *shown(const struct tokenizer *t, int64_t id, int skip_special, size_t *size)
{
    const char *text;
    int special;

    text = added_tokens_text(t->added, id, size, &special);
    if (text)
        return skip_special && special ? NULL : text;
    return token_map_text(subword_vocabulary(t->subword), id, size);
}

int tokenizer_stream_push(const struct tokenizer *t, struct tokenizer_stream *s, int64_t id,
                          int skip_special, struct buffer *out, struct error *err)
{
    const char *text;
    size_t size = 0;

    if (id < 0)
        return error_set(err, 400, "token id %lld is negative", (long long)id);
    if (!s->decoding && !(s->decoding = decoding_open(t->decoder, err)))
        return -1;
    text = shown(t, id, skip_special, &size);
    return text ? decoding_push(s->decoding, text, size, out, err) : 0;
}

int tokenizer_stream_finish(struct tokenizer_stream *s, struct buffer *out, struct error *err)
{
    int rc = s->decoding ? decoding_finish(s->decoding, out, err) : 0;

    tokenizer_stream_close(s);
    return rc;
}

void tokenizer_stream_close(struct tokenizer_stream *s)
{
    decoding_close(s->decoding);
    s->decoding = NULL;
}

int tokenizer_decode(const struct tokenizer *t, const int64_t *ids, size_t count, int skip_special,
                     struct buffer *out, struct error *err)
{
    struct tokenizer_stream stream = {0};
    size_t i;
    int rc = 0;

    for (i = 0; i < count && !rc; i++)
        rc = tokenizer_stream_push(t, &stream, ids[i], skip_special, out, err);
    if (!rc)
        rc = tokenizer_stream_finish(&stream, out, err);
    tokenizer_stream_close(&stream);
    return rc;
}

const char *tokenizer_token(const struct tokenizer *t, int64_t id)
{
    size_t size;

    return shown(t, id, 0, &size);
}

int64_t tokenizer_id(const struct tokenizer *t, const char *token)
{
    int64_t id = token_map_find(added_tokens_map(t->added), token, strlen(token));

    return id >= 0 ? id : token_map_find(subword_vocabulary(t->subword), token, strlen(token));
}
