/* fiber.h - stacks that one OS thread switches between. */
#ifndef SAMEBIT_CUDA_EMULATED_FIBER_H
#define SAMEBIT_CUDA_EMULATED_FIBER_H

#include <stddef.h>

#if !defined(__x86_64__) || defined(SAMEBIT_UCONTEXT)
#define FIBER_UCONTEXT 1
#include <ucontext.h>
#endif

struct fiber {
#ifdef FIBER_UCONTEXT
    ucontext_t context;
#else
    void *stack_pointer;
#endif
    char *stack; /* lowest address, borrowed */
    size_t size;
    void *fake_stack; /* AddressSanitizer's */
    void (*entry)(void *);
    void *argument;
};

/* Makes `f` the fiber of the OS thread that calls. */
void fiber_adopt(struct fiber *f);

/* `entry` must never return.  The lowest 16 bytes of the stack are not the fiber's. */
void fiber_open(struct fiber *f, char *stack, size_t size, void (*entry)(void *), void *argument);

/* Goes on in `to` until something switches back to `from`, the fiber that runs now. */
void fiber_switch(struct fiber *from, struct fiber *to);

#endif
