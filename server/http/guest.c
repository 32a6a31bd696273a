/* guest.c - see guest.h. */
#include "server/http/guest.h"

#include <stdlib.h>

int guest_socket(struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);

    return info ? info->connect_fd : -1;
}

struct guest *guest_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info ? info->socket_context : NULL;
}

void guest_free(const struct guest_places *p, struct guest *g)
{
    if (!g)
        return;
    watch_remove(p->watch, g->watched);
    if (g->seat)
        door_leave(p->door, g->seat);
    free(g);
}

struct guest *guest_create(const struct guest_places *p, int fd, int64_t deadline)
{
    struct guest *g = calloc(1, sizeof(*g));

    if (!g)
        return NULL;
    g->seat = door_enter(p->door, fd);
    g->watched = watch_add(p->watch, fd, deadline);
    if (g->seat && g->watched)
        return g;
    guest_free(p, g);
    return NULL;
}
