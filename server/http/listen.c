/* listen.c - see listen.h. */
#include "server/http/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
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

/* ---- unix sockets ---- */

static const char scheme[] = "unix:";

int listen_is_local(const char *address)
{
    return strncmp(address, scheme, strlen(scheme)) == 0;
}

/* Cuts "unix:PATH,mode=660". */
static int parse_local(const char *address, struct sockaddr_un *out, unsigned *mode)
{
    const char *path = address + strlen(scheme), *comma = strrchr(path, ',');
    size_t n = strlen(path);
    char *end;

    *mode = 0600;
    if (comma && strncmp(comma, ",mode=", 6) == 0) {
        *mode = (unsigned)strtoul(comma + 6, &end, 8);
        if (*end || end == comma + 6 || *mode > 0777)
            return -1;
        n = (size_t)(comma - path);
    }
    memset(out, 0, sizeof(*out));
    out->sun_family = AF_UNIX;
    if (!n || n >= sizeof(out->sun_path))
        return -1;
    memcpy(out->sun_path, path, n);
    return 0;
}

/* A socket that nobody listens on, left by a daemon that was killed, is removed. */
static int remove_left(const struct sockaddr_un *a)
{
    struct stat st;
    int fd, left;

    if (lstat(a->sun_path, &st))
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    left = fd >= 0 && connect(fd, (const struct sockaddr *)a, sizeof(*a)) && errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return left ? unlink(a->sun_path) : -1;
}

static int open_local(const char *address, char *spelled, size_t size, struct error *err)
{
    struct sockaddr_un a;
    unsigned mode;
    mode_t mask;
    int fd, bad;

    if (parse_local(address, &a, &mode))
        return error_param(err, 400, "listen",
                           "'%.100s': unix:PATH or unix:PATH,mode=660 is expected, PATH of at most "
                           "%zu bytes",
                           address, sizeof(a.sun_path) - 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, 400, "%s: %s", address, strerror(errno));
    if (remove_left(&a)) {
        close(fd);
        return error_set(err, 400, "%s: there is something already, in use or no socket", address);
    }
    mask = umask(0777); /* nobody can reach it before its mode is set */
    bad = bind(fd, (struct sockaddr *)&a, sizeof(a));
    umask(mask);
    if (bad || chmod(a.sun_path, (mode_t)mode) || listen(fd, BACKLOG)) {
        error_set(err, 400, "%s: %s", address, strerror(errno));
        if (!bad)
            unlink(a.sun_path);
        close(fd);
        return -1;
    }
    snprintf(spelled, size, "%s%s", scheme, a.sun_path);
    return fd;
}

/* ---- */

int listen_open(const char *address, char *spelled, size_t size, struct error *err)
{
    union address a;
    socklen_t length;
    int one = 1, fd;

    if (listen_is_local(address))
        return open_local(address, spelled, size, err);
    if (parse(address, &a, &length))
        return error_param(
            err, 400, "listen",
            "'%.100s' is no address; an IPv4 address and a port as 127.0.0.1:8642, an IPv6 one as "
            "[::1]:8642, or unix:PATH is expected",
            address);
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

void listen_close(int fd)
{
    struct sockaddr_un a = {0};
    socklen_t size = sizeof(a);

    if (getsockname(fd, (struct sockaddr *)&a, &size) == 0 && a.sun_family == AF_UNIX)
        unlink(a.sun_path);
    close(fd);
}

int listen_is_loopback(const char *address)
{
    union address a;
    socklen_t size;

    if (listen_is_local(address))
        return 1;
    if (parse(address, &a, &size))
        return 0;
    if (a.any.sa_family == AF_INET)
        return ntohl(a.v4.sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr);
}
