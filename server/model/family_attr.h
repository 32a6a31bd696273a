/* family_attr.h - one attribute of a family row: read from JSON, resolved against config.json. */
#ifndef SAMEBIT_FAMILY_ATTR_H
#define SAMEBIT_FAMILY_ATTR_H

#include <jansson.h>

#include "kernels/ops.h"
#include "kernels/base/error.h"
#include "server/model/hf_config.h"

enum family_value_kind { VALUE_NUMBER, VALUE_KEY, VALUE_SQRT, VALUE_RSQRT, VALUE_WORD };

/* The value of an attribute, for the layers of one type (layer_type NULL: for all layers). */
struct family_value {
    char *layer_type;
    enum family_value_kind kind;
    double number; /* NUMBER; of a WORD, its index */
    char *key;     /* KEY, SQRT, RSQRT: of config.json */
    char *plus;    /* of a KEY: the key that is added, or NULL */
};

struct family_attr {
    const struct attr_spec *spec;
    struct family_value *values;
    int count;
};

/* Reads attribute `key` of a row of op into *out, which is all zero.  The caller clears it with
 * family_attr_clear, also after an error.  Errors name the attribute and its value. */
int family_attr_read(struct family_attr *out, enum op op, const char *key, const json_t *value,
                     struct error *err);
void family_attr_clear(struct family_attr *a);

/* Sets the attribute's field of *out for a layer.  Errors: a key that config.json lacks, a layer
 * type that is not listed, a number that is not whole where a count is needed. */
int family_attr_resolve(const struct family_attr *a, const struct hf_config *config, int64_t layer,
                        struct op_attrs *out, struct error *err);

#endif
