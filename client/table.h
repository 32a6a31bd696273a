/* table.h - what the terminal shows: aligned tables, colour, numbers, a line of progress. */
#ifndef SAMEBIT_TABLE_H
#define SAMEBIT_TABLE_H

#include <stdint.h>
#include <stdio.h>

/* ---- colour: only on a terminal, and not with NO_COLOR ---- */

enum color { COLOR_NONE, COLOR_BOLD, COLOR_DIM, COLOR_GOOD, COLOR_BAD, COLOR_WARN };

int color_on(FILE *stream);
/* Prints text, in that colour if color_on(stream). */
void color_print(FILE *stream, enum color color, const char *text);

/* ---- tables ---- */

struct table_column {
    const char *title;
    int right; /* numbers: set flush right */
    int spare; /* if not 0: left out when the terminal is too narrow, the highest number first */
};

struct table;

/* columns is borrowed for the table's life.  NULL when memory is out. */
struct table *table_create(const struct table_column *columns, int count);
void table_free(struct table *t);
/* A new row; its cells are added from the left, copied.  Control characters show as \n, \x1b. */
void table_row(struct table *t, enum color color);
void table_cell(struct table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Sets the colour of the last cell that was added. */
void table_cell_color(struct table *t, enum color color);
/* A line across the columns, in place of a row. */
void table_line(struct table *t, enum color color, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* -1 when memory was out or the stream took less. */
int table_print(const struct table *t, FILE *stream);

/* Returns how many columns text takes on a terminal. */
int text_width(const char *text);

/* ---- numbers ---- */

/* "0" for exact zero, "1.10e-02", "nan", "inf".  Returns out. */
char *number_short(double v, char *out, size_t size);
/* "12,345".  Returns out. */
char *number_grouped(int64_t v, char *out, size_t size);
/* "1.5 GiB".  Returns out. */
char *number_bytes(uint64_t bytes, char *out, size_t size);

/* ---- progress: on standard error when that is a terminal, else nothing ---- */

struct progress {
    int on, shown;
    double started, last; /* seconds */
};

void progress_start(struct progress *p);
/* label: what is at hand.  all 0: not known yet. */
void progress_show(struct progress *p, const char *label, uint64_t done, uint64_t all);
void progress_end(struct progress *p); /* takes the line away */

#endif
