/* mapping.c - see mapping.h. */
#include "kernels/base/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_state(int fd, size_t *size, struct timespec *written)
{
    struct stat st;

    if (fstat(fd, &st))
        return -1;
    *size = (size_t)st.st_size;
    *written = st.st_mtim;
    return S_ISREG(st.st_mode) ? 0 : 1;
}

static int map(struct mapping *m, const char *path, size_t least, struct error *err)
{
    int state = m->fd < 0 ? -1 : read_state(m->fd, &m->size, &m->written);

    if (state < 0)
        return error_set(err, 400, "%s: %s", path, strerror(errno));
    if (state > 0)
        return error_set(err, 400, "%s: not a regular file", path);
    if (m->size < least)
        return error_set(err, 400, "%s: %zu bytes, too short for a safetensors file", path,
                         m->size);
    m->data = mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, m->fd, 0);
    if (m->data != MAP_FAILED)
        return 0;
    m->data = NULL;
    return error_set(err, 500, "%s: cannot map it: %s", path, strerror(errno));
}

int mapping_open(struct mapping *m, const char *path, size_t least, struct error *err)
{
    memset(m, 0, sizeof(*m));
    /* Not blocking: a FIFO of that name must not hang us. */
    m->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (!map(m, path, least, err))
        return 0;
    if (m->fd >= 0)
        close(m->fd);
    memset(m, 0, sizeof(*m));
    return -1;
}

void mapping_close(struct mapping *m)
{
    if (!m->data)
        return;
    munmap(m->data, m->size);
    close(m->fd);
    memset(m, 0, sizeof(*m));
}

int mapping_changed(const struct mapping *m)
{
    struct timespec written;
    size_t size;

    if (!m->data)
        return 0;
    return read_state(m->fd, &size, &written) != 0 || size != m->size ||
           written.tv_sec != m->written.tv_sec || written.tv_nsec != m->written.tv_nsec;
}

/* ---- SIGBUS ---- */

/* A page of zeros where the file has none.  Any other cause ends the process as ever: the signal
 * comes again.  A page is mapped by a single system call, which a signal handler may make. */
static void on_bus_error(int number, siginfo_t *info, void *context)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    void *at = (void *)((uintptr_t)info->si_addr / page * page);
    const int saved = errno;

    (void)context;
    if (info->si_code != BUS_ADRERR ||
        mmap(at, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        signal(number, SIG_DFL);
    errno = saved;
}

void mapping_survive(void)
{
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};

    sigaction(SIGBUS, &action, NULL);
}
