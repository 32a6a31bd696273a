/* form.h - which form a reply of values takes: "format" in the body, and the Accept header. */
#ifndef SAMEBIT_FORM_H
#define SAMEBIT_FORM_H

#include <jansson.h>

#include "server/http/request.h"

enum form_kind { FORM_JSON, FORM_BINARY, FORM_DIGEST };

struct form {
    enum form_kind kind;
    const char *type; /* Content-Type */
};

/* "format": "json" | "binary" | "digest".  Without it Accept decides; JSON where it leaves both
 * open. Errors: 406 when Accept takes none of the forms, 400 when it does not take the one that
 * format names. */
int form_read(const struct request *r, const json_t *root, struct form *out, struct error *err);

#endif
