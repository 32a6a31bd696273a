/* symbols.cpp - reads the program's file once. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "tests/emulated/cuda/symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/emulated/cuda/block.h"

enum { KERNELS_MOST = 1024 };

static const ElfW(Sym) * symbols;
static size_t symbol_count;
static const char *names;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const char *map_program(void)
{
    const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat about;
    void *map = MAP_FAILED;

    if (file >= 0 && fstat(file, &about) == 0)
        map = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (file < 0 || map == MAP_FAILED)
        emulated_fault("/proc/self/exe: cannot be read");
    close(file);
    return (const char *)map;
}

static void find_symbols(void)
{
    const char *program = map_program();
    const ElfW(Ehdr) *head = (const ElfW(Ehdr) *)program;
    const ElfW(Shdr) *sections = (const ElfW(Shdr) *)(program + head->e_shoff);

    for (int i = 0; i < head->e_shnum; i++) {
        if (sections[i].sh_type == SHT_SYMTAB) {
            symbols = (const ElfW(Sym) *)(program + sections[i].sh_offset);
            symbol_count = sections[i].sh_size / sizeof(*symbols);
            names = program + sections[sections[i].sh_link].sh_offset;
        }
    }
    if (!symbols)
        emulated_fault("the program has no symbols: __shared__ variables cannot be found");
}

void symbols_visit(void (*visit)(const struct symbol *symbol, void *user), void *user)
{
    pthread_once(&once, find_symbols);
    for (size_t i = 0; i < symbol_count; i++) {
        const struct symbol s = {names + symbols[i].st_name, ELF64_ST_TYPE(symbols[i].st_info),
                                 symbols[i].st_value, symbols[i].st_size};

        if (symbols[i].st_shndx != SHN_UNDEF)
            visit(&s, user);
    }
}

/* ---- names of kernels ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    const void *kernel;
    const char *name;
} known[KERNELS_MOST];
static int known_count;

/* The first object that the loader names is the program. */
static int take_start(struct dl_phdr_info *object, size_t, void *start)
{
    *(uint64_t *)start = object->dlpi_addr;
    return 1;
}

struct wanted {
    uint64_t value;
    const char *name;
};

static void take_name(const struct symbol *symbol, void *user)
{
    struct wanted *wanted = (struct wanted *)user;

    if (symbol->type == STT_FUNC && symbol->value == wanted->value)
        wanted->name = symbol->name;
}

/* Without "void " before it, parameters behind it, and blanks. */
static char *shorten(char *name)
{
    char *from = strncmp(name, "void ", 5) == 0 ? name + 5 : name, *to = name;
    int depth = 0;

    for (; *from && !(*from == '(' && depth == 0); from++) {
        depth += (*from == '<') - (*from == '>');
        if (*from != ' ')
            *to++ = *from;
    }
    *to = 0;
    return name;
}

static const char *find_name(const void *kernel)
{
    struct wanted wanted = {0, NULL};
    uint64_t start = 0;
    char *name;

    dl_iterate_phdr(take_start, &start);
    wanted.value = (uint64_t)(uintptr_t)kernel - start;
    symbols_visit(take_name, &wanted);
    name = wanted.name ? abi::__cxa_demangle(wanted.name, NULL, NULL, NULL) : NULL;
    return name ? shorten(name) : "unknown";
}

const char *kernel_name(const void *kernel)
{
    int i = 0;

    pthread_mutex_lock(&lock);
    while (i < known_count && known[i].kernel != kernel)
        i++;
    if (i == known_count) {
        if (known_count == KERNELS_MOST)
            emulated_fault("more than %d kernels", KERNELS_MOST);
        known[known_count++] = {kernel, find_name(kernel)};
    }
    pthread_mutex_unlock(&lock);
    return known[i].name;
}
