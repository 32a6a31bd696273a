/* decode.c - see decode.h.
 *
 * Strings of a list arrive at a stage in parts: feed(stage, bytes, end), where `end` closes a
 * string.  Fuse and ByteLevel make one string of all, which is closed only at the end; stages that
 * must see a whole string collect it. */
#include "server/tokenizer/decode_parts.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/utf8.h"
#include "server/tokenizer/byte_level.h"

static const char replacement_character[] = "\xEF\xBF\xBD";

struct stage_state {
    struct buffer whole; /* parts of the string that is not closed yet */
    struct buffer held;  /* BYTE_LEVEL, BYTE_FALLBACK: bytes; SUFFIX: the string before */
    size_t strings;      /* closed so far */
    size_t stripped;     /* STRIP: characters taken from the start of this string */
    int inside;          /* STRIP: something else than them has come */
};

struct decoding {
    const struct decoder *decoder;
    struct buffer *out;
    struct error *err;
    int failed; /* err is set */
    struct stage_state states[];
};

struct decoding *decoding_open(const struct decoder *d, struct error *err)
{
    struct decoding *s = calloc(1, sizeof(*s) + (size_t)d->count * sizeof(s->states[0]));

    if (!s) {
        error_set(err, 500, "decoder: out of memory");
        return NULL;
    }
    s->decoder = d;
    return s;
}

void decoding_close(struct decoding *d)
{
    int i;

    if (!d)
        return;
    for (i = 0; i < d->decoder->count; i++) {
        buffer_clear(&d->states[i].whole);
        buffer_clear(&d->states[i].held);
    }
    free(d);
}

static void feed(struct decoding *d, int stage, const char *text, size_t size, int end);

/* A whole string to the next stage. */
static void pass(struct decoding *d, int stage, const char *text, size_t size)
{
    feed(d, stage + 1, text, size, 1);
}

/* What of the held bytes is whole characters, repaired as Rust repairs it. */
static void flush_bytes(struct decoding *d, int stage, int more)
{
    struct stage_state *s = &d->states[stage];
    struct buffer text = {0};
    int kept;

    if (!s->held.size)
        return;
    kept = utf8_lossy(s->held.data, s->held.size, more, &text);
    memmove(s->held.data, s->held.data + s->held.size - kept, (size_t)kept);
    s->held.size = (size_t)kept;
    s->held.failed |= text.failed;
    feed(d, stage + 1, text.data ? text.data : "", text.size, 0);
    buffer_clear(&text);
}

/* The run of byte tokens before: one string when it is UTF-8, else U+FFFD for every byte.  It cannot
 * be known before the run ends. */
