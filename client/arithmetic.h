/* arithmetic.h - whether two sides say that they were computed with one arithmetic, and if not, how they
 * come to be. */
#ifndef SAMEBIT_ARITHMETIC_H
#define SAMEBIT_ARITHMETIC_H

#include "client/compare.h"

/* Whether both sides say what theirs is (numerics, torch_threads, torch_host), and say otherwise. */
int arithmetic_differs(const struct side *a, const struct side *b);

/* "A is torch-cpu/amx_bf16 with 8 threads, B torch-cpu/avx512_bf16: ...", after compare_run; nothing
 * where it does not differ. */
void arithmetic_print(const struct compare *c, const struct side *a, const struct side *b);

/* The same as {"a": ..., "b": ..., "to_agree": ...}; a new reference, or NULL where it does not differ. */
json_t *arithmetic_json(const struct side *a, const struct side *b);

#endif
