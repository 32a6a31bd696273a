/* isolate_functions.h - the functions that a formula (isolate_formula.h) may call, by name.  Those of
 * elements and of rows are in isolate_functions.c, those of whole tensors in isolate_tensors.h. */
#ifndef SAMEBIT_ISOLATE_FUNCTIONS_H
#define SAMEBIT_ISOLATE_FUNCTIONS_H

#include "server/engine/isolate_arrays.h"

enum { FUNCTION_ARGUMENTS = 3 }; /* most that one takes */

/* One of unary, row and array is set. */
struct function {
    const char *name;
    int arguments;
    unary_fn *unary;
    row_fn *row;
    int keep; /* see array_by_rows */
    array_fn *array;
};

/* NULL: there is none of this name. */
const struct function *function_find(const char *name);

#endif
