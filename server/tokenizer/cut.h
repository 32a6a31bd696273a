/* cut.h - cuts pieces of text at the matches of a pattern, or at a kind of character. */
#ifndef SAMEBIT_CUT_H
#define SAMEBIT_CUT_H

#include <stdint.h>

#include "kernels/base/error.h"
#include "server/tokenizer/pattern.h"
#include "server/tokenizer/pieces.h"

/* What is done with a match; the names are those of tokenizer.json. */
enum cut_behavior {
    CUT_ISOLATED,
    CUT_REMOVED,
    CUT_MERGED_WITH_PREVIOUS,
    CUT_MERGED_WITH_NEXT,
    CUT_CONTIGUOUS
};

struct cut {
    /* One of these three is set: cut at matches of a pattern, at single characters, or after every
     * `length` characters.  If none is: into words, and runs of what is neither word nor space. */
    struct pattern *pattern;
    int (*matches)(uint32_t);
    size_t length;
    enum cut_behavior behavior;
    int invert; /* the text between the matches counts as the matches */
};

/* Returns the behavior of that name, or -1. */
int cut_behavior_find(const char *name);

/* Cuts every piece that is not a token yet.  Empty pieces are left out.  Errors: 500. */
int cut_run(const struct cut *c, struct pattern_scan *scan, struct pieces *pieces,
            struct error *err);

#endif
