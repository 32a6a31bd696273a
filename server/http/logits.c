/* logits.c - POST /v1/logits: the model's scores for the next token, all of them or the top k. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/engine/sampler.h"
#include "server/http/form.h"
#include "server/http/json.h"
#include "server/http/negotiate.h"
#include "server/http/number.h"
#include "server/http/positions.h"
#include "server/http/prompt.h"
#include "server/http/routes.h"
#include "server/http/token_text.h"
#include "server/http/write.h"

static const char *const fields[] = {PROMPT_FIELDS, PROMPT_CALL_FIELDS, "positions",
                                     "top_k",       "format",           NULL};

/* ---- the top k of each row ---- */

struct top {
    int64_t k, width; /* of a row */
    int64_t filled;   /* elements of the row that are there */
    int64_t rows;     /* done */
    bf16 *row;
    float *logprob;
    int64_t *index;
};

static void put_row(struct work *w)
{
    struct top *t = w->state;
    char number[NUMBER_TEXT];

    sampler_top_k(t->row, t->width, t->k, t->index);
    sampler_log_softmax(t->row, t->width, w->engine->backend->numerics, t->logprob);
    buffer_text(&w->out, t->rows++ ? ",[" : "[");
    for (int64_t i = 0; i < t->k; i++) {
        int n;
        const char *logit = number_bf16(t->row[t->index[i]], &n);

        buffer_format(&w->out, "%s{\"id\":%" PRId64 ",", i ? "," : "", t->index[i]);
        token_put(&w->out, w->engine->tokenizer, t->index[i]);
        buffer_format(&w->out, ",\"logit\":%.*s,\"logprob\":", n, logit);
        n = number_f32(t->logprob[t->index[i]], number);
        buffer_append(&w->out, number, (size_t)n);
        buffer_text(&w->out, "}");
    }
    buffer_text(&w->out, "]");
}

static int top_value(struct work *w, int64_t entry, const void *data, size_t bytes,
                     struct error *err)
{
    struct top *t = w->state;
    const bf16 *from = data;
    int64_t count = (int64_t)(bytes / sizeof(bf16));

    (void)entry;
    while (count) {
        int64_t n = t->width - t->filled < count ? t->width - t->filled : count;

        memcpy(t->row + t->filled, from, (size_t)n * sizeof(bf16));
        t->filled += n;
        from += n;
        count -= n;
        if (t->filled == t->width) {
            put_row(w);
            t->filled = 0;
            if (work_send(w, WORK_PIECE, err))
                return -1;
        }
    }
    return 0;
}

static int top_close(struct work *w, struct error *err)
{
    (void)err;
    buffer_text(&w->out, "],\"tokens\":");
    json_put_ints(&w->out, w->run->tokens, w->run->token_count);
    buffer_text(&w->out, "}\n");
    return 0;
}

static void top_free(void *user)
{
    struct top *t = user;

    free(t->row);
    free(t->logprob);
    free(t->index);
    free(t);
}

/* Log probabilities are computed on the host: said where that is another arithmetic. */
static void put_logprob_numerics(struct work *w)
{
    const char *host = w->engine->backend->numerics->host;

    if (host)
        buffer_format(&w->out, ",\"logprob_numerics\":\"%s\"", host);
}

static int write_top(struct work *w, const struct write_spec *spec, int64_t k, struct error *err)
{
    static const struct writer writer = {.value = top_value, .close = top_close, .free = top_free};
    const struct run_entry logits = run_entry(w->run, 0);
    struct top *t = calloc(1, sizeof(*t));

    if (!t)
        return error_set(err, 500, "no memory for the reply");
    w->writer = &writer;
    w->state = t;
    t->k = k;
    t->width = logits.shape[logits.rank - 1];
    t->row = calloc((size_t)t->width, sizeof(*t->row));
    t->logprob = calloc((size_t)t->width, sizeof(*t->logprob));
    t->index = calloc((size_t)k, sizeof(*t->index));
    if (!t->row || !t->logprob || !t->index)
        return error_set(err, 500, "no memory for the reply");
    write_head(w, spec);
    put_logprob_numerics(w);
    buffer_text(&w->out, ",\"top_k\":[");
    return 0;
}

/* ---- the request ---- */

