/* trace.c - POST /v1/trace: values of a run, and values put into it.
 * POST /v1/isolate: the same where these are another program's, by which each step is judged alone. */
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

static const char *const fields[] = {PROMPT_FIELDS, PROMPT_CALL_FIELDS, "steps",  "values",
                                     "positions",   "replace",          "format", NULL};

static const char *const isolate_fields[] = {PROMPT_FIELDS, PROMPT_CALL_FIELDS, "steps",  "values",
                                             "replace",     "formulas",         "format", NULL};

/* What a request asks for, as long as it is being read and the reply's head written. */
struct asked {
    struct prompt prompt;
    struct run_request run;
    const char **names;
    int64_t *positions;
    struct run_formula *formulas;
};

static void asked_clear(struct asked *a)
{
    prompt_clear(&a->prompt);
    free(a->names);
    free(a->positions);
    free(a->formulas);
}

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
                  const struct asked *a, const struct form *form, struct error *err)
{
    const struct write_spec spec = {.which = a->run.which,
                                    .positions = a->run.positions,
                                    .position_count = a->run.position_count,
                                    .prompt = &a->prompt};
    int rc;

    if (form->kind == FORM_BINARY)
        rc = write_binary(w, &spec, err);
    else if (form->kind == FORM_DIGEST)
        rc = write_digest(w, &spec, err);
    else
        rc = write_json(w, &spec, err);
    if (!rc)
        return work_submit(w, r, reply, form->type, err);
    work_free(w);
    return -1;
}

/* {"name": "text"}, borrowed from root. */
static int read_formulas(const json_t *root, struct asked *a, struct error *err)
{
    json_t *object = json_object_get(root, "formulas"), *text;
    const char *name;

    if (!object || json_is_null(object))
        return 0;
    if (!json_is_object(object))
        return error_param(err, 400, "formulas", "formulas is %s; an object of texts is expected",
                           json_kind(object));
    a->formulas = calloc(json_object_size(object) + 1, sizeof(*a->formulas));
    if (!a->formulas)
        return error_set(err, 500, "out of memory");
    json_object_foreach (object, name, text) {
        if (!json_is_string(text))
            return error_param(err, 400, "formulas", "formulas: '%.100s' is %s; a text is expected",
                               name, json_kind(text));
        a->formulas[a->run.formula_count++] = (struct run_formula){name, json_string_value(text)};
    }
    a->run.formulas = a->formulas;
    return 0;
}

static int prepare(struct work *w, const struct request *r, const json_t *root, struct asked *a,
                   struct error *err)
{
    const struct settings *s = &r->server->settings;
    const struct run_limits limits = prompt_limits(s);

    w->engine = prompt_engine(r->engine, root, err);
    a->run.replace = w->replace.at;
    a->run.replace_count = w->replace.count;
    if (!w->engine || prompt_read(w->engine, s, root, &a->prompt, err) ||
        json_read_int(root, "steps", 0, s->steps, &a->run.steps, err) ||
        read_values(root, &a->run, &a->names, err) || read_formulas(root, a, err) ||
        positions_read(root, POSITIONS_ALL, &a->run, &a->positions, err))
        return -1;
    prompt_apply(&a->prompt, &a->run);
    w->run = run_create(w->engine, &a->run, &limits, err);
    return w->run ? 0 : -1;
}

static int answer(const struct request *r, struct reply *reply, int isolate, struct error *err)
{
    struct work *w = work_create(r, err);
    struct asked asked = {.run.isolate = isolate};
    json_t *root = NULL;
    struct form form;
    int rc = -1;

    if (!w)
        return -1;
    if (!body_read(r, &root, &w->replace, err) &&
        !json_only(root, isolate ? isolate_fields : fields, err) &&
        !form_read(r, root, &form, err) && !prepare(w, r, root, &asked, err))
        rc = submit(w, r, reply, &asked, &form, err);
    else
        work_free(w);
    asked_clear(&asked);
    json_decref(root);
    return rc;
}

int trace_post(const struct request *r, struct reply *reply, struct error *err)
{
    return answer(r, reply, 0, err);
}

int isolate_post(const struct request *r, struct reply *reply, struct error *err)
{
    return answer(r, reply, 1, err);
}
