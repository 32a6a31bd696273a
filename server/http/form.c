/* form.c - see form.h. */
#include "server/http/form.h"

#include <string.h>

#include "server/http/json.h"
#include "server/http/negotiate.h"

static const char *const types_json[] = {TYPE_JSON, NULL};
static const char *const types_any[] = {TYPE_JSON, TYPE_BINARY, "application/vnd.safetensors",
                                        "application/x-safetensors", NULL};

static int choose(const struct request *r, struct form *out, struct error *err)
{
    out->type = accept_best(r->accept, types_any);
    if (!out->type)
        return error_param(
            err, 406, "Accept",
            "values come as application/json, application/octet-stream, "
            "application/vnd.safetensors or application/x-safetensors; Accept allows "
            "none of these");
    out->kind = strcmp(out->type, TYPE_JSON) == 0 ? FORM_JSON : FORM_BINARY;
    return 0;
}

int form_read(const struct request *r, const json_t *root, struct form *out, struct error *err)
{
    static const char *const words[] = {"json", "binary", "digest"};
    const char *word = NULL;
    int kind = 0;

    if (json_read_name(root, "format", &word, err))
        return -1;
    if (!word)
        return choose(r, out, err);
    while (kind < 3 && strcmp(words[kind], word) != 0)
        kind++;
    if (kind == 3)
        return error_param(err, 400, "format",
                           "format '%.100s' is not known; json, binary and digest are", word);
    out->kind = (enum form_kind)kind;
    out->type = accept_best(r->accept, kind == FORM_BINARY ? types_binary : types_json);
    if (!out->type)
        return error_param(err, 400, "format", "format %s contradicts the Accept header: '%.200s'",
                           word, r->accept);
    return 0;
}
