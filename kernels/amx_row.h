/* amx_row.h - a product of one row, or of rows that no sharing (amx_sharing.h) fits: the search of
 * oneDNN's that cuts it. */
#ifndef SAMEBIT_AMX_ROW_H
#define SAMEBIT_AMX_ROW_H

#include "kernels/amx_plan.h"

/* Sets *p. */
void amx_row_plan(const struct product_shape *s, struct amx_plan *p);

#endif
