/* fuzz.c - one target for libFuzzer: built with -DTARGET=fuzz_head. */
#include "tests/fuzz/targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    return TARGET(bytes, size);
}
