/* loading.c - see loading.h. */
#include "server/loading.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/base/clock.h"

enum { BAR = 30 };

static void draw(struct loading *l, const char *what, uint64_t done, uint64_t all)
{
    double part = all ? (double)done / (double)all : 0;
    int64_t now = clock_ns();
    int filled;

    if (!l->on_terminal || (now - l->drawn < CLOCK_SECOND / 10 && done < all))
        return;
    l->drawn = now;
    filled = (int)((part > 1 ? 1 : part) * BAR);
    fprintf(stderr, "\r\033[K%-24s [%.*s%*s] %3.0f%%", what, filled,
            "##############################", BAR - filled, "", part * 100);
    fflush(stderr);
}

static void on_progress(void *user, const char *what, uint64_t done, uint64_t all)
{
    struct loading *l = user;

    pthread_mutex_lock(&l->server->lock);
    snprintf(l->server->loading, sizeof(l->server->loading), "%s", what);
    l->server->loading_done = done;
    l->server->loading_all = all;
    pthread_mutex_unlock(&l->server->lock);
    draw(l, what, done, all);
}

static void *load(void *user)
{
    struct loading *l = user;
    struct engine *e = engine_open(&l->options, &l->err);

    if (l->on_terminal)
        fputs("\r\033[K", stderr);
    atomic_store(&l->server->engine, e);
    while (write(l->done, "L", 1) != 1)
        ;
    return NULL;
}

int loading_start(struct loading *l, struct server *server, const struct engine_options *options,
                  int done, struct error *err)
{
    memset(l, 0, sizeof(*l));
    l->server = server;
    l->options = *options;
    l->options.progress = on_progress;
    l->options.user = l;
    l->done = done;
    l->on_terminal = isatty(STDERR_FILENO);
    return pthread_create(&l->thread, NULL, load, l) ? error_set(err, 500, "no thread to load with")
                                                     : 0;
}

int loading_join(struct loading *l, struct error *err)
{
    pthread_join(l->thread, NULL);
    if (atomic_load(&l->server->engine))
        return 0;
    return error_set(err, l->err.code ? l->err.code : 500, "%s", l->err.text);
}
