/* cut.h - cutting pieces of text at matches: of a pattern, of a kind of character. */
#ifndef SAMEBIT_CUT_H
#define SAMEBIT_CUT_H

#include <stdint.h>

#include "kernels/base/error.h"
#include "server/tokenizer/pattern.h"
#include "server/tokenizer/pieces.h"

/* What becomes of a match; the names of tokenizer.json. */
enum cut_behavior {
    CUT_ISOLATED,
    CUT_REMOVED,
    CUT_MERGED_WITH_PREVIOUS,
    CUT_MERGED_WITH_NEXT,
    CUT_CONTIGUOUS
};

struct cut {
    struct pattern *pattern;    /* matches of this, or */
    int (*matches)(uint32_t);   /* single characters, or */
    size_t length;              /* so many characters at a time, or, when all are unset, */
    enum cut_behavior behavior; /* words and runs of what is neither word nor space */
    int invert;                 /* what lies between the matches counts as a match */
};

/* The behavior of a name, or -1. */
int cut_behavior_find(const char *name);

/* Cuts every piece that is no token; empty ones vanish.  Errors: 500. */
int cut_run(const struct cut *c, struct pattern_scan *scan, struct pieces *pieces,
            struct error *err);

#endif