/* The positions asked for, as numbers; the caller frees. */
static int64_t *spell_positions(const struct run_request *run, struct write_spec *spec)
{
    int64_t count = run->which == POSITIONS_ALL    ? run->token_count
                    : run->which == POSITIONS_LAST ? 1
                                                   : run->position_count;
    int64_t *list = malloc((size_t)(count + 1) * sizeof(*list));

    for (int64_t i = 0; list && i < count; i++)
        list[i] = run->which == POSITIONS_ALL    ? i
                  : run->which == POSITIONS_LAST ? run->token_count - 1
                                                 : run->positions[i];
    spec->which = POSITIONS_LIST;
    spec->positions = list;
    spec->position_count = count;
    return list;
}

static int read_top(const struct request *r, const json_t *root, const struct form *form,
                    int64_t *k, struct error *err)
{
    int64_t most = r->server->settings.top_k;

    if (most > r->engine->vocab_size)
        most = r->engine->vocab_size;
    if (json_read_int(root, "top_k", 1, most, k, err))
        return -1;
    if (*k && form->kind != FORM_JSON)
        return error_param(err, 400, "top_k", "top_k comes as JSON only, without a format%s",
                           form->kind == FORM_BINARY ? " or an Accept header that asks for binary"
                                                     : "");
    return 0;
}

static int submit(struct work *w, const struct request *r, struct reply *reply,
                  const struct write_spec *spec, const struct form *form, int64_t k,
                  struct error *err)
{
    int rc;

    if (k)
        rc = write_top(w, spec, k, err);
    else if (form->kind == FORM_BINARY)
        rc = write_binary(w, spec, err);
    else if (form->kind == FORM_DIGEST)
        rc = write_digest(w, spec, err);
    else
        rc = write_json(w, spec, err);
    if (!rc)
        return work_submit(w, r, reply, form->type, err);
    work_free(w);
    return -1;
}

/* A prompt in chunks gives logits in each of its calls; those of the last row are in the last. */
static int name_logits(const struct prompt *p, enum run_positions which, char *out, size_t size,
                       struct error *err)
{
    snprintf(out, size, "logits");
    if (p->chunk_count < 2)
        return 0;
    if (which != POSITIONS_LAST)
        return error_param(err, 400, "positions",
                           "a prompt in chunks gives the last position's logits only (POST "
                           "/v1/trace gives every chunk's)");
    snprintf(out, size, "chunk_%" PRId64 "/logits", p->chunk_count);
    return 0;
}

/* Fills work->run, prompt and spec.  *positions: the caller's to free. */
static int prepare(struct work *w, const struct request *r, const json_t *root,
                   struct prompt *prompt, struct write_spec *spec, int64_t **positions,
                   struct error *err)
{
    char name[40];
    const char *const names[] = {name};
    const struct settings *s = &r->server->settings;
    const struct run_limits limits = prompt_limits(s);
    struct run_request run = {.values = names, .value_count = 1};
    int64_t *list = NULL;
    int rc = -1;

    if (prompt_read(r->engine, s, root, prompt, err) ||
        positions_read(root, POSITIONS_LAST, &run, &list, err) ||
        name_logits(prompt, run.which, name, sizeof(name), err))
        goto out;
    prompt_apply(prompt, &run);
    w->run = run_create(r->engine, &run, &limits, err);
    if (!w->run)
        goto out;
    *positions = spell_positions(&run, spec);
    rc = *positions ? 0 : error_set(err, 500, "no memory for positions");
out:
    free(list);
    return rc;
}

int logits_post(const struct request *r, struct reply *reply, struct error *err)
{
    struct prompt prompt = {0};
    struct write_spec spec = {.only = "logits", .prompt = &prompt};
    struct work *w = work_create(r, err);
    json_t *root = request_json(r, err);
    int64_t *positions = NULL, k = 0;
    struct form form;
    int rc = -1;

    if (w && root && !json_only(root, fields, err) && !form_read(r, root, &form, err) &&
        !read_top(r, root, &form, &k, err) && !prepare(w, r, root, &prompt, &spec, &positions, err))
        rc = submit(w, r, reply, &spec, &form, k, err);
    else
        work_free(w);
    prompt_clear(&prompt);
    free(positions);
    json_decref(root);
    return rc;
}
