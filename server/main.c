/* main.c - samebitd: opens a model and serves it until it is told to stop. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kernels/base/clock.h"
#include "kernels/base/json_memory.h"
#include "kernels/base/log.h"
#include "kernels/base/mapping.h"
#include "kernels/base/version.h"
#include "server/choose.h"
#include "server/explain.h"
#include "server/http/daemon.h"
#include "server/http/listen.h"
#include "server/loading.h"
#include "server/options.h"

enum { STOP_SECONDS = 10 }; /* after which stopping is cut short, once the runs have ended */

static int events[2]; /* a pipe: 'L' the model is loaded (or not), 'S' stop, 'H' read again */
static volatile sig_atomic_t signalled;

static void on_signal(int number)
{
    ssize_t n;

    if (signalled++)
        _exit(128 + number);
    n = write(events[1], "S", 1);
    (void)n;
}

static void on_hangup(int number)
{
    ssize_t n = write(events[1], "H", 1);

    (void)number;
    (void)n;
}

static void on_alarm(int number)
{
    (void)number;
    _exit(0);
}

static int catch_signals(struct error *err)
{
    struct sigaction stop = {.sa_handler = on_signal};
    struct sigaction again = {.sa_handler = on_hangup, .sa_flags = SA_RESTART};
    struct sigaction late = {.sa_handler = on_alarm};
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    if (pipe(events))
        return error_set(err, 500, "no pipe");
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGHUP, &again, NULL);
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGALRM, &late, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    return 0;
}

static struct scheduler_limits scheduler_limits_of(const struct settings *s)
{
    return (struct scheduler_limits){
        .places = {[JOB_ALONE] = (int)s->running, [JOB_SHARED] = (int)s->together},
        .waiting = (int)s->waiting,
        .memory = (uint64_t)s->all_memory_bytes};
}

/* What may change while it serves.  A file with a fault changes nothing of what stands in it. */
static void reload(struct server *server, struct daemon *d, const char *config)
{
    static struct settings fresh;
    struct scheduler_limits limits;
    struct error err = {0};
    char kept[512] = "";
    int rc = settings_read(config, &fresh, &err);

    limits = scheduler_limits_of(&fresh);
    if (!rc && !(rc = scheduler_change(server->scheduler, &limits, &err)))
        settings_change(&server->settings, &fresh, kept);
    rc |= daemon_reload(d, rc ? NULL : &fresh, &err);
    if (*kept)
        fprintf(stderr, "samebitd: %s: only a new start changes that\n", kept);
    if (rc)
        fprintf(stderr, "samebitd: %s (what was read before stays)\n", err.text);
    else
        fprintf(stderr, "samebitd: settings, tokens and certificate were read again\n");
}

static char next_event(struct server *server, struct daemon *d, const char *config)
{
    char event = 0;

    while (read(events[0], &event, 1) != 1 || event == 'H')
        if (event == 'H') {
            reload(server, d, config);
            event = 0;
        }
    return event;
}

/* Any network may reach an address that is not loopback: that must be said, not found in a file, and
 * who may ask there. */
static const char *choose_address(const struct options *o, const struct settings *s,
                                  struct error *err)
{
    const char *address = o->listen ? o->listen : s->address;

    if (listen_is_loopback(address))
        return address;
    if (!o->listen) {
        error_param(err, 400, "address",
                    "%s: address '%s' is not a loopback one; such an address must be given with "
                    "--listen",
                    o->config, s->address);
        return NULL;
    }
    if (!o->tokens && !o->insecure) {
        error_param(err, 400, "listen",
                    "--listen %s: others can reach it; --token-file says who may ask, --insecure "
                    "that anybody may",
                    address);
        return NULL;
    }
    if (!o->certificate)
        fprintf(stderr, "samebitd: %s without TLS: prompts%s can be read on their way\n", address,
                o->tokens ? " and tokens" : "");
    return address;
}

