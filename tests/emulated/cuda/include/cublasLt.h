/* cublasLt.h - takes the place of cuBLASLt's header of this name in an emulated build. */
#include "tests/emulated/cuda/cublas_emulated.h"
