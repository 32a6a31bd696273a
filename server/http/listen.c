/* listen.c - see listen.h. */
#include "server/http/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 128 };

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static int parse_port(const char *text, in_port_t *port)
{
    size_t n = strspn(text, "0123456789");

    if (!n || n > 5 || text[n] || atoi(text) > 65535)
        return -1;
    *port = htons((uint16_t)atoi(text));
    return 0;
}

/* Cuts "host:port" or "[host]:port". */
static int split(const char *address, char *host, size_t size, in_port_t *port)
{
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;

    if (!colon || parse_port(colon + 1, port))
        return -1;
    if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
        address++;
        n -= 2;
    }
    if (!n || n >= size)
        return -1;
    memcpy(host, address, n);
    host[n] = '\0';
    return 0;
}

static int parse(const char *address, union address *out, socklen_t *size)
{
    char host[INET6_ADDRSTRLEN + 1];
    in_port_t port;

    memset(out, 0, sizeof(*out));
    if (split(address, host, sizeof(host), &port))
        return -1;
    if (strcmp(host, "localhost") == 0)
        strcpy(host, "127.0.0.1");
    if (inet_pton(AF_INET, host, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = port;
        *size = sizeof(out->v4);
        return 0;
    }
    if (inet_pton(AF_INET6, host, &out->v6.sin6_addr) == 1) {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = port;
        *size = sizeof(out->v6);
        return 0;
    }
    return -1;
}

static void spell(const union address *a, char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN];

    if (a->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a->v4.sin_addr, host, sizeof(host));
        snprintf(out, size, "%s:%d", host, ntohs(a->v4.sin_port));
    } else {
        inet_ntop(AF_INET6, &a->v6.sin6_addr, host, sizeof(host));
        snprintf(out, size, "[%s]:%d", host, ntohs(a->v6.sin6_port));
    }
}

int listen_open(const char *address, char *spelled, size_t size, int *v6, struct error *err)
{
    union address a;
    socklen_t length;
    int one = 1, fd;

    if (parse(address, &a, &length))
        return error_param(
            err, 400, "listen",
            "'%.100s' is no address; an IPv4 address and a port as 127.0.0.1:8642, or an "
            "IPv6 one as [::1]:8642, is expected",
            address);
    *v6 = a.any.sa_family == AF_INET6;
    fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, 400, "%s: %s", address, strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, &a.any, length) || listen(fd, BACKLOG) || getsockname(fd, &a.any, &length)) {
        error_set(err, 400, "%s: %s", address, strerror(errno));
        close(fd);
        return -1;
    }
    spell(&a, spelled, size);
    return fd;
}

int listen_is_loopback(const char *address)
{
    union address a;
    socklen_t size;

    if (parse(address, &a, &size))
        return 0;
    if (a.any.sa_family == AF_INET)
        return ntohl(a.v4.sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr);
}
