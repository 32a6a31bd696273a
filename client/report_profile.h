/* report_profile.h - a profile for people and for machines. */
#ifndef SAMEBIT_REPORT_PROFILE_H
#define SAMEBIT_REPORT_PROFILE_H

#include <jansson.h>

#include "client/profile.h"

enum { REPORT_POSITIONS = 1, REPORT_HEADS = 2, REPORT_HISTOGRAM = 4 };

/* Adds to row, as `which` says: "positions" and "heads", [{"position" or "head", "elements", "differing",
 * "failing", "max_abs", "distance"}], "ulp_histogram": [{"from", "to", "count"}], bins with a count only;
 * and always "growth": {"grows", "correlation", "first_quarter", "last_quarter"}, if known. */
void report_profile_json(json_t *row, const struct profile *p, int which);

/* Prints tables of what `which` says, of the value of that name; a run of lines without a difference
 * is one line.  tolerances: there is a preset with some. */
int report_profile_print(const char *name, const struct profile *p, int which, int tolerances,
                         struct error *err);

#endif
