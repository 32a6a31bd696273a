/* cublas_v2.h - takes the place of cuBLAS's header of this name in an emulated build. */
#include "tests/emulated/cuda/cublas_emulated.h"
