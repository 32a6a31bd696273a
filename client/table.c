/* table.c - see table.h. */
#include "client/table.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "kernels/base/buffer.h"

enum { GAP = 2, MAX_COLUMNS = 16 };

/* ---- colour ---- */

int color_on(FILE *stream)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

    return isatty(fileno(stream)) && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
}

static const char *color_code(enum color color)
{
    static const char *const codes[] = {
        [COLOR_NONE] = "",         [COLOR_BOLD] = "\033[1m",   [COLOR_DIM] = "\033[2m",
        [COLOR_GOOD] = "\033[32m", [COLOR_BAD] = "\033[1;31m", [COLOR_WARN] = "\033[33m",
    };

    return codes[color];
}

void color_print(FILE *stream, enum color color, const char *text)
{
    if (color != COLOR_NONE && color_on(stream))
        fprintf(stream, "%s%s\033[0m", color_code(color), text);
    else
        fputs(text, stream);
}

/* ---- tables ---- */

struct cell {
    char *text;
    int width;
    enum color color;
};

struct row {
    struct cell cells[MAX_COLUMNS];
    int count;
    int across; /* one cell over all columns */
    enum color color;
};

struct table {
    const struct table_column *columns;
    int count;
    struct row *rows;
    size_t size, capacity;
    int failed;
};

int text_width(const char *text)
{
    mbstate_t state = {0};
    size_t left = strlen(text);
    int width = 0;

    while (left > 0) {
        wchar_t c;
        size_t n = mbrtowc(&c, text, left, &state);
        int w = n == (size_t)-1 || n == (size_t)-2 ? -1 : wcwidth(c);

        if (w < 0) { /* not a character of this locale: counts one column for each byte */
            memset(&state, 0, sizeof(state));
            n = 1;
            w = 1;
        }
        n = n ? n : 1;
        width += w;
        text += n;
        left -= n;
    }
    return width;
}

struct table *table_create(const struct table_column *columns, int count)
{
    struct table *t = calloc(1, sizeof(*t));

    if (t) {
        t->columns = columns;
        t->count = count < MAX_COLUMNS ? count : MAX_COLUMNS;
    }
    return t;
}

void table_free(struct table *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->size; i++)
        for (int k = 0; k < t->rows[i].count; k++)
            free(t->rows[i].cells[k].text);
    free(t->rows);
    free(t);
}

void table_row(struct table *t, enum color color)
{
    if (!t || t->failed)
        return;
    if (t->size == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 64;
        struct row *rows = realloc(t->rows, capacity * sizeof(*rows));

        if (!rows) {
            t->failed = 1;
            return;
        }
        t->rows = rows;
        t->capacity = capacity;
    }
    t->rows[t->size++] = (struct row){.color = color};
}

/* Returns a copy of text with control characters escaped, since terminals would obey them. */
static char *visible(const char *text)
{
    struct buffer out = {0};

    buffer_text(&out, "");
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        const char *short_name = c == '\n' ? "\\n" : c == '\t' ? "\\t" : c == '\r' ? "\\r" : NULL;

        if (short_name)
            buffer_text(&out, short_name);
        else if (c < 32 || c == 127)
            buffer_format(&out, "\\x%02x", c);
        else if (c == 0xc2 && (unsigned char)text[1] >= 0x80 && (unsigned char)text[1] < 0xa0)
            buffer_format(&out, "\\u%04x", (unsigned char)*++text); /* C1 controls */
        else
            buffer_append(&out, text, 1);
    }
    if (out.failed)
        buffer_clear(&out);
    return out.data;
}

static void add_cell(struct table *t, const char *format, va_list args)
{
    struct row *row;
    struct cell *cell;
    char *text = NULL;

    if (!t || t->failed || t->size == 0)
        return;
    row = &t->rows[t->size - 1];
    if (row->count == t->count)
        return;
    cell = &row->cells[row->count];
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    cell->text = text ? visible(text) : NULL;
    free(text);
    if (!cell->text) {
        t->failed = 1;
        return;
    }
    cell->width = text_width(cell->text);
    row->count++;
}

void table_cell(struct table *t, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    add_cell(t, format, args);
    va_end(args);
}

void table_cell_color(struct table *t, enum color color)
{
    struct row *row = t && t->size ? &t->rows[t->size - 1] : NULL;

    if (row && row->count)
        row->cells[row->count - 1].color = color;
}

void table_line(struct table *t, enum color color, const char *format, ...)
{
    va_list args;

    table_row(t, color);
    va_start(args, format);
    add_cell(t, format, args);
    va_end(args);
    if (t && t->size)
        t->rows[t->size - 1].across = 1;
}

static int terminal_width(FILE *stream)
{
    struct winsize size;

    if (!isatty(fileno(stream)) || ioctl(fileno(stream), TIOCGWINSZ, &size) || size.ws_col == 0)
        return 0;
    return size.ws_col;
}

