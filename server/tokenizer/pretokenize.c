/* pretokenize.c - see pretokenize.h. */
#include "server/tokenizer/pretokenize.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/utf8.h"
#include "server/tokenizer/aligned.h"
#include "server/tokenizer/byte_level.h"
#include "server/tokenizer/cut.h"
#include "server/tokenizer/unicode_class.h"

enum prefix { PREFIX_NEVER, PREFIX_FIRST, PREFIX_ALWAYS };

/* One of: rewriting before cutting (a prefix, spaces as `meta`), cutting, spelling bytes. */
struct step {
    char meta[5];       /* the character that stands for a space; "": spaces stay */
    enum prefix prefix; /* `meta` or a space before a piece that does not begin with it */
    int cuts;
    struct cut cut;
    int byte_level; /* then spells bytes as characters */
};

struct pretokenizer {
    struct step *steps;
    size_t count;
};

/* GPT-2's pattern, which ByteLevel applies by itself. */
static const char byte_level_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* ---- how they are written ---- */

static int flag(const json_t *json, const char *key, int missing, int *value, struct error *err)
{
    const json_t *found = json_object_get(json, key);

    if ((!found || json_is_null(found)) && missing >= 0) {
        *value = missing;
        return 0;
    }
    if (!json_is_boolean(found))
        return error_param(err, 400, key, "pre_tokenizer: \"%s\" is not true or false", key);
    *value = json_is_true(found);
    return 0;
}

static int set_pattern(struct step *s, const char *text, size_t size, int literal,
                       struct error *err)
{
    s->cuts = 1;
    s->cut.pattern = pattern_open(text, size, literal, err);
    return s->cut.pattern ? 0 : error_prefix(err, "pre_tokenizer: ");
}

static int parse_byte_level(const json_t *json, struct step *s, struct error *err)
{
    int regex = 0, space = 0;

    s->byte_level = 1;
    if (flag(json, "add_prefix_space", -1, &space, err) || flag(json, "use_regex", 1, &regex, err))
        return -1;
    s->prefix = space ? PREFIX_ALWAYS : PREFIX_NEVER;
    return regex ? set_pattern(s, byte_level_pattern, sizeof(byte_level_pattern) - 1, 0, err) : 0;
}

static int parse_behavior(const json_t *json, const char *missing, struct step *s,
                          struct error *err)
{
    const json_t *value = json_object_get(json, "behavior");
    const char *name = value ? json_string_value(value) : missing;
    int found = name ? cut_behavior_find(name) : -1;

    if (found < 0)
        return error_param(err, 400, "behavior", "pre_tokenizer: behavior \"%s\" is not known",
                           name ? name : "(none)");
    s->cut.behavior = (enum cut_behavior)found;
    return 0;
}

