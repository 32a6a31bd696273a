/* nearest.h - "did you mean": how far apart two names are. */
#ifndef SAMEBIT_NEAREST_H
#define SAMEBIT_NEAREST_H

/* Returns how many insertions, deletions and replacements turn one name into the other, looking at
 * the first 95 bytes of each. */
int name_distance(const char *a, const char *b);

/* Returns whether two names are so close that one may be a typing error for the other. */
int name_is_near(const char *a, const char *b);

#endif
