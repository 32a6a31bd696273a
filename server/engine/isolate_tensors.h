/* isolate_tensors.h - the functions of a formula (isolate_formula.h) that take whole tensors: those
 * that move elements, products, and what attention is made of.
 *
 * Each reads its arguments from a[0] on.  Shapes that do not fit are the formula's error. */
#ifndef SAMEBIT_ISOLATE_TENSORS_H
#define SAMEBIT_ISOLATE_TENSORS_H

#include "server/engine/isolate_arrays.h"

/* ---- moving ---- */

/* The last two axes exchanged. */
struct tensor array_transpose(struct formula *f, const struct tensor *a);
/* x, n: [T, n * D] (or [T, n, D]) as [n, T, D]. */
struct tensor array_heads(struct formula *f, const struct tensor *a);
/* [n, T, D] as [T, n * D]. */
struct tensor array_flat(struct formula *f, const struct tensor *a);
/* x, n: n times as many heads (of the first axis); each n times in a row. */
struct tensor array_repeat(struct formula *f, const struct tensor *a);
/* The same, where all of them come n times. */
struct tensor array_tile(struct formula *f, const struct tensor *a);
/* x, k: rows (the axis before the last) k later; those that come in are the nearest ones. */
struct tensor array_shift(struct formula *f, const struct tensor *a);
/* x, y: rows of x, then rows of y (the axis before the last). */
struct tensor array_join(struct formula *f, const struct tensor *a);
/* x, first, count: so many rows from that one on, counted from 0; there must be as many, and one at
 * least. */
struct tensor array_part(struct formula *f, const struct tensor *a);

/* ---- products ---- */

/* x, w: x w^T, [.., M, K] and [.., N, K] to [.., M, N]. */
struct tensor array_linear(struct formula *f, const struct tensor *a);
/* The same, where a sum is rounded to bf16 after each product that is added. */
struct tensor array_linear_bf16(struct formula *f, const struct tensor *a);
/* x, y: x y, [.., M, K] and [.., K, N] to [.., M, N]. */
struct tensor array_matmul(struct formula *f, const struct tensor *a);

/* ---- attention ---- */

/* Positions [T], frequencies [n]: the angles of the cos and sin tables, [T, 2 n]. */
struct tensor array_angles(struct formula *f, const struct tensor *a);
/* theta, D: theta^(-2 i / D), [D / 2]. */
struct tensor array_frequencies(struct formula *f, const struct tensor *a);
/* Scores, k, value: the value at keys that lie more than k after their query, where the last query
 * is at the last key. */
struct tensor array_masked(struct formula *f, const struct tensor *a);
/* Scores, n, value: the value at keys that lie n or more before their query. */
struct tensor array_windowed(struct formula *f, const struct tensor *a);

#endif
