/* health.c - GET /health: whether the model is there yet. */
#include "server/http/json.h"
#include "server/http/routes.h"

int health_get(const struct request *r, struct reply *reply, struct error *err)
{
    static const char *const none[] = {NULL};
    struct server *s = r->server;
    double progress;

    if (request_only(r, none, err) || request_takes_json(r, err))
        return -1;
    if (r->engine && weights_state(r->engine->weights, err))
        return -1;
    if (r->engine) {
        buffer_text(&reply->body, "{\"status\":\"ok\"}\n");
        reply_json(reply);
        return 0;
    }
    pthread_mutex_lock(&s->lock);
    progress = s->loading_all ? (double)s->loading_done / (double)s->loading_all : 0;
    buffer_text(&reply->body, "{\"status\":\"loading\",\"what\":");
    json_put_name(&reply->body, s->loading);
    buffer_format(&reply->body, ",\"progress\":%.4f}\n", progress > 1 ? 1 : progress);
    pthread_mutex_unlock(&s->lock);
    reply_json(reply);
    reply->status = 503;
    return 0;
}