static int parse_split(const json_t *json, struct step *s, struct error *err)
{
    const json_t *pattern = json_object_get(json, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex");
    const json_t *string = json_object_get(pattern, "String");
    const json_t *text = regex ? regex : string;

    if (json_object_size(pattern) != 1 || !json_is_string(text))
        return error_param(err, 400, "pattern",
                           "pre_tokenizer: \"pattern\" is neither {\"Regex\": ..} nor "
                           "{\"String\": ..}");
    if (parse_behavior(json, NULL, s, err) || flag(json, "invert", -1, &s->cut.invert, err))
        return -1;
    return set_pattern(s, json_string_value(text), json_string_length(text), !regex, err);
}

static int parse_digits(const json_t *json, struct step *s, struct error *err)
{
    int individual = 0;

    s->cuts = 1;
    s->cut.matches = unicode_is_numeric;
    if (flag(json, "individual_digits", -1, &individual, err))
        return -1;
    s->cut.behavior = individual ? CUT_ISOLATED : CUT_CONTIGUOUS;
    return 0;
}

static int parse_punctuation(const json_t *json, struct step *s, struct error *err)
{
    s->cuts = 1;
    s->cut.matches = unicode_is_punctuation;
    return parse_behavior(json, "Isolated", s, err);
}

static int parse_spaces(const json_t *json, struct step *s, struct error *err)
{
    (void)json, (void)err;
    s->cuts = 1;
    s->cut.matches = unicode_is_space;
    s->cut.behavior = CUT_REMOVED;
    return 0;
}

static int parse_bert_punctuation(const json_t *json, struct step *s, struct error *err)
{
    (void)json, (void)err;
    s->cuts = 1;
    s->cut.matches = unicode_is_punctuation;
    s->cut.behavior = CUT_ISOLATED;
    return 0;
}

static int parse_words(const json_t *json, struct step *s, struct error *err)
{
    (void)json, (void)err;
    s->cuts = 1;
    return 0;
}

static int parse_length(const json_t *json, struct step *s, struct error *err)
{
    const json_t *length = json_object_get(json, "length");

    s->cuts = 1;
    s->cut.length = length ? (size_t)json_integer_value(length) : 5;
    if (length && (!json_is_integer(length) || json_integer_value(length) < 1))
        return error_param(err, 400, "length", "pre_tokenizer: \"length\" is not 1 or more");
    return 0;
}

/* A key whose value is one character. */
static int read_character(const json_t *json, const char *key, const char **text, struct error *err)
{
    const json_t *value = json_object_get(json, key);
    uint32_t point;

    *text = json_string_value(value);
    if (!json_string_length(value) ||
        (size_t)utf8_get(*text, &point) != json_string_length(value) || !point)
        return error_param(err, 400, key, "pre_tokenizer: \"%s\" is not one character", key);
    return 0;
}

static int parse_delimiter(const json_t *json, struct step *s, struct error *err)
{
    const char *text;

    if (read_character(json, "delimiter", &text, err))
        return -1;
    s->cut.behavior = CUT_REMOVED;
    return set_pattern(s, text, strlen(text), 1, err);
}

static int parse_scheme(const json_t *json, struct step *s, struct error *err)
{
    static const char *const names[] = {"never", "first", "always"};
    const json_t *value = json_object_get(json, "prepend_scheme");
    const char *name = value ? json_string_value(value) : "always";
    int i, old = 1;

    for (i = 0; i < 3 && !(name && !strcmp(name, names[i])); i++)
        ;
    if (i == 3)
        return error_param(err, 400, "prepend_scheme",
                           "pre_tokenizer: \"prepend_scheme\" is not always, first or never");
    s->prefix = (enum prefix)i;
    if (flag(json, "add_prefix_space", 1, &old, err))
        return -1;
    if (!old && s->prefix != PREFIX_NEVER)
        return error_param(err, 400, "add_prefix_space",
                           "pre_tokenizer: \"add_prefix_space\" is false and "
                           "\"prepend_scheme\" not \"never\"");
    return 0;
}

static int parse_metaspace(const json_t *json, struct step *s, struct error *err)
{
    const char *text;
    int splits = 1;

    if (read_character(json, "replacement", &text, err) || parse_scheme(json, s, err) ||
        flag(json, "split", 1, &splits, err))
        return -1;
    memcpy(s->meta, text, strlen(text) + 1);
    s->cut.behavior = CUT_MERGED_WITH_NEXT;
    return splits ? set_pattern(s, text, strlen(text), 1, err) : 0;
}

static const struct {
    const char *type;
    int (*parse)(const json_t *json, struct step *s, struct error *err);
} types[] = {
    {"ByteLevel", parse_byte_level},
    {"Split", parse_split},
    {"Digits", parse_digits},
    {"Punctuation", parse_punctuation},
    {"Metaspace", parse_metaspace},
    {"WhitespaceSplit", parse_spaces},
    {"Whitespace", parse_words},
    {"CharDelimiterSplit", parse_delimiter},
    {"FixedLength", parse_length},
    {"BertPreTokenizer", parse_spaces}, /* which is two steps */
    {"BertPreTokenizer", parse_bert_punctuation},
};

static struct step *add_step(struct pretokenizer *p, struct error *err)
{
    struct step *grown = realloc(p->steps, (p->count + 1) * sizeof(*grown));

    if (!grown) {
        error_set(err, 500, "pre_tokenizer: out of memory");
        return NULL;
    }
    p->steps = grown;
    memset(&grown[p->count], 0, sizeof(*grown));
    return &grown[p->count++];
}

static int parse_type(const json_t *json, const char *type, struct pretokenizer *p,
                      struct error *err)
{
    struct step *step;
    size_t i;
    int known = 0;

    for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(type, types[i].type))
            continue;
        known = 1;
        step = add_step(p, err);
        if (!step || types[i].parse(json, step, err))
            return -1;
    }
    return known ? 0
                 : error_param(err, 400, "pre_tokenizer", "pre_tokenizer: \"%s\" is not supported",
                               type);
}

static int parse(const json_t *json, int depth, struct pretokenizer *p, struct error *err)
{
    const char *type = json_string_value(json_object_get(json, "type"));
    const json_t *list, *item;
    size_t i;

    if (!type || depth > 8)
        return error_param(err, 400, "pre_tokenizer",
                           "pre_tokenizer: no \"type\", or nested too deep");
    if (strcmp(type, "Sequence") != 0)
        return parse_type(json, type, p, err);
    list = json_object_get(json, "pretokenizers");
    if (!json_is_array(list))
        return error_param(err, 400, "pretokenizers",
                           "pre_tokenizer: \"pretokenizers\" is no list");
    json_array_foreach (list, i, item)
        if (parse(item, depth + 1, p, err))
            return -1;
    return 0;
}

