/* cuda_runtime.h - takes the place of CUDA's header of this name in an emulated build. */
#include "tests/emulated/cuda/emulator.h"
