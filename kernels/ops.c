/* ops.c - the tables that ops.def spells out.  See ops.h. */
#include "kernels/ops.h"

#include <string.h>

static const struct {
    const char *name, *mirror;
    int least, most;
} ops[OP_COUNT] = {
#define OP(name, least, most, mirror) [OP_##name] = {#name, mirror, least, most},
#include "kernels/ops.def"
};

static const struct attr_spec specs[] = {
#define ATTR(op, key, kind, field, required)                                                       \
    {OP_##op, key, ATTR_##kind, offsetof(struct op_attrs, field), required},
#include "kernels/ops.def"
};

static const char *const rotary_parts[] = {[ROTARY_COS] = "cos", [ROTARY_SIN] = "sin"};

const char *op_name(enum op op)
{
    return ops[op].name;
}

const char *op_mirror(enum op op)
{
    return ops[op].mirror;
}

int op_find(const char *name)
{
    for (int i = 0; i < OP_COUNT; i++)
        if (strcmp(ops[i].name, name) == 0)
            return i;
    return -1;
}

int op_inputs_least(enum op op)
{
    return ops[op].least;
}

int op_inputs_most(enum op op)
{
    return ops[op].most;
}

int op_has_weight(enum op op)
{
    return op == OP_embedding || op == OP_linear || op == OP_rms_norm;
}

const struct attr_spec *attr_find(enum op op, const char *key)
{
    for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++)
        if (specs[i].op == op && strcmp(specs[i].key, key) == 0)
            return &specs[i];
    return NULL;
}

const struct attr_spec *attr_specs(int *count)
{
    *count = (int)(sizeof(specs) / sizeof(specs[0]));
    return specs;
}

int attr_word(const struct attr_spec *spec, const char *word)
{
    if (spec->kind != ATTR_NAME || spec->offset != offsetof(struct op_attrs, part))
        return -1;
    for (size_t i = 0; i < sizeof(rotary_parts) / sizeof(rotary_parts[0]); i++)
        if (strcmp(rotary_parts[i], word) == 0)
            return (int)i;
    return -1;
}
