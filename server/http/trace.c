/* trace.c - POST /v1/trace: values of a run, and values put into it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/http/form.h"
#include "server/http/json.h"
#include "server/http/negotiate.h"
#include "server/http/positions.h"
#include "server/http/prompt.h"
#include "server/http/routes.h"
#include "server/http/write.h"

static const char *const fields[] = {PROMPT_FIELDS, "steps",  "values", "positions",
                                     "replace",     "format", NULL};

static int read_values(const json_t *root, struct run_request *run, const char ***names,
                       struct error *err)
{
    const json_t *list = json_object_get(root, "values");

    if (!list)
        return error_param(
            err, 400, "values",
            "values is missing; a list of names, aliases or globs is expected, such as "
            "[\"logits\"] or [\"layer_0.*\"] (GET /v1/values lists them; [] asks for "
            "the tokens only)");
    if (json_read_names(list, "values", names, &run->value_count, err))
        return -1;
    run->values = *names;
    return 0;
}

static int submit(struct work *w, const struct request *r, struct reply *reply,
                  const struct form *form, struct error *err)
{
    const struct write_spec spec = {0};
    int64_t size = -1;
    int rc;

    if (form->kind == FORM_BINARY)
        rc = write_binary(w, &spec, &size, err);
    else if (form->kind == FORM_DIGEST)
        rc = write_digest(w, &spec, err);
    else
        rc = write_json(w, &spec, err);
    if (!rc)
        return work_submit(w, r, reply, form->type, size, err);
    work_free(w);
    return -1;
}

static int prepare(struct work *w, const struct request *r, const json_t *root, struct error *err)
{
    const struct settings *s = &r->server->settings;
    const struct run_limits limits = {
        .tokens = s->tokens, .values = s->values, .memory = (uint64_t)s->memory_bytes};
    struct run_request run = {.replace = w->replace.at, .replace_count = w->replace.count};
    int64_t *tokens = NULL, *positions = NULL;
    const char **names = NULL;
    int rc = -1;

    if (prompt_read(r->engine, s, root, &tokens, &run.token_count, err) ||
        json_read_int(root, "steps", 0, s->steps, &run.steps, err) ||
        read_values(root, &run, &names, err) ||
        positions_read(root, POSITIONS_ALL, &run, &positions, err))
        goto out;
    run.tokens = tokens;
    w->run = run_create(r->engine, &run, &limits, err);
    rc = w->run ? 0 : -1;
out:
    free(names);
    free(positions);
    free(tokens);
    return rc;
}

int trace_post(const struct request *r, struct reply *reply, struct error *err)
{
    struct work *w = work_create(r, err);
    json_t *root = NULL;
    struct form form;
    int rc = -1;

    if (!w)
        return -1;
    if (!body_read(r, &root, &w->replace, err) && !json_only(root, fields, err) &&
        !form_read(r, root, &form, err) && !prepare(w, r, root, err))
        rc = submit(w, r, reply, &form, err);
    else
        work_free(w);
    json_decref(root);
    return rc;
}