static void flush_run(struct decoding *d, int stage)
{
    struct stage_state *s = &d->states[stage];
    size_t i, size = s->held.size, offset;

    if (!size)
        return;
    s->held.size = 0;
    if (!utf8_check(s->held.data, size, &offset)) {
        pass(d, stage, s->held.data, size);
        return;
    }
    for (i = 0; i < size; i++)
        pass(d, stage, replacement_character, 3);
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte of a token like <0x0A>, or -1.  Rust's parser takes <0x+A> too. */
static int byte_of(const char *token, size_t size)
{
    if (size != 6 || memcmp(token, "<0x", 3) != 0 || token[5] != '>' || digit(token[4]) < 0)
        return -1;
    if (token[3] == '+')
        return digit(token[4]);
    return digit(token[3]) < 0 ? -1 : digit(token[3]) * 16 + digit(token[4]);
}

static void byte_fallback(struct decoding *d, int stage, const char *text, size_t size)
{
    int byte = byte_of(text, size);
    char c = (char)byte;

    if (byte >= 0) {
        buffer_append(&d->states[stage].held, &c, 1);
        return;
    }
    flush_run(d, stage);
    pass(d, stage, text, size);
}

/* Characters `content` are taken from the start as the parts come. */
static void strip_start(struct decoding *d, int stage, const char *text, size_t size, int end)
{
    const struct decoder_stage *s = &d->decoder->stages[stage];
    struct stage_state *state = &d->states[stage];

    while (!state->inside && state->stripped < s->start && size >= s->text_size &&
           !memcmp(text, s->text, s->text_size)) {
        state->stripped++;
        text += s->text_size;
        size -= s->text_size;
    }
    state->inside |= size > 0;
    feed(d, stage + 1, text, size, end);
    if (end)
        state->stripped = (size_t)(state->inside = 0);
}

static void strip_both(struct decoding *d, int stage, const char *text, size_t size)
{
    const struct decoder_stage *s = &d->decoder->stages[stage];
    size_t n;

    for (n = 0; n < s->start && size >= s->text_size && !memcmp(text, s->text, s->text_size); n++) {
        text += s->text_size;
        size -= s->text_size;
    }
    for (n = 0; n < s->stop && size >= s->text_size &&
                !memcmp(text + size - s->text_size, s->text, s->text_size);
         n++)
        size -= s->text_size;
    pass(d, stage, text, size);
}

/* The character becomes a space, or in the first string nothing. */
static void metaspace(struct decoding *d, int stage, const char *text, size_t size, int end)
{
    const struct decoder_stage *s = &d->decoder->stages[stage];
    const char *space = s->flag && !d->states[stage].strings ? "" : " ", *hit;

    while ((hit = memmem(text, size, s->text, s->text_size))) {
        feed(d, stage + 1, text, (size_t)(hit - text), 0);
        feed(d, stage + 1, space, strlen(space), 0);
        size -= (size_t)(hit - text) + s->text_size;
        text = hit + s->text_size;
    }
    feed(d, stage + 1, text, size, end);
    d->states[stage].strings += (size_t)end;
}

static void replace_all(struct buffer *b, const char *from, const char *to)
{
    struct buffer out = {0};
    const char *at = b->data ? b->data : "", *end = at + b->size, *hit;

    while ((hit = memmem(at, (size_t)(end - at), from, strlen(from)))) {
        buffer_append(&out, at, (size_t)(hit - at));
        buffer_text(&out, to);
        at = hit + strlen(from);
    }
    buffer_append(&out, at, (size_t)(end - at));
    out.failed |= b->failed;
    buffer_clear(b);
    *b = out;
}

static void word_piece(struct decoding *d, int stage, const char *text, size_t size)
{
    static const char *const tidied[][2] = {{" .", "."},     {" ?", "?"},           {" !", "!"},
                                            {" ,", ","},     {" ' ", "'"},          {" n't", "n't"},
                                            {" 'm", "'m"},   {" do not", " don't"}, {" 's", "'s"},
                                            {" 've", "'ve"}, {" 're", "'re"}};
    const struct decoder_stage *s = &d->decoder->stages[stage];
    struct buffer word = {0};
    size_t i;

    if (d->states[stage].strings++) {
        if (size >= s->text_size && !memcmp(text, s->text, s->text_size)) {
            text += s->text_size;
            size -= s->text_size;
        } else {
            buffer_text(&word, " ");
        }
    }
    buffer_append(&word, text, size);
    for (i = 0; s->flag && i < sizeof(tidied) / sizeof(tidied[0]); i++)
        replace_all(&word, tidied[i][0], tidied[i][1]);
    d->states[stage].held.failed |= word.failed;
    pass(d, stage, word.data ? word.data : "", word.size);
    buffer_clear(&word);
}

/* The suffix becomes a space, in the last string nothing: so one string is held back. */
static void flush_suffix(struct decoding *d, int stage, const char *space)
{
    struct stage_state *s = &d->states[stage];

    if (!s->strings)
        return;
    replace_all(&s->held, d->decoder->stages[stage].text, space);
    pass(d, stage, s->held.data ? s->held.data : "", s->held.size);
    s->held.size = 0;
}

static void suffix(struct decoding *d, int stage, const char *text, size_t size)
{
    flush_suffix(d, stage, " ");
    buffer_append(&d->states[stage].held, text, size);
    d->states[stage].strings++;
}

static void replace(struct decoding *d, int stage, const char *text, size_t size)
{
    struct buffer out = {0};
    struct aligned aligned = aligned_begin(&out, 0);

    d->failed |= replace_run(d->decoder->stages[stage].replace, text, size, &aligned, d->err) != 0;
    d->states[stage].held.failed |= out.failed;
    pass(d, stage, out.data ? out.data : "", out.size);
    buffer_clear(&out);
}

static void spaced(struct decoding *d, int stage, const char *text, size_t size)
{
    if (d->states[stage].strings++)
        feed(d, stage + 1, " ", 1, 0);
    pass(d, stage, text, size);
}

/* A stage that takes whole strings. */
static void take(struct decoding *d, int stage, const char *text, size_t size)
{
    switch (d->decoder->stages[stage].kind) {
    case DECODE_BYTE_LEVEL:
        byte_level_decode(text, size, &d->states[stage].held);
        flush_bytes(d, stage, 1);
        return;
    case DECODE_BYTE_FALLBACK:
        byte_fallback(d, stage, text, size);
        return;
    case DECODE_STRIP:
        strip_both(d, stage, text, size);
        return;
    case DECODE_REPLACE:
        replace(d, stage, text, size);
        return;
    case DECODE_WORD_PIECE:
        word_piece(d, stage, text, size);
        return;
    case DECODE_SUFFIX:
        suffix(d, stage, text, size);
        return;
    default:
        spaced(d, stage, text, size);
        return;
    }
}

static void feed(struct decoding *d, int stage, const char *text, size_t size, int end)
{
    const struct decoder_stage *s = &d->decoder->stages[stage];
    struct stage_state *state = &d->states[stage];

    if (stage == d->decoder->count) {
        buffer_append(d->out, text, size);
    } else if (s->kind == DECODE_FUSE) {
        feed(d, stage + 1, text, size, 0);
    } else if (s->kind == DECODE_STRIP && !s->stop) {
        strip_start(d, stage, text, size, end);
    } else if (s->kind == DECODE_METASPACE) {
        metaspace(d, stage, text, size, end);
    } else if (end && !state->whole.size) {
        take(d, stage, text, size);
    } else {
        buffer_append(&state->whole, text, size);
        if (!end || state->whole.failed)
            return;
        take(d, stage, state->whole.data ? state->whole.data : "", state->whole.size);
        state->whole.size = 0;
    }
}

static void finish_stage(struct decoding *d, int stage)
{
    switch (d->decoder->stages[stage].kind) {
    case DECODE_BYTE_LEVEL:
        flush_bytes(d, stage, 0);
        feed(d, stage + 1, "", 0, 1);
        return;
    case DECODE_FUSE:
        feed(d, stage + 1, "", 0, 1);
        return;
    case DECODE_BYTE_FALLBACK:
        flush_run(d, stage);
        return;
    case DECODE_SUFFIX:
        flush_suffix(d, stage, "");
        return;
    default:
        return;
    }
}

static int check(struct decoding *d)
{
    int i, failed = d->out->failed;

    for (i = 0; i < d->decoder->count; i++)
        failed |= d->states[i].whole.failed | d->states[i].held.failed;
    if (failed)
        return error_set(d->err, 500, "decoder: out of memory");
    return d->failed ? -1 : 0;
}

int decoding_push(struct decoding *d, const char *token, size_t size, struct buffer *out,
                  struct error *err)
{
    d->out = out;
    d->err = err;
    feed(d, 0, token, size, 1);
    return check(d);
}

int decoding_finish(struct decoding *d, struct buffer *out, struct error *err)
{
    int i;

    d->out = out;
    d->err = err;
    for (i = 0; i < d->decoder->count; i++)
        finish_stage(d, i);
    return check(d);
}
