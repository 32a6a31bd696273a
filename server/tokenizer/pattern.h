/* pattern.h - the regular expressions of tokenizer.json, matched as the `tokenizers` package does.
 *
 * The package uses Oniguruma with Ruby's syntax; samebit uses PCRE2.  Where the two differ the
 * pattern is translated (pattern_dialect.c), or refused with an error that names the construct. */
#ifndef SAMEBIT_PATTERN_H
#define SAMEBIT_PATTERN_H

#include <stddef.h>

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"

struct pattern; /* compiled, immutable */

/* Compiles a regular expression; with `literal`, a string that is searched as it stands. */
struct pattern *pattern_open(const char *text, size_t size, int literal, struct error *err);
void pattern_close(struct pattern *p);

/* One thread's memory for matching, for any number of patterns and texts. */
struct pattern_scan *pattern_scan_open(struct error *err);
void pattern_scan_close(struct pattern_scan *s);

/* Calls found(context, start, end) for every match in turn, empty ones included where the package
 * has them.  The text is UTF-8 that went through pattern_view.  found returns 0, or -1 to stop.
 * Errors: 500 when the matcher hits a limit; matches are never left out silently. */
int pattern_each(const struct pattern *p, struct pattern_scan *s, const char *text, size_t size,
                 int (*found)(void *context, size_t start, size_t end), void *context,
                 struct error *err);

/* Appends the text as this pattern must see it.  The package's matcher and PCRE2 give some
 * characters different categories (different versions of Unicode); where the pattern asks for
 * categories, each of these is replaced by another of the same UTF-8 size and the right category. */
void pattern_view(const struct pattern *p, const char *text, size_t size, struct buffer *out);

/* Appends an Oniguruma pattern translated to PCRE2.  *classes: whether it asks for the category of
 * a character.  Errors name what is not supported. */
int pattern_translate(const char *text, size_t size, struct buffer *out, int *classes,
                      struct error *err);

#endif
