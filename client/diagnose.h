/* diagnose.h - what was done wrong: hypotheses, each a formula for a step, run on the dump's own inputs.
 *
 * A hypothesis is named where it reproduces what the dump holds, within what rounding explains, and no
 * other does better. */
#ifndef SAMEBIT_DIAGNOSE_H
#define SAMEBIT_DIAGNOSE_H

#include "client/isolate.h"

/* hypotheses: [{"name", "op", "rows" (a glob, optional), "says", "formula", "values" (optional: names in
 * the layer that the formula reads)}].  A new array, a row for each value beyond rounding:
 * {"value", "step", "layer", "row", "hypothesis" (null: unknown), "says", "distance", "plain",
 *  "limit", "nearest": [{"hypothesis", "says", "distance"}], "lacks"}
 * step: path of the step at fault; row: the row of the family that it comes from; distance: between the
 * dump's value and what the hypothesis computes, as struct judge has it (missing where unknown); plain:
 * the same without a hypothesis, -1 where it is not finite; limit: the distance that rounding explains;
 * lacks: what the dump would have to hold, in words, where more steps than one layer has lie between the
 * value and what the dump holds before it: then no hypothesis is run, nor for a value with NaN that its
 * inputs do not explain ("nan", which has no distance). */
json_t *diagnose(const struct isolation *x, const json_t *hypotheses, struct error *err);

/* One line for each mistake, the same one in several layers together. */
void diagnose_print(const json_t *found, FILE *stream);

#endif
