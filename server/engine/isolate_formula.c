/* isolate_formula.c - see isolate_formula.h: a recursive descent that computes as it reads. */
#include "server/engine/isolate_formula.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "server/engine/isolate_arrays.h"
#include "server/engine/isolate_functions.h"

enum { DEPTH = 32, NAME = 160 };

/* ---- operators ---- */

static double f_add(double a, double b)
{
    return a + b;
}

static double f_sub(double a, double b)
{
    return a - b;
}

static double f_mul(double a, double b)
{
    return a * b;
}

static double f_div(double a, double b)
{
    return a / b;
}

/* ---- reading ---- */

static struct tensor read_sum(struct formula *f);

static char next(struct formula *f)
{
    while (*f->at == ' ')
        f->at++;
    return *f->at;
}

static int takes(struct formula *f, char c)
{
    if (next(f) != c)
        return 0;
    f->at++;
    return 1;
}

static struct tensor call(struct formula *f, const char *name)
{
    const struct function *fn = function_find(name);
    struct tensor a[FUNCTION_ARGUMENTS] = {array_none, array_none, array_none};

    if (!fn)
        return array_fail(f, "no such function");
    for (int i = 0; i < fn->arguments; i++) {
        if (i && !takes(f, ','))
            return array_fail(f, "',' is expected");
        a[i] = read_sum(f);
        if (array_failed(f))
            return array_none;
    }
    if (!takes(f, ')'))
        return array_fail(f, "')' is expected");
    if (fn->unary)
        return array_map(f, &a[0], fn->unary);
    return fn->row ? array_by_rows(f, &a[0], fn->row, fn->keep) : fn->array(f, a);
}

static struct tensor read_name(struct formula *f)
{
    struct tensor found;
    char name[NAME];
    size_t n = 0;

    while (isalnum((unsigned char)*f->at) || *f->at == '_' || *f->at == '.') {
        if (n + 1 == sizeof(name))
            return array_fail(f, "too long a name");
        name[n++] = *f->at++;
    }
    name[n] = '\0';
    if (takes(f, '('))
        return call(f, name);
    if (f->means->lookup(f->means->user, name, &found, f->err)) {
        error_set(f->err, 400, "no value '%s'", name);
        return array_none;
    }
    return array_widened(f, &found);
}

static struct tensor read_one(struct formula *f)
{
    const char c = next(f);
    char *end;
    double d;

    if (isdigit((unsigned char)c)) {
        d = strtod(f->at, &end);
        f->at = end;
        return array_number(f, d);
    }
    if (isalpha((unsigned char)c))
        return read_name(f);
    if (takes(f, '-')) {
        const struct tensor zero = array_number(f, 0), x = read_one(f);

        return array_combine(f, &zero, &x, f_sub);
    }
    if (takes(f, '(')) {
        const struct tensor x = read_sum(f);

        return array_failed(f) || takes(f, ')') ? x : array_fail(f, "')' is expected");
    }
    return array_fail(f, "a number, a name or '(' is expected");
}

static struct tensor read_product(struct formula *f)
{
    struct tensor x = read_one(f);

    for (char c; !array_failed(f) && ((c = next(f)) == '*' || c == '/');) {
        struct tensor y;

        f->at++;
        y = read_one(f);
        x = array_combine(f, &x, &y, c == '*' ? f_mul : f_div);
    }
    return x;
}

static struct tensor read_sum(struct formula *f)
{
    struct tensor x;

    if (++f->depth > DEPTH)
        return array_fail(f, "nested too deep");
    x = read_product(f);
    for (char c; !array_failed(f) && ((c = next(f)) == '+' || c == '-');) {
        struct tensor y;

        f->at++;
        y = read_product(f);
        x = array_combine(f, &x, &y, c == '+' ? f_add : f_sub);
    }
    f->depth--;
    return x;
}

static int give(struct formula *f, const struct tensor *x, const struct tensor *out)
{
    struct tensor v = *x;
    char has[96], wants[96];

    while (v.rank > out->rank && v.shape[0] == 1) {
        memmove(v.shape, v.shape + 1, sizeof(v.shape[0]) * (size_t)--v.rank);
        memmove(v.stride, v.stride + 1, sizeof(v.stride[0]) * (size_t)v.rank);
    }
    if (v.rank != out->rank || memcmp(v.shape, out->shape, sizeof(int64_t) * (size_t)v.rank) != 0)
        return error_set(f->err, 400, "formula '%.200s' gives %s, the value has %s", f->text,
                         tensor_shape_text(&v, has, sizeof(has)),
                         tensor_shape_text(out, wants, sizeof(wants)));
    for (int64_t i = 0; i < tensor_count(out); i++)
        array_data(out)[tensor_offset(out, i)] = array_data(&v)[i];
    return 0;
}

int formula_eval(const char *text, const struct formula_means *means, const struct tensor *out,
                 struct error *err)
{
    struct error own = {0};
    struct formula f = {.text = text, .at = text, .means = means, .err = &own};
    const struct tensor x = strlen(text) > FORMULA_MOST ? array_fail(&f, "too long") : read_sum(&f);

    if (!array_failed(&f) && next(&f))
        array_fail(&f, "the end is expected");
    if (!array_failed(&f))
        give(&f, &x, out);
    array_free_all(&f);
    if (own.code && err)
        *err = own;
    return own.code ? -1 : 0;
}
