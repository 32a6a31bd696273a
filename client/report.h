/* report.h - what a comparison looks like: for people, and for machines. */
#ifndef SAMEBIT_REPORT_H
#define SAMEBIT_REPORT_H

#include "client/compare.h"

struct report_options {
    int all;            /* every row: no folding of equal ones, no limit */
    int only_different; /* rows that are not equal */
    int64_t limit;      /* rows of the table, 0: no limit */
    int profiles;       /* REPORT_POSITIONS and the like: what is shown of values that differ */
};

/* Prints to standard output.  -1 when it takes no more. */
int report_print(const struct compare *c, const struct side *a, const struct side *b,
                 const struct report_options *options, struct error *err);
/* understanding: how a dump's names were understood, NULL where they are ours. */
int report_json(const struct compare *c, const struct side *a, const struct side *b,
                const json_t *understanding, const struct report_options *options,
                struct error *err);

#endif
