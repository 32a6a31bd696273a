/* glob.h - matches names with patterns, in a time of at most length of pattern x length of text. */
#ifndef SAMEBIT_GLOB_H
#define SAMEBIT_GLOB_H

/* The longest pattern to accept in a request: no name in a model is as long. */
enum { GLOB_MOST = 256 };

/* Returns whether the whole text matches: `*` is any bytes (dots and slashes too), `?` one byte, `[a-z]` and
 * `[!a-z]` one of a set, `\x` the byte x.  A `[` without its `]` stands for itself.  As fnmatch with
 * no flags in the C locale, but without its character classes. */
int glob_matches(const char *pattern, const char *text);

/* Returns whether a text has any of these, so that it may match other texts than itself. */
int glob_is_pattern(const char *text);

#endif
