/* ops.c - the tables that ops.def spells out.  See ops.h. */
#include "kernels/ops.h"

#include <string.h>

static const struct {
    const char *name, *mirror;
    int least, most, traits;
    enum op_role role;
} ops[OP_COUNT] = {
#define OP(name, least, most, shape, traits, role, mirror)                                         \
    [OP_##name] = {#name, mirror, least, most, traits, ROLE_##role},
#include "kernels/ops.def"
};

#define OP(name, least, most, shape, traits, role, mirror)                                         \
    _Static_assert(0 <= (least) && (least) <= (most) && (most) <= OP_INPUTS, #name ": inputs");
#include "kernels/ops.def"

enum { ALWAYS, IF_BIAS };

static const struct weight_spec weights[] = {
#define WEIGHT(op, suffix, when, axes, rows, columns)                                              \
    {OP_##op,                                                                                      \
     suffix,                                                                                       \
     when,                                                                                         \
     axes,                                                                                         \
     {offsetof(struct op_attrs, rows), offsetof(struct op_attrs, columns)}},
#include "kernels/ops.def"
};

static const struct attr_spec specs[] = {
#define ATTR(op, key, kind, field, required, words)                                                \
    {OP_##op, key, ATTR_##kind, offsetof(struct op_attrs, field), required, words},
#include "kernels/ops.def"
};

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

int op_has(enum op op, enum op_trait trait)
{
    return (ops[op].traits & trait) != 0;
}

enum op_role op_role(enum op op)
{
    return ops[op].role;
}

const struct weight_spec *op_weight(enum op op, int i)
{
    for (size_t k = 0; k < sizeof(weights) / sizeof(weights[0]); k++)
        if (weights[k].op == op && i-- == 0)
            return &weights[k];
    return NULL;
}

int64_t weight_extent(const struct weight_spec *spec, const struct op_attrs *attrs, int axis)
{
    int64_t extent;

    memcpy(&extent, (const char *)attrs + spec->extent[axis], sizeof(extent));
    return extent;
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
    const size_t length = strlen(word);
    int index = 0;

    for (const char *at = spec->words; *at; index++) {
        const size_t n = strcspn(at, " ");

        if (n == length && strncmp(at, word, n) == 0)
            return index;
        at += n + strspn(at + n, " ");
    }
    return -1;
}
