/* model.c - GET /v1/model: what is served, and its limits. */
#include <inttypes.h>
#include <string.h>

#include "server/http/facts.h"
#include "server/http/json.h"
#include "server/http/routes.h"

static void put_limits(const struct settings *s, struct buffer *out)
{
    const char *key;
    int64_t value;

    buffer_text(out, ",\"limits\":{");
    for (int i = 0; (key = settings_number(s, i, &value)); i++)
        buffer_format(out, "%s\"%s\":%" PRId64, i ? "," : "", key, value);
    buffer_text(out, "}");
}

/* Without a tokenizer "ids" is "none" and a notice says why. */
static void put_tokenizer(const struct engine *e, struct buffer *out)
{
    const struct tokenizer *t = e->tokenizer;
    int64_t eos[16];
    int count = hf_config_eos(e->config, eos, 16);

    buffer_format(out, ",\"tokenizer\":{\"ids\":\"%s\",\"vocab_size\":%" PRId64 ",\"eos\":",
                  t ? tokenizer_ids_name(e->tokenizer_ids) : "none",
                  t ? tokenizer_vocab_size(t) : 0);
    json_put_ints(out, eos, count);
    buffer_text(out, ",\"eos_pieces\":[");
    for (int i = 0; t && i < count; i++) {
        const char *piece = tokenizer_token(t, eos[i]);

        buffer_text(out, i ? "," : "");
        json_put_name(out, piece ? piece : "");
    }
    buffer_text(out, "]}");
}

static void put_notices(const struct engine *e, struct buffer *out)
{
    buffer_text(out, ",\"notices\":[");
    for (int i = 0; i < e->notices.count; i++) {
        buffer_text(out, i ? "," : "");
        json_put_name(out, e->notices.at[i]);
    }
    buffer_text(out, "]");
}

static void put_attentions(const struct engine *e, struct buffer *out)
{
    int count = 0;

    buffer_text(out, ",\"attentions\":[");
    for (int a = 0; a < ATTENTION_COUNT; a++)
        if (e->program[a])
            buffer_format(out, "%s\"%s\"", count++ ? "," : "", attention_name((enum attention)a));
    buffer_text(out, "]");
}

int model_get(const struct request *r, struct reply *reply, struct error *err)
{
    static const char *const none[] = {NULL};
    const struct engine *e = r->engine;
    struct buffer *out = &reply->body;

    if (request_only(r, none, err) || request_takes_json(r, err))
        return -1;
    buffer_text(out, "{");
    facts_json(out, e, e->attention, 0);
    put_attentions(e, out);
    buffer_format(out, ",\"architecture\":\"%s\"", hf_config_architecture(e->config));
    buffer_format(out, ",\"vocab_size\":%" PRId64 ",\"max_positions\":%" PRId64, e->vocab_size,
                  e->max_positions);
    buffer_format(out, ",\"tensors\":%d,\"weight_bytes\":%" PRIu64, weights_count(e->weights),
                  weights_bytes(e->weights));
    buffer_format(out, ",\"steps\":%d", e->program[e->attention]->count);
    put_tokenizer(e, out);
    put_notices(e, out);
    put_limits(&r->server->settings, out);
    buffer_format(out, ",\"config\":%s}\n", hf_config_text(e->config));
    reply_json(reply);
    return 0;
}