/* Sets the widths.  Columns that can be spared are left out (width -1) until the table fits. */
static void lay_out(const struct table *t, int room, int *width)
{
    int total = -GAP;

    for (int k = 0; k < t->count; k++) {
        width[k] = text_width(t->columns[k].title);
        for (size_t i = 0; i < t->size; i++)
            if (!t->rows[i].across && k < t->rows[i].count && t->rows[i].cells[k].width > width[k])
                width[k] = t->rows[i].cells[k].width;
        total += width[k] + GAP;
    }
    while (room > 0 && total > room) {
        int worst = 0;

        for (int k = 1; k < t->count; k++)
            if (width[k] >= 0 && t->columns[k].spare > t->columns[worst].spare)
                worst = k;
        if (t->columns[worst].spare == 0)
            return;
        total -= width[worst] + GAP;
        width[worst] = -1;
    }
}

static void print_cell(FILE *stream, const char *text, int spaces, int right, enum color color)
{
    if (right)
        fprintf(stream, "%*s", spaces, "");
    color_print(stream, color, text);
    if (!right)
        fprintf(stream, "%*s", spaces, "");
}

static void print_row(const struct table *t, const struct row *row, const int *width, FILE *stream)
{
    int last = row->count - 1, owed = 0;

    while (last > 0 && (width[last] < 0 || row->cells[last].width == 0))
        last--;
    for (int k = 0; k <= last; k++) {
        const struct cell *c = &row->cells[k];
        enum color color = c->color ? c->color : row->color;
        int spaces;

        if (width[k] < 0)
            continue;
        spaces = width[k] - c->width;
        fprintf(stream, "%*s", owed, "");
        owed = GAP;
        print_cell(stream, c->text, k == last && !t->columns[k].right ? 0 : spaces,
                   t->columns[k].right, color);
    }
    fputc('\n', stream);
}

static void print_titles(const struct table *t, const int *width, FILE *stream)
{
    struct row titles = {.color = COLOR_BOLD, .count = t->count};

    for (int k = 0; k < t->count; k++) {
        titles.cells[k].text = (char *)t->columns[k].title;
        titles.cells[k].width = text_width(t->columns[k].title);
    }
    print_row(t, &titles, width, stream);
}

/* Returns whether the table has rows besides lines across: only these need titles. */
static int has_rows(const struct table *t)
{
    for (size_t i = 0; i < t->size; i++)
        if (!t->rows[i].across)
            return 1;
    return t->size == 0;
}

int table_print(const struct table *t, FILE *stream)
{
    int width[MAX_COLUMNS], left_out = 0;

    if (!t || t->failed)
        return -1;
    lay_out(t, terminal_width(stream), width);
    if (has_rows(t))
        print_titles(t, width, stream);
    for (size_t i = 0; i < t->size; i++)
        if (t->rows[i].across) {
            color_print(stream, t->rows[i].color, t->rows[i].cells[0].text);
            fputc('\n', stream);
        } else {
            print_row(t, &t->rows[i], width, stream);
        }
    for (int k = 0; k < t->count && has_rows(t); k++)
        if (width[k] < 0) {
            fprintf(stream, "%s%s", left_out ? ", " : "(too narrow for: ", t->columns[k].title);
            left_out = 1;
        }
    if (left_out)
        fputs(")\n", stream);
    return ferror(stream) ? -1 : 0;
}

/* ---- numbers ---- */

char *number_short(double v, char *out, size_t size)
{
    if (v == 0 || isnan(v) || isinf(v))
        snprintf(out, size, "%s", isnan(v) ? "nan" : v == 0 ? "0" : v > 0 ? "inf" : "-inf");
    else
        snprintf(out, size, "%.2e", v);
    return out;
}

char *number_grouped(int64_t v, char *out, size_t size)
{
    char digits[32];
    int n = snprintf(digits, sizeof(digits), "%lld", (long long)v), at = 0;

    for (int i = 0; i < n && (size_t)at + 2 < size; i++) {
        if (i && (n - i) % 3 == 0 && digits[i - 1] != '-')
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

char *number_bytes(uint64_t bytes, char *out, size_t size)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int unit = 0;

    for (; v >= 1024 && unit < 4; unit++)
        v /= 1024;
    snprintf(out, size, unit ? "%.1f %s" : "%.0f %s", v, units[unit]);
    return out;
}

/* ---- progress ---- */

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_start(struct progress *p)
{
    const char *term = getenv("TERM");

    memset(p, 0, sizeof(*p));
    p->on = isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
    p->started = seconds();
    p->last = p->started + 0.3; /* a transfer that is over by then shows no progress */
}

void progress_show(struct progress *p, const char *label, uint64_t done, uint64_t all)
{
    enum { BAR = 24 };
    char now[32], total[32], rate[32], bar[BAR + 1];
    double t = seconds(), share = all ? (double)done / (double)all : 0;
    int width = terminal_width(stderr), filled, room;

    if (!p->on || t - p->last < 0.1)
        return;
    p->last = t;
    p->shown = 1;
    filled = (int)(share * BAR);
    for (int i = 0; i < BAR; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[BAR] = '\0';
    number_bytes(done, now, sizeof(now));
    number_bytes(all, total, sizeof(total));
    number_bytes((uint64_t)((double)done / (t - p->started + 1e-9)), rate, sizeof(rate));
    room = (width ? width : 80) - BAR - 44;
    fprintf(stderr, "\r\033[K[%s] %3.0f%%  %s of %s  %s/s  %.*s", bar, 100 * share, now,
            all ? total : "?", rate, room > 0 ? room : 0, label);
    fflush(stderr);
}

void progress_end(struct progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->shown = 0;
}
