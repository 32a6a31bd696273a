/* shortest.h - the fewest decimal digits that name a float, by the C++ library. */
#ifndef SAMEBIT_SHORTEST_H
#define SAMEBIT_SHORTEST_H

#ifdef __cplusplus
extern "C" {
#endif

enum { SHORTEST_TEXT = 16 }; /* room for the longest, -1.17549435e-38 */

/* Writes f, which is finite, as "d[.ddd]e[+-]dd"; its length.  No NUL. */
int shortest_f32(float f, char out[SHORTEST_TEXT]);

#ifdef __cplusplus
}
#endif

#endif
