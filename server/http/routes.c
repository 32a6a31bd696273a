/* routes.c - see routes.h. */
#include "server/http/routes.h"

#include <string.h>

#include "server/http/negotiate.h"

static const struct route {
    const char *method, *path;
    handler_fn *handler;
    int while_loading;
} routes[] = {
    {"GET", "/health", health_get, 1},
    {"GET", "/v1/model", model_get, 0},
    {"GET", "/v1/values", values_get, 0},
    {"POST", "/v1/tokenize", tokenize_post, 0},
    {"POST", "/v1/detokenize", detokenize_post, 0},
    {"POST", "/v1/trace", trace_post, 0},
    {"POST", "/v1/isolate", isolate_post, 0},
    {"GET", "/v1/hypotheses", hypotheses_get, 0},
    {"POST", "/v1/logits", logits_post, 0},
    {"POST", "/v1/generate", generate_post, 0},
};

enum { ROUTES = sizeof(routes) / sizeof(routes[0]) };

/* HEAD is GET without a body; the sender leaves that out. */
static int method_fits(const char *method, const struct route *route)
{
    return strcmp(method, route->method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0);
}

static void fail_not_found(const char *path, struct error *err)
{
    struct buffer known = {0};

    for (int i = 0; i < ROUTES; i++)
        buffer_format(&known, "%s%s", i ? ", " : "", routes[i].path);
    error_param(err, 404, "path", "nothing at '%.200s'; there are %s", path,
                known.data ? known.data : "others");
    buffer_clear(&known);
}

static const struct route *find(const char *method, const char *path, struct reply *reply,
                                struct error *err)
{
    const struct route *at = NULL;

    for (int i = 0; i < ROUTES; i++)
        if (strcmp(path, routes[i].path) == 0) {
            at = &routes[i];
            if (method_fits(method, at))
                return at;
        }
    if (!at) {
        fail_not_found(path, err);
        return NULL;
    }
    reply->allow = strcmp(at->method, "GET") == 0 ? "GET, HEAD" : at->method;
    error_param(err, 405, "method", "%.64s is not allowed on %s; %s is", method, path,
                reply->allow);
    return NULL;
}

int routes_check(const char *method, const char *path, struct reply *reply, struct error *err)
{
    return find(method, path, reply, err) ? 0 : -1;
}

int routes_is_quick(const char *path)
{
    return strcmp(path, "/health") == 0;
}

void routes_answer(const struct request *r, struct reply *reply)
{
    struct error err = {0};
    const struct route *route = find(r->method, r->path, reply, &err);
    int rc = -1;

    if (route && !r->engine && !route->while_loading)
        error_set(&err, 503, "the model is being loaded; GET /health tells how far it is");
    else if (route && !accept_check(r->accept, &err))
        rc = route->handler(r, reply, &err);
    if (rc)
        reply_error(reply, &err);
}
