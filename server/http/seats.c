/* seats.c - see seats.h. */
#include "server/http/seats.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kernels/base/clock.h"

enum { LONG_IDLE = 1, LONG_BODY = 5 /* seconds */ };

struct seat {
    int fd; /* -1: free */
    int spare;
    union address address;
    enum door_stage stage;
    int64_t since; /* the stage */
    int asked;     /* to leave */
    int ended;     /* its client has left with a part of its request unsent */
};

struct seats {
    int places, each;     /* see door_rules */
    pthread_mutex_t lock; /* of what follows */
    int waited_for;       /* somebody waits for a seat */
    int count;
    struct seat *seat;
};

/* ---- addresses ---- */

static int same_address(const union address *a, const union address *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return 0;
    if (a->any.sa_family == AF_INET)
        return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
    /* One client has all addresses of a /64; but of the IPv4 ones, which begin alike, one. */
    return a->any.sa_family == AF_INET6 &&
           memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr,
                  IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr) ? 16 : 8) == 0;
}

static int is_here(const union address *a)
{
    if (a->any.sa_family == AF_INET)
        return ntohl(a->v4.sin_addr.s_addr) >> 24 == 127;
    if (a->any.sa_family != AF_INET6)
        return 1; /* a unix socket */
    return IN6_IS_ADDR_LOOPBACK(&a->v6.sin6_addr) ||
           (IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr) && a->v6.sin6_addr.s6_addr[12] == 127);
}

/* ---- seats ---- */

struct seat *seats_take(struct seats *all, int fd, const union address *address, int spare)
{
    struct seat *free_one = NULL;
    int taken = 0, same = 0;

    pthread_mutex_lock(&all->lock);
    for (int i = 0; i < all->count; i++) {
        struct seat *s = &all->seat[i];

        /* Of a connection that failed before it came in: the number is used again. */
        if (s->fd == fd)
            s->fd = -1;
        if (s->fd < 0)
            free_one = s;
        taken += s->fd >= 0 && !s->spare;
        same += s->fd >= 0 && same_address(&s->address, address);
    }
    if (taken >= all->places && !spare)
        free_one = NULL;
    if (all->each && same >= all->each && !is_here(address) && !spare)
        free_one = NULL;
    if (free_one)
        *free_one = (struct seat){.fd = fd,
                                  .spare = spare && taken >= all->places,
                                  .address = *address,
                                  .stage = DOOR_SENDING,
                                  .since = clock_ns()};
    all->waited_for |= !free_one;
    pthread_mutex_unlock(&all->lock);
    return free_one;
}

void seats_make_room(struct seats *all)
{
    const int64_t now = clock_ns();
    struct seat *found = NULL;

    pthread_mutex_lock(&all->lock);
    for (int i = 0; i < all->count; i++) {
        struct seat *s = &all->seat[i];

        if (s->fd < 0 || s->spare || s->stage == DOOR_BUSY)
            continue;
        if (s->asked) { /* one is on its way out */
            found = NULL;
            break;
        }
        if (now - s->since <
            (s->stage == DOOR_IDLE ? LONG_IDLE : LONG_BODY) * (int64_t)CLOCK_SECOND)
            continue;
        if (!found || s->stage < found->stage ||
            (s->stage == found->stage && s->since < found->since))
            found = s;
    }
    if (found) {
        found->asked = 1;
        shutdown(found->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&all->lock);
}

struct seat *seats_find(struct seats *all, int fd)
{
    struct seat *found = NULL;

    pthread_mutex_lock(&all->lock);
    for (int i = 0; i < all->count && !found; i++)
        if (all->seat[i].fd == fd)
            found = &all->seat[i];
    pthread_mutex_unlock(&all->lock);
    return found;
}

void seats_stage(struct seats *all, struct seat *s, enum door_stage stage)
{
    pthread_mutex_lock(&all->lock);
    if (s->stage != stage)
        s->since = clock_ns();
    s->stage = stage;
    pthread_mutex_unlock(&all->lock);
}

int seat_is_spare(const struct seat *s)
{
    return s->spare;
}

int seats_leave(struct seats *all, struct seat *s)
{
    int wanted;

    pthread_mutex_lock(&all->lock);
    s->fd = -1;
    wanted = all->waited_for;
    pthread_mutex_unlock(&all->lock);
    return wanted;
}

/* The client has closed, and what it sent before has been read. */
static int is_over(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    int unread = 0;

    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) &&
           ioctl(fd, FIONREAD, &unread) == 0 && !unread;
}

/* The library, woken by edges, overlooks an end that comes with the bytes before it.  Twice seen,
 * since between the last byte and its answer a request looks the same. */
void seats_end_leavers(struct seats *all)
{
    pthread_mutex_lock(&all->lock);
    for (int i = 0; i < all->count; i++) {
        struct seat *s = &all->seat[i];

        if (s->fd < 0 || s->stage != DOOR_SENDING || !is_over(s->fd))
            s->ended = 0;
        else if (++s->ended == 2)
            shutdown(s->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&all->lock);
}

void seats_forget_waiting(struct seats *all)
{
    pthread_mutex_lock(&all->lock);
    all->waited_for = 0;
    pthread_mutex_unlock(&all->lock);
}

struct seats *seats_create(int places, int spare, int each)
{
    struct seats *all = calloc(1, sizeof(*all));

    if (!all)
        return NULL;
    all->places = places;
    all->each = each;
    all->count = places + spare;
    all->seat = calloc((size_t)all->count, sizeof(*all->seat));
    if (!all->seat) {
        free(all);
        return NULL;
    }
    pthread_mutex_init(&all->lock, NULL);
    for (int i = 0; i < all->count; i++)
        all->seat[i].fd = -1;
    return all;
}

void seats_free(struct seats *all)
{
    if (!all)
        return;
    pthread_mutex_destroy(&all->lock);
    free(all->seat);
    free(all);
}
