/* pretokenize.c - see pretokenize.h. */
#include "server/tokenizer/pretokenize.h"

#include <stdlib.h>
#include <string.h>

#include "server/tokenizer/byte_level.h"
#include "server/tokenizer/pattern.h"
#include "server/tokenizer/unicode_class.h"
#include "kernels/base/utf8.h"

enum behavior { ISOLATED, REMOVED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS };

struct step {
    struct pattern *pattern; /* NULL: does not split, or Digits does */
    enum behavior behavior;
    int invert;
    int digits;       /* splits at numeric characters instead */
    int byte_level;   /* then spells bytes as characters */
    int prefix_space; /* before splitting */
};

struct pretokenizer {
    struct step *steps;
    size_t count;
};

/* GPT-2's pattern, which ByteLevel applies by itself. */
static const char byte_level_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static int flag(const json_t *json, const char *key, int missing, int *value, struct error *err)
{
    const json_t *found = json_object_get(json, key);

    if (!found && missing >= 0) {
        *value = missing;
        return 0;
    }
    if (!json_is_boolean(found))
        return error_param(err, 400, key, "pre_tokenizer: \"%s\" is not true or false", key);
    *value = json_is_true(found);
    return 0;
}

static int parse_byte_level(const json_t *json, struct step *s, struct error *err)
{
    int regex;

    s->byte_level = 1;
    if (flag(json, "add_prefix_space", -1, &s->prefix_space, err) ||
        flag(json, "use_regex", 1, &regex, err))
        return -1;
    if (!regex)
        return 0;
    s->pattern = pattern_open(byte_level_pattern, sizeof(byte_level_pattern) - 1, 0, err);
    return s->pattern ? 0 : -1;
}

static int parse_behavior(const json_t *json, struct step *s, struct error *err)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *name = json_string_value(json_object_get(json, "behavior"));
    size_t i;

    for (i = 0; name && i < sizeof(names) / sizeof(names[0]); i++) {
        if (!strcmp(name, names[i])) {
            s->behavior = (enum behavior)i;
            return 0;
        }
    }
    return error_param(err, 400, "behavior", "pre_tokenizer: behavior \"%s\" is not known",
                       name ? name : "(none)");
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
    if (parse_behavior(json, s, err) || flag(json, "invert", -1, &s->invert, err))
        return -1;
    s->pattern = pattern_open(json_string_value(text), json_string_length(text), !regex, err);
    return s->pattern ? 0 : error_prefix(err, "pre_tokenizer: ");
}

static int parse_digits(const json_t *json, struct step *s, struct error *err)
{
    int individual;

    if (flag(json, "individual_digits", -1, &individual, err))
        return -1;
    s->digits = 1;
    s->behavior = individual ? ISOLATED : CONTIGUOUS;
    return 0;
}

static int parse_step(const json_t *json, const char *type, struct step *s, struct error *err)
{
    if (!strcmp(type, "ByteLevel"))
        return parse_byte_level(json, s, err);
    if (!strcmp(type, "Split"))
        return parse_split(json, s, err);
    if (!strcmp(type, "Digits"))
        return parse_digits(json, s, err);
    return error_param(err, 400, "pre_tokenizer", "pre_tokenizer: \"%s\" is not supported", type);
}

static int parse(const json_t *json, int depth, struct pretokenizer *p, struct error *err)
{
    const char *type = json_string_value(json_object_get(json, "type"));
    const json_t *list, *item;
    struct step *grown;
    size_t i;

    if (!type || depth > 8)
        return error_param(err, 400, "pre_tokenizer",
                           "pre_tokenizer: no \"type\", or nested too deep");
    if (!strcmp(type, "Sequence")) {
        list = json_object_get(json, "pretokenizers");
        if (!json_is_array(list))
            return error_param(err, 400, "pretokenizers",
                               "pre_tokenizer: \"pretokenizers\" is no list");
        json_array_foreach (list, i, item)
            if (parse(item, depth + 1, p, err))
                return -1;
        return 0;
    }
    grown = realloc(p->steps, (p->count + 1) * sizeof(*grown));
    if (!grown)
        return error_set(err, 500, "pre_tokenizer: out of memory");
    p->steps = grown;
    memset(&grown[p->count], 0, sizeof(*grown));
    return parse_step(json, type, &grown[p->count++], err);
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
        pattern_close(p->steps[i].pattern);
    free(p->steps);
    free(p);
}

/* Cuts one piece into new ones.  It is given the piece's matches, and the stretches of text between
 * them, from left to right. */
struct cutter {
    struct pieces *out;
    enum behavior behavior;
    int invert;
    size_t base;     /* where the piece begins in the text */
    size_t previous; /* where the last match ended, from `base` */
    size_t first;    /* how many pieces `out` had before */
    int last_match;  /* whether the last stretch was a match */
};

/* Makes the newest piece end at `end`.  Returns whether there is one. */
static int extend(struct cutter *c, size_t end)
{
    struct piece *last;

    if (c->out->count == c->first)
        return 0;
    last = &c->out->list[c->out->count - 1];
    last->size = c->base + end - last->start;
    return 1;
}