/* Where connections may take more descriptors than a shell gives. */
static void raise_descriptors(const struct settings *s)
{
    const rlim_t wanted = (rlim_t)(s->connections + s->arriving) + 256;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void say_ready(const struct daemon *d, const struct engine *e)
{
    for (int i = 0; i < e->notices.count; i++)
        fprintf(stderr, "samebitd: notice: %s\n", e->notices.at[i]);
    printf("samebitd: listening on %s (model %s, numerics %s, attention %s, device %s, isa "
           "%s, threads %d",
           daemon_address(d), e->name, e->backend->numerics->name, attention_name(e->attention),
           e->backend->device, e->backend->isa, e->backend->threads);
    if (e->backend->numerics->of_host)
        printf(", torch's threads %d", (int)e->backend->torch.threads);
    printf(")\n");
    fflush(stdout);
}

/* Lets the runs that were accepted finish; whoever comes now is refused with 503. */
static void finish_runs(struct server *server)
{
    const int64_t seconds = server->settings.stop_seconds;
    const int runs = scheduler_drain(server->scheduler, 0);

    if (runs && seconds)
        fprintf(stderr,
                "samebitd: stopping; %d runs may finish within %lld s, a second signal ends them\n",
                runs, (long long)seconds);
    scheduler_drain(server->scheduler, clock_ns() + seconds * CLOCK_SECOND);
}

/* Loads and serves until a signal. */
static int serve(struct server *server, struct daemon *d, struct options *o, struct error *err)
{
    struct loading loading;

    o->engine.reuse_bytes = (uint64_t)server->settings.reuse_bytes;
    if (loading_start(&loading, server, &o->engine, events[1], err))
        return -1;
    if (next_event(server, d, o->config) == 'S') {
        /* Loading cannot be broken off; nothing of it needs to be kept. */
        daemon_stop(d);
        _exit(0);
    }
    if (loading_join(&loading, err))
        return -1;
    say_ready(d, atomic_load(&server->engine));
    while (next_event(server, d, o->config) != 'S')
        ;
    finish_runs(server);
    return 0;
}

static int run(struct options *o, struct error *err)
{
    static struct server server = {.lock = PTHREAD_MUTEX_INITIALIZER, .loading = "starting"};
    static struct daemon_options options;
    struct scheduler_limits limits;
    struct daemon *d = NULL;
    const char *address;
    int rc = -1;

    if (settings_read(o->config, &server.settings, err) || catch_signals(err))
        return -1;
    address = choose_address(o, &server.settings, err);
    if (!address)
        return -1;
    options = (struct daemon_options){
        .address = address,
        .guard = {.tokens = o->tokens, .open = o->insecure, .local = listen_is_local(address)},
        .certificate = o->certificate,
        .key = o->key};
    memcpy(options.guard.hosts, server.settings.hosts, sizeof(options.guard.hosts));
    memcpy(options.guard.origins, server.settings.origins, sizeof(options.guard.origins));
    raise_descriptors(&server.settings);
    limits = scheduler_limits_of(&server.settings);
    server.scheduler = scheduler_create(&limits, err);
    if (server.scheduler)
        server.drivers = drivers_start(server.scheduler, err);
    if (server.drivers)
        d = daemon_start(&server, &options, err);
    if (d)
        rc = serve(&server, d, o, err);
    alarm(STOP_SECONDS);
    daemon_stop(d);
    scheduler_stop(server.scheduler);
    drivers_free(server.drivers);
    scheduler_free(server.scheduler);
    engine_close(atomic_load(&server.engine));
    return rc;
}

/* What needs no model.  Returns the exit status. */
static int answer(const struct options *o, struct error *err)
{
    int status = 0;

    if (o->help)
        options_help(stdout);
    else if (o->which_numerics)
        status = explain_numerics(o, stdout, err);
    else
        puts("samebitd " SAMEBIT_VERSION);
    if (status > 1)
        fprintf(stderr, "samebitd: %s\n", err->text);
    return status;
}

int main(int argc, char **argv)
{
    static struct options options;
    struct error err = {0};

    if (options_parse(argc, argv, &options, &err) ||
        (!options.which_numerics && options.engine.folder && choose_numerics(&options, &err))) {
        fprintf(stderr, "samebitd: %s\n", err.text);
        return 2;
    }
    if (options.help || options.version || options.which_numerics)
        return answer(&options, &err);
    log_enable(options.verbose);
    mapping_survive();
    json_memory_watch(malloc);
    if (run(&options, &err)) {
        fprintf(stderr, "samebitd: %s\n", err.text);
        return 1;
    }
    return 0;
}
