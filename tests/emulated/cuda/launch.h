/* launch.h - the pool of OS threads that runs blocks, and what the environment asks for. */
#ifndef SAMEBIT_CUDA_EMULATED_LAUNCH_H
#define SAMEBIT_CUDA_EMULATED_LAUNCH_H

#include "tests/emulated/cuda/block.h"

/* Runs a grid and returns when it is done.  One grid at a time, whoever calls. */
void grid_run(const struct grid *grid);

/* The order that control.h's emulated_set_order left. */
int grid_order(void);

/* Returns the integer in an environment variable, or `otherwise` where it is unset. */
int environment_number(const char *name, int otherwise);

#endif