static void stretch(struct cutter *c, size_t start, size_t end, int is_match)
{
    int joined = 0;

    is_match ^= c->invert;
    if (c->behavior == REMOVED && is_match)
        return;
    if (c->behavior == CONTIGUOUS && is_match == c->last_match)
        joined = extend(c, end);
    if (c->behavior == MERGED_WITH_PREVIOUS && is_match && !c->last_match)
        joined = extend(c, end);
    /* The package goes from right to left here, and a match is joined to what follows it unless
     * that is a match too.  From left to right: what follows extends the match's piece. */
    if (c->behavior == MERGED_WITH_NEXT && !is_match && c->last_match)
        joined = extend(c, end);
    c->last_match = is_match;
    if (!joined)
        pieces_add(c->out, c->base + start, end - start, -1);
}

static int found(void *context, size_t start, size_t end)
{
    struct cutter *c = context;

    if (start != c->previous)
        stretch(c, c->previous, start, 0);
    stretch(c, start, end, 1);
    c->previous = end;
    return c->out->failed;
}

static int each_number(const char *text, size_t size, struct cutter *c)
{
    size_t at = 0, n;
    uint32_t point;

    while (at < size) {
        n = (size_t)utf8_get(text + at, &point);
        if (unicode_is_numeric(point) && found(c, at, at + n))
            return -1;
        at += n;
    }
    return 0;
}

static int split_piece(const struct step *s, struct pattern_scan *scan, const char *view,
                       const struct piece *piece, struct pieces *out, struct error *err)
{
    struct cutter c = {.out = out,
                       .behavior = s->behavior,
                       .invert = s->invert,
                       .base = piece->start,
                       .first = out->count};
    int rc;

    if (s->digits)
        rc = each_number(view + piece->start, piece->size, &c);
    else
        rc = pattern_each(s->pattern, scan, view + piece->start, piece->size, found, &c, err);
    if (!rc && c.previous != piece->size)
        stretch(&c, c.previous, piece->size, 0);
    pieces_drop_empty(out, c.first);
    return rc;
}

static int split(const struct step *s, struct pattern_scan *scan, struct pieces *pieces,
                 struct error *err)
{
    struct buffer view = {0};
    struct pieces out = {0};
    size_t i;
    int rc = 0;

    if (s->digits)
        buffer_append(&view, pieces->text.data, pieces->text.size);
    else
        pattern_view(s->pattern, pieces->text.data ? pieces->text.data : "", pieces->text.size,
                     &view);
    if (view.failed)
        rc = error_set(err, 500, "pre_tokenizer: out of memory");
    for (i = 0; i < pieces->count && !rc; i++) {
        if (pieces->list[i].id >= 0)
            pieces_add(&out, pieces->list[i].start, pieces->list[i].size, pieces->list[i].id);
        else
            rc = split_piece(s, scan, view.data, &pieces->list[i], &out, err);
    }
    if (!rc && out.failed)
        rc = error_set(err, 500, "pre_tokenizer: out of memory");
    out.text = pieces->text;
    memset(&pieces->text, 0, sizeof(pieces->text));
    pieces_move(pieces, &out);
    buffer_clear(&view);
    return rc;
}

static void prefix_space(struct pieces *pieces)
{
    struct pieces out = {0};
    const char *text;
    size_t i, start;

    for (i = 0; i < pieces->count; i++) {
        text = pieces_text(pieces, i);
        start = out.text.size;
        if (pieces->list[i].id < 0 && text[0] != ' ')
            buffer_text(&out.text, " ");
        buffer_append(&out.text, text, pieces->list[i].size);
        pieces_add(&out, start, out.text.size - start, pieces->list[i].id);
    }
    out.failed |= out.text.failed;
    pieces_move(pieces, &out);
}

static void spell_bytes(struct pieces *pieces)
{
    struct pieces out = {0};
    const char *text;
    size_t i, start;

    for (i = 0; i < pieces->count; i++) {
        text = pieces_text(pieces, i);
        start = out.text.size;
        if (pieces->list[i].id >= 0)
            buffer_append(&out.text, text, pieces->list[i].size);
        else
            byte_level_encode(text, pieces->list[i].size, &out.text);
        pieces_add(&out, start, out.text.size - start, pieces->list[i].id);
    }
    out.failed |= out.text.failed;
    pieces_move(pieces, &out);
}

int pretokenizer_run(const struct pretokenizer *p, struct pieces *pieces, struct error *err)
{
    struct pattern_scan *scan = pattern_scan_open(err);
    int rc = scan ? 0 : -1;
    size_t i;

    for (i = 0; i < p->count && !rc; i++) {
        if (p->steps[i].prefix_space)
            prefix_space(pieces);
        if (p->steps[i].pattern || p->steps[i].digits)
            rc = split(&p->steps[i], scan, pieces, err);
        if (p->steps[i].byte_level && !rc)
            spell_bytes(pieces);
        if (pieces->failed && !rc)
            rc = error_set(err, 500, "pre_tokenizer: out of memory");
    }
    pattern_scan_close(scan);
    return rc;
}
