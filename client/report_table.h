/* report_table.h - the table of a comparison, and how its cells are written. */
#ifndef SAMEBIT_REPORT_TABLE_H
#define SAMEBIT_REPORT_TABLE_H

#include "client/report.h"

/* Prints the table.  -1 when standard output takes no more. */
int report_table(const struct compare *c, const struct report_options *options, struct error *err);

/* "[0, 3, 17]" of a flat index; the shape, "?" where it is not known.  They return text. */
char *report_index_text(const struct side_value *v, int64_t flat, char *out, size_t size);
char *report_shape_text(const struct side_value *v, char *out, size_t size);

/* The first element that is not close; where all are, the first whose bits differ; -1: none. */
int64_t report_shown_first(const struct compare_row *r);

#endif
