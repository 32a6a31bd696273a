/* fiber.cpp - switching stacks, and telling AddressSanitizer so. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "tests/emulated/cuda/fiber.h"

#include <pthread.h>
#include <stdint.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#else
static inline void __sanitizer_start_switch_fiber(void **, const void *, size_t)
{
}
static inline void __sanitizer_finish_switch_fiber(void *, const void **, size_t *)
{
}
#endif

static __thread struct fiber *running;

static void enter(void)
{
    struct fiber *f = running;

    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
    f->entry(f->argument);
    __builtin_trap();
}

#ifdef FIBER_UCONTEXT
static void switch_stacks(struct fiber *from, struct fiber *to)
{
    swapcontext(&from->context, &to->context);
}

static void prepare(struct fiber *f)
{
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = f->size;
    f->context.uc_link = NULL;
    makecontext(&f->context, enter, 0);
}
#else
/* Keeps what the System V ABI says a call keeps; nobody here changes rounding modes. */
__attribute__((naked, noinline)) static void swap_stack_pointers(void **, void *)
{
    asm volatile("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
                 "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
                 "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}

static void switch_stacks(struct fiber *from, struct fiber *to)
{
    swap_stack_pointers(&from->stack_pointer, to->stack_pointer);
}

static void prepare(struct fiber *f)
{
    void **top = (void **)((uintptr_t)(f->stack + f->size) & ~(uintptr_t)15);

    *--top = NULL; /* where a caller would be: `enter` finds the stack as after a call */
    *--top = (void *)enter;
    for (int kept = 0; kept < 6; kept++)
        *--top = NULL;
    f->stack_pointer = top;
}
#endif

void fiber_adopt(struct fiber *f)
{
    pthread_attr_t attributes;
    void *stack = NULL;

    *f = fiber{};
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &stack, &f->size);
        pthread_attr_destroy(&attributes);
    }
    f->stack = (char *)stack;
    running = f;
}

void fiber_open(struct fiber *f, char *stack, size_t size, void (*entry)(void *), void *argument)
{
    *f = fiber{};
    f->stack = stack;
    f->size = size;
    f->entry = entry;
    f->argument = argument;
    prepare(f);
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
    running = to;
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->size);
    switch_stacks(from, to);
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
}
