/* choose.h - whose bits samebitd serves where its options do not name them. */
#ifndef SAMEBIT_CHOOSE_H
#define SAMEBIT_CHOOSE_H

#include "kernels/host.h"
#include "server/options.h"

/* Sets numerics, torch_threads and torch_host of o->engine where --numerics is "host" or not given, and
 * the attention where only eager has PyTorch's bits here and none is given.  Without the option, a
 * machine whose bits are those of no numerics gets the portable one, with a notice; `--numerics host` is
 * then an error: 400 of param "numerics".  Other numerics than this machine's get a notice. */
int choose_numerics(struct options *o, struct error *err);

/* What PyTorch computes here. */
void choose_find(const struct options *o, struct host_numerics *found);

#endif
