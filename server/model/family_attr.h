/* family_attr.h - one attribute of a family row: read from JSON, resolved against config.json. */
#ifndef SAMEBIT_FAMILY_ATTR_H
#define SAMEBIT_FAMILY_ATTR_H

#include <jansson.h>

#include "kernels/ops.h"
#include "kernels/base/error.h"
#include "server/model/hf_config.h"

enum family_value_kind { VALUE_NUMBER, VALUE_KEY, VALUE_SQRT, VALUE_RSQRT, VALUE_WORD };

/* One way to say a value.  layer_type: the layers it is for, NULL = all. */
struct family_value {
    char *layer_type;
    enum family_value_kind kind;
    double number; /* NUMBER; of a WORD, its index */
    char *key;     /* KEY, SQRT, RSQRT: of config.json */
};

struct family_attr {
    const struct attr_spec *spec;
    struct family_value *values;
    int count;
};

/* Reads attribute `key` of a row of op into *out, which is all zero.  Whatever happens, *out is
 * cleared with family_attr_clear.  Errors name the attribute and its value. */
int family_attr_read(struct family_attr *out, enum op op, const char *key, const json_t *value,
                     struct error *err);
void family_attr_clear(struct family_attr *a);

/* Writes the attribute's field of *out.  Errors: a missing key of config.json, a layer type that is
 * not listed, a number that is no whole one where a count is needed. */
int family_attr_resolve(const struct family_attr *a, const struct hf_config *config, int64_t layer,
                        struct op_attrs *out, struct error *err);

#endif
