/* shared_memory.cpp - where static __shared__ variables lie.  They are thread_local variables local
 * to functions; the program's symbol table tells them from others by their mangled names. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "kernels/cuda/emulated/block.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct range {
    size_t offset, bytes; /* in a thread's block of thread_local variables */
};
static struct range *ranges;
static int range_count;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static __thread char *base; /* of the calling thread's block */

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

/* _ZZ begins the name of what is local to a C++ function. */
static void collect(const ElfW(Sym) *symbols, size_t count, const char *names)
{
    ranges = (struct range *)malloc(count * sizeof(*ranges));
    for (size_t i = 0; i < count; i++) {
        if (ELF64_ST_TYPE(symbols[i].st_info) == STT_TLS && symbols[i].st_shndx != SHN_UNDEF &&
            strncmp(names + symbols[i].st_name, "_ZZ", 3) == 0)
            ranges[range_count++] = {symbols[i].st_value, symbols[i].st_size};
    }
}

static void find_ranges(void)
{
    const char *program = map_program();
    const ElfW(Ehdr) *head = (const ElfW(Ehdr) *)program;
    const ElfW(Shdr) *sections = (const ElfW(Shdr) *)(program + head->e_shoff);

    for (int i = 0; i < head->e_shnum; i++) {
        if (sections[i].sh_type == SHT_SYMTAB) {
            collect((const ElfW(Sym) *)(program + sections[i].sh_offset),
                    sections[i].sh_size / sizeof(ElfW(Sym)),
                    program + sections[sections[i].sh_link].sh_offset);
            return;
        }
    }
    emulated_fault("the program has no symbols: __shared__ variables cannot be found");
}

/* The first object that the loader names is the program. */
static int take_base(struct dl_phdr_info *object, size_t, void *)
{
    base = (char *)object->dlpi_tls_data;
    return 1;
}

void shared_memory_fill(int byte)
{
    pthread_once(&once, find_ranges);
    if (range_count > 0 && !base)
        dl_iterate_phdr(take_base, NULL);
    for (int i = 0; i < range_count; i++)
        memset(base + ranges[i].offset, byte, ranges[i].bytes);
}
