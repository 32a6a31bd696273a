/* glob.h - names by pattern, in time that is bounded: at most pattern times text, whatever the
 * pattern. */
#ifndef SAMEBIT_GLOB_H
#define SAMEBIT_GLOB_H

/* Longer patterns fit no name of a model; who takes patterns from strangers refuses them. */
enum { GLOB_MOST = 256 };

/* Whether the whole text fits: `*` is any bytes (dots and slashes too), `?` one byte, `[a-z]` and
 * `[!a-z]` one of a set, `\x` the byte x.  A `[` without its `]` stands for itself.  As fnmatch with
 * no flags in the C locale, but without its character classes. */
int glob_matches(const char *pattern, const char *text);

/* Whether it has any of these, so that it may fit another text than itself. */
int glob_is_pattern(const char *text);

#endif
