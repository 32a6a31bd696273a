/* nearest.h - "did you mean": how far apart two names are. */
#ifndef SAMEBIT_NEAREST_H
#define SAMEBIT_NEAREST_H

/* Insertions, deletions and exchanges that make one name the other; of long names only the first
 * 95 bytes count. */
int name_distance(const char *a, const char *b);

/* Whether two names are close enough to be taken for a slip of the fingers. */
int name_is_near(const char *a, const char *b);

#endif
