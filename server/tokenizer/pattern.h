/* pattern.h - the regular expressions of tokenizer.json, matched as the `tokenizers` package does.
 *
 * The package uses Oniguruma in its Ruby dialect, here PCRE2 does the work.  What the two write or
 * count differently is translated (pattern_dialect.c); what cannot be is refused by name. */
#ifndef SAMEBIT_PATTERN_H
#define SAMEBIT_PATTERN_H

#include <stddef.h>

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"

struct pattern; /* compiled, immutable */

/* A regular expression, or with `literal` a string that is searched as it stands. */
struct pattern *pattern_open(const char *text, size_t size, int literal, struct error *err);
void pattern_close(struct pattern *p);

/* What one thread needs while it matches; created once for any number of patterns and texts. */
struct pattern_scan *pattern_scan_open(struct error *err);
void pattern_scan_close(struct pattern_scan *s);

/* Calls found(context, start, end) for every match in turn, empty ones included, in the order and
 * with the skipping of empty matches that the package has.  The text is UTF-8 that went through
 * pattern_view.  found returns 0, or -1 to stop.  Errors: 500 when a limit of the matcher is hit;
 * nothing is ever cut short silently. */
int pattern_each(const struct pattern *p, struct pattern_scan *s, const char *text, size_t size,
                 int (*found)(void *context, size_t start, size_t end), void *context,
                 struct error *err);

/* Appends the text as this pattern must see it: of the same size, and when the pattern asks for
 * categories with stand-ins for characters whose category PCRE2 knows differently. */
void pattern_view(const struct pattern *p, const char *text, size_t size, struct buffer *out);

/* Appends the PCRE2 spelling of an Oniguruma pattern; *classes: it asks for categories.  Errors
 * name what is not supported. */
int pattern_translate(const char *text, size_t size, struct buffer *out, int *classes,
                      struct error *err);

#endif
