/* target_request.c - requests through the route table of a small model, up to the run; the run's
 * reader leaves at once. */
#include "tests/fuzz/targets.h"

#include "kernels/base/clock.h"
#include "server/http/negotiate.h"
#include "server/http/routes.h"

static struct server server = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int open_server(void)
{
    static const struct scheduler_limits limits = {
        .places = {[JOB_ALONE] = 2, [JOB_SHARED] = 4}, .waiting = 1000, .memory = 1 << 30};
    const struct engine_options options = {.folder = fuzz_model(),
                                           .families = "configs/families",
                                           .device = "cpu",
                                           .numerics = numerics_at(0),
                                           .attention = ATTENTION_COUNT,
                                           .isa = "plain",
                                           .threads = 1};
    struct error err = {0};
    struct engine *e;

    if (atomic_load(&server.engine))
        return 0;
    if (!options.folder || settings_read(NULL, &server.settings, &err))
        return -1;
    server.settings.tokens = 64;
    server.settings.steps = 4;
    e = engine_open(&options, &err);
    server.scheduler = scheduler_create(&limits, &err);
    server.drivers = drivers_start(server.scheduler, &err);
    atomic_store(&server.engine, e);
    fuzz_demand(e && server.scheduler && server.drivers, err.text);
    return 0;
}

int fuzz_request(const uint8_t *data, size_t size)
{
    static const char *const paths[] = {"/v1/trace",    "/v1/logits",     "/v1/generate",
                                        "/v1/tokenize", "/v1/detokenize", "/v1/trace",
                                        "/v1/isolate",  "/v1/trace"};
    struct reply reply = {0};

    if (size < 1 || open_server())
        return 0;
    const struct request r = {.server = &server,
                              .engine = atomic_load(&server.engine),
                              .method = "POST",
                              .path = paths[data[0] & 7],
                              .accept = data[0] & 8 ? TYPE_BINARY : "",
                              .content_type = (data[0] & 7) == 5 ? TYPE_BINARY : TYPE_JSON,
                              .body = (const char *)data + 1,
                              .body_size = size - 1,
                              .deadline = clock_ns() + 10 * (int64_t)CLOCK_SECOND};

    routes_answer(&r, &reply);
    fuzz_demand(reply.status >= 200 && reply.status <= 599, "a status");
    fuzz_demand(reply.stream || reply.body.size, "a body");
    if (reply.stream)
        stream_detach(reply.stream);
    reply_clear(&reply);
    return 0;
}
