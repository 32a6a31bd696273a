/* cut.c - see cut.h. */
#include "server/tokenizer/cut.h"

#include <string.h>

#include "kernels/base/utf8.h"
#include "server/tokenizer/unicode_class.h"

int cut_behavior_find(const char *name)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!strcmp(name, names[i]))
            return (int)i;
    return -1;
}

/* Cuts one piece into new ones.  It is given the piece's matches, and the stretches of text between
 * them, from left to right. */
struct cutter {
    struct pieces *out;
    enum cut_behavior behavior;
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
    if (c->behavior == CUT_REMOVED && is_match)
        return;
    if (c->behavior == CUT_CONTIGUOUS && is_match == c->last_match)
        joined = extend(c, end);
    if (c->behavior == CUT_MERGED_WITH_PREVIOUS && is_match && !c->last_match)
        joined = extend(c, end);
    /* The package goes from right to left here, and a match is joined to what follows it unless
     * that is a match too.  From left to right: what follows extends the match's piece. */
    if (c->behavior == CUT_MERGED_WITH_NEXT && !is_match && c->last_match)
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

static int each_character(int (*matches)(uint32_t), const char *text, size_t size, struct cutter *c)
{
    size_t at = 0, n;
    uint32_t point;

    while (at < size) {
        n = (size_t)utf8_get(text + at, &point);
        if (matches(point) && found(c, at, at + n))
            return -1;
        at += n;
    }
    return 0;
}

static int kind_of(uint32_t point)
{
    return unicode_is_word(point) ? 1 : unicode_is_space(point) ? 0 : 2;
}

static void add_words(struct cutter *c, const char *text, size_t size)
{
    size_t at = 0, start = 0;
    uint32_t point;
    int kind, before = 0;

    while (at < size) {
        utf8_get(text + at, &point);
        kind = kind_of(point);
        if (kind != before) {
            if (before)
                pieces_add(c->out, c->base + start, at - start, -1);
            start = at;
        }
        before = kind;
        at += (size_t)utf8_get(text + at, &point);
    }
    if (before)
        pieces_add(c->out, c->base + start, size - start, -1);
}

static void add_lengths(struct cutter *c, size_t length, const char *text, size_t size)
{
    size_t at = 0, start, n;
    uint32_t point;

    while (at < size) {
        start = at;
        for (n = 0; n < length && at < size; n++)
            at += (size_t)utf8_get(text + at, &point);
        pieces_add(c->out, c->base + start, at - start, -1);
    }
}

static int cut_piece(const struct cut *cut, struct pattern_scan *scan, const char *text,
                     const struct piece *piece, struct pieces *out, struct error *err)
{
    struct cutter c = {.out = out,
                       .behavior = cut->behavior,
                       .invert = cut->invert,
                       .base = piece->start,
                       .first = out->count};
    int rc = 0;

    if (cut->length) {
        add_lengths(&c, cut->length, text, piece->size);
    } else if (!cut->pattern && !cut->matches) {
        add_words(&c, text, piece->size);
    } else {
        rc = cut->matches ? each_character(cut->matches, text, piece->size, &c)
                          : pattern_each(cut->pattern, scan, text, piece->size, found, &c, err);
        if (!rc && c.previous != piece->size)
            stretch(&c, c.previous, piece->size, 0);
    }
    pieces_drop_empty(out, c.first);
    pieces_align(out, c.first, piece->start, piece->zero);
    return rc;
}

int cut_run(const struct cut *c, struct pattern_scan *scan, struct pieces *pieces,
            struct error *err)
{
    const char *text = pieces->text.data ? pieces->text.data : "";
    struct buffer view = {0};
    struct pieces out = {0};
    size_t i;
    int rc = 0;

    if (c->pattern) {
        pattern_view(c->pattern, text, pieces->text.size, &view);
        text = view.data ? view.data : "";
    }
    if (view.failed)
        rc = error_set(err, 500, "pre_tokenizer: out of memory");
    for (i = 0; i < pieces->count && !rc; i++) {
        if (pieces->list[i].id >= 0)
            pieces_add(&out, pieces->list[i].start, pieces->list[i].size, pieces->list[i].id);
        else
            rc = cut_piece(c, scan, text + pieces->list[i].start, &pieces->list[i], &out, err);
    }
    if (out.failed)
        rc = error_set(err, 500, "pre_tokenizer: out of memory");
    out.text = pieces->text;
    memset(&pieces->text, 0, sizeof(pieces->text));
    pieces_move(pieces, &out);
    buffer_clear(&view);
    return rc;
}
