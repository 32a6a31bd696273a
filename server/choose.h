/* choose.h - whose bits samebitd serves where its options do not name them. */
#ifndef SAMEBIT_CHOOSE_H
#define SAMEBIT_CHOOSE_H

#include <stdio.h>

#include "server/options.h"

/* Sets numerics, torch_threads and torch_host of o->engine where --numerics is "host" or not given, and
 * the attention where only eager has PyTorch's bits here and none is given.  Without the option, a
 * machine whose bits are those of no numerics gets the portable one, with a notice; `--numerics host` is
 * then an error: 400 of param "numerics". */
int choose_numerics(struct options *o, struct error *err);

/* What --which-numerics says.  Returns the exit status: 0, or with --python 1 where PyTorch has other
 * bits than were said, and 2, with *err set, where it could not be asked. */
int choose_explain(const struct options *o, FILE *to, struct error *err);

#endif
