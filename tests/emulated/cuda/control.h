/* control.h - what tests set and ask of the emulator.  C and C++. */
#ifndef SAMEBIT_CUDA_EMULATED_CONTROL_H
#define SAMEBIT_CUDA_EMULATED_CONTROL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In which order the threads of a block take turns between two barriers: EMULATED_FORWARD,
 * EMULATED_REVERSE, else the seed of a random one, in which warps overtake one another at warp
 * primitives.  From SAMEBIT_EMULATED_ORDER (forward | reverse | a number) until it is set here.
 * Shared memory holds garbage when a block starts: NaN forward, 3.4e38 in reverse, either else. */
enum { EMULATED_FORWARD, EMULATED_REVERSE };
void emulated_set_order(int order);

/* OS threads that run blocks; at most 64.  SAMEBIT_EMULATED_THREADS, else one per core. */
void emulated_set_threads(int threads);

/* Whether streams put their work off (1) or do it at once (0).  See cudart.h. */
void emulated_set_late(int late);

/* The nth allocation from now on fails; 0: none. */
void emulated_fail_allocation(int nth);

/* Allocations of device and pinned memory that are not freed. */
int emulated_allocations(void);

/* Launches and copied bytes since the process began, as the log has them. */
struct emulated_counts {
    long long launches, copies, fills;
    long long copied_bytes, filled_bytes;
};
struct emulated_counts emulated_count(void);

/* How often cuBLASLt was asked for an algorithm since the process began. */
long long emulated_heuristics(void);

#ifdef __cplusplus
}
#endif

#endif