struct pretokenizer *pretokenizer_open(const json_t *json, struct error *err)
{
    struct pretokenizer *p = calloc(1, sizeof(*p));

    if (!p) {
        error_set(err, 500, "pre_tokenizer: out of memory");
        return NULL;
    }
    if (json && !json_is_null(json) && parse(json, 0, p, err)) {
        pretokenizer_close(p);
        return NULL;
    }
    return p;
}

void pretokenizer_close(struct pretokenizer *p)
{
    size_t i;

    if (!p)
        return;
    for (i = 0; i < p->count; i++)
        pattern_close(p->steps[i].cut.pattern);
    free(p->steps);
    free(p);
}

/* ---- what they do ---- */

/* Appends a piece anew, with spaces as `meta`. */
static void put_spaces(const char *meta, const char *text, size_t size, struct aligned *out)
{
    const char *hit;
    size_t at = 0;

    while (*meta && (hit = memchr(text + at, ' ', size - at))) {
        aligned_copy(out, text, at, (size_t)(hit - text) - at);
        at = (size_t)(hit - text) + 1;
        aligned_put(out, meta, strlen(meta), at - 1);
    }
    aligned_copy(out, text, at, size - at);
}

static void rewrite_piece(const struct step *s, const char *text, const struct piece *piece,
                          struct aligned *out)
{
    const char *mark = *s->meta ? s->meta : " ";
    const size_t n = strlen(mark);
    int begins = (piece->size >= n && !memcmp(text, mark, n)) || (piece->size && *text == ' ');

    if (!begins && (s->prefix == PREFIX_ALWAYS || (s->prefix == PREFIX_FIRST && piece->zero)))
        aligned_put(out, mark, n, 0);
    put_spaces(s->meta, text, piece->size, out);
}

static void rewrite(const struct step *s, struct pieces *pieces)
{
    struct pieces out = {0};
    const struct piece *piece;
    struct aligned aligned;
    const char *text;
    size_t i, start;

    for (i = 0; i < pieces->count; i++) {
        piece = &pieces->list[i];
        text = pieces_text(pieces, i);
        start = out.text.size;
        aligned = aligned_begin(&out.text, piece->zero);
        if (piece->id < 0)
            rewrite_piece(s, text, piece, &aligned);
        else
            buffer_append(&out.text, text, piece->size);
        pieces_add(&out, start, out.text.size - start, piece->id);
        pieces_align(&out, out.count - 1, start, aligned.zero_out);
    }
    out.failed |= out.text.failed;
    pieces_move(pieces, &out);
}

static void spell_bytes(struct pieces *pieces)
{
    struct pieces out = {0};
    const struct piece *piece;
    const char *text;
    size_t i, start, zero;

    for (i = 0; i < pieces->count; i++) {
        piece = &pieces->list[i];
        text = pieces_text(pieces, i);
        start = out.text.size;
        zero = 0;
        if (piece->id >= 0) {
            buffer_append(&out.text, text, piece->size);
        } else {
            byte_level_encode(text, piece->zero, &out.text);
            zero = out.text.size - start;
            byte_level_encode(text + piece->zero, piece->size - piece->zero, &out.text);
        }
        pieces_add(&out, start, out.text.size - start, piece->id);
        pieces_align(&out, out.count - 1, start, zero);
    }
    out.failed |= out.text.failed;
    pieces_move(pieces, &out);
}

static int run_step(const struct step *s, struct pattern_scan *scan, struct pieces *pieces,
                    struct error *err)
{
    if (*s->meta || s->prefix != PREFIX_NEVER)
        rewrite(s, pieces);
    if (s->cuts && cut_run(&s->cut, scan, pieces, err))
        return -1;
    if (s->byte_level)
        spell_bytes(pieces);
    return pieces->failed ? error_set(err, 500, "pre_tokenizer: out of memory") : 0;
}

int pretokenizer_run(const struct pretokenizer *p, struct pieces *pieces, struct error *err)
{
    struct pattern_scan *scan = pattern_scan_open(err);
    int rc = scan ? 0 : -1;
    size_t i;

    for (i = 0; i < p->count && !rc; i++)
        rc = run_step(&p->steps[i], scan, pieces, err);
    pattern_scan_close(scan);
    return rc;
}
