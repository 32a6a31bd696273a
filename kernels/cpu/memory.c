/* memory.c - see memory.h. */
#include "kernels/cpu/memory.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LINE = MEMORY_ALIGNMENT, HUGE_PAGE = 2 << 20 };

/* For AddressSanitizer every weight and every area is an allocation of its own, and is filled with
 * something other than zeros. */
#ifdef __SANITIZE_ADDRESS__
enum { SLAB = LINE, KEPT_MOST = 0, FILLED = 1 };
#else
enum { SLAB = 128 << 20, KEPT_MOST = 128 << 20 /* bytes */, FILLED = 0 };
#endif

/* The head of an area: it lies before the memory that a run was given. */
struct area {
    _Alignas(LINE) struct area *next; /* in the list of kept areas, the last one given back first */
    size_t bytes;                     /* with this head */
};

struct slab {
    struct slab *next;
    char *data;
    size_t bytes, used;
    int weights; /* in it */
};

struct memory {
    pthread_mutex_t lock;
    struct area *kept;
    size_t kept_bytes;
    struct slab *slabs;
};

/* Rounds up to a multiple of `unit`; returns 0 on overflow. */
static size_t rounded(size_t bytes, size_t unit)
{
    return bytes > SIZE_MAX - unit ? 0 : (bytes + unit - 1) / unit * unit;
}

/* Allocates memory; a large area gets 2 MB pages. */
static void *pages_take(size_t bytes)
{
    const size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : LINE;
    void *ptr;

    bytes = rounded(bytes, align);
    ptr = bytes ? aligned_alloc(align, bytes) : NULL;
    if (ptr && align == HUGE_PAGE)
        madvise(ptr, bytes, MADV_HUGEPAGE);
    if (ptr && FILLED)
        memset(ptr, 0xff, bytes);
    return ptr;
}

/* ---- runs ---- */

/* Returns whether a kept area is large enough for so many bytes, and not much too large. */
static int area_fits(const struct area *a, size_t bytes)
{
    return a->bytes >= bytes && a->bytes / 2 <= bytes;
}

static struct area *kept_take(struct memory *m, size_t bytes)
{
    struct area **at, *a;

    pthread_mutex_lock(&m->lock);
    for (at = &m->kept; *at && !area_fits(*at, bytes); at = &(*at)->next)
        ;
    a = *at;
    if (a) {
        *at = a->next;
        m->kept_bytes -= a->bytes;
    }
    pthread_mutex_unlock(&m->lock);
    return a;
}

static void areas_free(struct area *a)
{
    for (struct area *next; a; a = next) {
        next = a->next;
        free(a);
    }
}

/* Removes the oldest kept areas until at most `most` bytes are kept; returns them as a list. */
static struct area *kept_cut(struct memory *m, size_t most)
{
    struct area **at = &m->kept, *cut;
    size_t bytes = 0;

    while (*at && (*at)->bytes <= most - bytes) {
        bytes += (*at)->bytes;
        at = &(*at)->next;
    }
    cut = *at;
    *at = NULL;
    m->kept_bytes = bytes;
    return cut;
}

static void kept_add(struct memory *m, struct area *a)
{
    struct area *cut;

    pthread_mutex_lock(&m->lock);
    a->next = m->kept;
    m->kept = a;
    m->kept_bytes += a->bytes;
    cut = m->kept_bytes > KEPT_MOST ? kept_cut(m, KEPT_MOST) : NULL;
    pthread_mutex_unlock(&m->lock);
    areas_free(cut);
}

static void kept_free(struct memory *m)
{
    struct area *all;

    pthread_mutex_lock(&m->lock);
    all = kept_cut(m, 0);
    pthread_mutex_unlock(&m->lock);
    areas_free(all);
}

void *memory_take(struct memory *m, size_t bytes)
{
    struct area *a;

    if (bytes > SIZE_MAX / 2)
        return NULL;
    bytes += sizeof(*a);
    if (bytes >= HUGE_PAGE) {
        bytes = rounded(bytes, HUGE_PAGE);
        a = kept_take(m, bytes);
        if (a)
            return a + 1;
    }
    a = pages_take(bytes);
    if (!a) {
        kept_free(m);
        a = pages_take(bytes);
    }
    if (a)
        a->bytes = bytes;
    return a ? a + 1 : NULL;
}

void memory_give(struct memory *m, void *ptr)
{
    struct area *a = ptr;

    if (!a)
        return;
    a--;
    if (a->bytes < HUGE_PAGE)
        free(a);
    else
        kept_add(m, a);
}

/* ---- weights ---- */

static struct slab *slab_add(struct memory *m, size_t bytes)
{
    struct slab *s = malloc(sizeof(*s));
    void *data = s ? pages_take(bytes) : NULL;

    if (!data) {
        free(s);
        return NULL;
    }
    *s = (struct slab){.next = m->slabs, .data = data, .bytes = bytes};
    m->slabs = s;
    return s;
}

void *memory_take_weight(struct memory *m, size_t bytes)
{
    void *ptr = NULL;
    struct slab *s;

    bytes = rounded(bytes ? bytes : 1, LINE);
    if (!bytes)
        return NULL;
    pthread_mutex_lock(&m->lock);
    for (s = m->slabs; s && s->bytes - s->used < bytes; s = s->next)
        ;
    if (!s)
        s = slab_add(m, bytes < SLAB ? SLAB : bytes);
    if (s) {
        ptr = s->data + s->used;
        s->used += bytes;
        s->weights++;
    }
    pthread_mutex_unlock(&m->lock);
    return ptr;
}

static int is_in(const struct slab *s, const void *ptr)
{
    return (uintptr_t)ptr - (uintptr_t)s->data < s->bytes;
}

void memory_give_weight(struct memory *m, void *ptr)
{
    struct slab **at, *s;

    if (!ptr)
        return;
    pthread_mutex_lock(&m->lock);
    for (at = &m->slabs; !is_in(*at, ptr); at = &(*at)->next)
        ;
    s = *at;
    if (--s->weights == 0) {
        *at = s->next;
        free(s->data);
        free(s);
    }
    pthread_mutex_unlock(&m->lock);
}

/* ---- opening ---- */

struct memory *memory_open(void)
{
    struct memory *m = calloc(1, sizeof(*m));

    if (m && pthread_mutex_init(&m->lock, NULL)) {
        free(m);
        m = NULL;
    }
    return m;
}

void memory_close(struct memory *m)
{
    if (!m)
        return;
    kept_free(m);
    pthread_mutex_destroy(&m->lock);
    free(m);
}
