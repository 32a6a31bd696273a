/* symbols.h - the program's own symbol table, static functions and variables too. */
#ifndef SAMEBIT_CUDA_EMULATED_SYMBOLS_H
#define SAMEBIT_CUDA_EMULATED_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>

struct symbol {
    const char *name; /* mangled */
    int type;         /* STT_FUNC, STT_TLS, ... of elf.h */
    uint64_t
        value; /* an offset: in the program, or in a thread's block of thread_local variables */
    size_t bytes;
};

/* Calls `visit` for each defined symbol; ends the process where the program has none. */
void symbols_visit(void (*visit)(const struct symbol *symbol, void *user), void *user);

/* A kernel's name as in the source, its template arguments with it: "softmax_row<128>".  Kept. */
const char *kernel_name(const void *kernel);

#endif
