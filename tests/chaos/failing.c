/* failing.c - takes the place of the allocator, the mapper and the maker of threads of a program that it is
 * preloaded into (LD_PRELOAD), and refuses what it is told to refuse.
 *
 * A site is a stack: the places in the program and its libraries that led to the call, each by its distance
 * from where its file is mapped, so that it is the same in every run.  What happens is told and asked
 * through a file that both sides map ($CHAOS_CONTROL, struct control); chaos.py is the other side.  What the C
 * library asks of itself (stdio, getaddrinfo, jansson, libstdc++, ...) comes through here too. */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SITES = 16384, FRAMES = 14, MODULES = 48, OWN = 2 /* frames of this file */ };

/* What chaos.py knows the layout of. */
struct control {
    _Atomic uint64_t refuse;  /* the site that is refused; 0: none */
    _Atomic int64_t left;     /* so many times yet */
    _Atomic uint64_t refused; /* times that it was */
    _Atomic int64_t live;     /* allocations that have not been given back */
    _Atomic uint64_t record;  /* whether sites are written down */
    _Atomic uint64_t count;   /* sites that were */
    char modules[MODULES][128];
    struct site {
        _Atomic uint64_t id;
        _Atomic uint64_t times;
        uint64_t call; /* enum call */
        struct frame {
            uint32_t module, offset;
        } frames[FRAMES];
    } sites[SITES];
};

enum call { MALLOC, CALLOC, REALLOC, ALIGNED_ALLOC, POSIX_MEMALIGN, MMAP, PTHREAD_CREATE };

static struct control *control;
static _Thread_local int inside;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *at, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *at);

static uint32_t module_of(const char *name)
{
    const char *end = strrchr(name, '/');
    uint32_t i;

    name = end ? end + 1 : name;
    for (i = 0; i < MODULES - 1 && *control->modules[i]; i++)
        if (strncmp(control->modules[i], *name ? name : "program", 127) == 0)
            return i;
    strncpy(control->modules[i], *name ? name : "program", 127);
    return i;
}

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

__attribute__((noinline)) static uint64_t stack_of(enum call call, struct frame frames[FRAMES])
{
    void *at[FRAMES + OWN];
    const int n = backtrace(at, FRAMES + OWN);
    uint64_t h = mix(1, call);

    memset(frames, 0, FRAMES * sizeof(*frames));
    for (int i = OWN; i < n; i++) {
        struct dl_find_object found;
        struct frame *f = &frames[i - OWN];

        if (_dl_find_object(at[i], &found))
            continue;
        f->module = module_of(found.dlfo_link_map->l_name) + 1;
        f->offset = (uint32_t)((char *)at[i] - (char *)found.dlfo_link_map->l_addr);
        h = mix(mix(h, f->module), f->offset);
    }
    return h ? h : 1;
}

static void note(uint64_t id, enum call call, const struct frame frames[FRAMES])
{
    for (uint64_t i = 0; i < SITES; i++) {
        struct site *s = &control->sites[(id + i) % SITES];
        uint64_t is = 0;

        if (atomic_load(&s->id) == id || atomic_compare_exchange_strong(&s->id, &is, id)) {
            if (atomic_fetch_add(&s->times, 1) == 0) {
                s->call = call;
                memcpy(s->frames, frames, FRAMES * sizeof(*frames));
                atomic_fetch_add(&control->count, 1);
            }
            return;
        }
    }
}

__attribute__((noinline)) static int fails(enum call call)
{
    struct frame frames[FRAMES];
    uint64_t id;
    int no = 0;

    if (!control || inside || (!atomic_load(&control->record) && !atomic_load(&control->refuse)))
        return 0;
    inside = 1;
    id = stack_of(call, frames);
    if (atomic_load(&control->record))
        note(id, call, frames);
    if (id == atomic_load(&control->refuse) && atomic_fetch_sub(&control->left, 1) > 0) {
        atomic_fetch_add(&control->refused, 1);
        no = 1;
    }
    inside = 0;
    if (no)
        errno = ENOMEM;
    return no;
}

static void *counted(void *at)
{
    if (at && control)
        atomic_fetch_add(&control->live, 1);
    return at;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("CHAOS_CONTROL");
    const int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *warm[2], *at;

    backtrace(warm, 2); /* loads what it needs */
    if (fd < 0)
        return;
    at = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        control = at;
}

void *malloc(size_t size)
{
    return fails(MALLOC) ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return fails(CALLOC) ? NULL : counted(__libc_calloc(count, size));
}

void *realloc(void *at, size_t size)
{
    void *out;

    if (fails(REALLOC))
        return NULL;
    out = __libc_realloc(at, size);
    if (at && !size && control)
        atomic_fetch_sub(&control->live, 1);
    return at ? out : counted(out);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails(ALIGNED_ALLOC) ? NULL : counted(__libc_memalign(alignment, size));
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *at = fails(POSIX_MEMALIGN) ? NULL : counted(__libc_memalign(alignment, size));

    if (!at)
        return ENOMEM;
    *out = at;
    return 0;
}

void free(void *at)
{
    if (at && control)
        atomic_fetch_sub(&control->live, 1);
    __libc_free(at);
}

typedef void *map_fn(void *at, size_t size, int rights, int flags, int fd, off_t offset);
typedef int thread_fn(pthread_t *out, const pthread_attr_t *attr, void *(*start)(void *),
                      void *user);

void *mmap(void *at, size_t size, int rights, int flags, int fd, off_t offset)
{
    static map_fn *real;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "mmap");
    return fails(MMAP) ? MAP_FAILED : real(at, size, rights, flags, fd, offset);
}

int pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*start)(void *), void *user)
{
    static thread_fn *real;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return fails(PTHREAD_CREATE) ? EAGAIN : real(out, attr, start, user);
}
