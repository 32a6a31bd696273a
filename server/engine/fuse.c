/* fuse.c - finds groups of steps; see fuse.h. */
#include "server/engine/fuse.h"

#include <stdlib.h>

/* What a search sees: the program, and how often each step's value is read. */
struct plan {
    const struct program *p;
    const int *readers; /* [count] */
};

/* Step i, if there is one and it has that role, on all rows. */
static const struct step *step_of(const struct plan *plan, int i, enum op_role role)
{
    const struct step *s = i < plan->p->count ? &plan->p->steps[i] : NULL;

    return s && op_role(s->op) == role && !s->by_rows ? s : NULL;
}

static int reads(const struct step *s, const struct step *from)
{
    int times = 0;

    for (int k = 0; k < s->inputs; k++)
        times += s->in[k] == from->out;
    return times;
}

/* Whether `s`, and nothing else, reads `from`, and once. */
static int reads_alone(const struct plan *plan, const struct step *s, const struct step *from)
{
    return reads(s, from) == 1 && plan->readers[from->out - PROGRAM_INPUTS] == 1;
}

/* ---- the kinds of group: how many steps from i on are one, or 0 ---- */

static int find_gated(const struct plan *plan, int i)
{
    const struct step *gate = step_of(plan, i, ROLE_PRODUCT);
    const struct step *up = step_of(plan, i + 1, ROLE_PRODUCT);
    const struct step *act = step_of(plan, i + 2, ROLE_ACTIVATION),
                      *mul = step_of(plan, i + 3, ROLE_GATE);

    return gate && up && act && mul && gate->in[0] == up->in[0] && reads_alone(plan, act, gate) &&
                   reads_alone(plan, mul, act) && reads_alone(plan, mul, up)
               ? 4
               : 0;
}

static int find_linear_add(const struct plan *plan, int i)
{
    const struct step *linear = step_of(plan, i, ROLE_PRODUCT),
                      *add = step_of(plan, i + 1, ROLE_SUM);

    return linear && add && reads_alone(plan, add, linear) ? 2 : 0;
}

static int find_linears(const struct plan *plan, int i)
{
    const struct step *first = step_of(plan, i, ROLE_PRODUCT), *s = first;
    int steps = 0;

    while (s && steps < GROUP_STEPS && s->in[0] == first->in[0])
        s = step_of(plan, i + ++steps, ROLE_PRODUCT);
    return steps > 1 ? steps : 0;
}

/* Outside the layers stand what reads tokens and what every layer reads. */
static int is_thin(const struct plan *plan, int i)
{
    const struct step *s = i < plan->p->count ? &plan->p->steps[i] : NULL;

    return s && s->layer >= 0 && op_role(s->op) != ROLE_PRODUCT;
}

static int find_each(const struct plan *plan, int i)
{
    int steps = 0;

    while (steps < GROUP_STEPS && is_thin(plan, i + steps))
        steps++;
    return steps > 1 ? steps : 0;
}

/* Those that save most come first. */
static const struct {
    enum group group;
    int (*find)(const struct plan *plan, int i);
} kinds[] = {
    {GROUP_GATED, find_gated},
    {GROUP_LINEAR_ADD, find_linear_add},
    {GROUP_LINEARS, find_linears},
    {GROUP_EACH, find_each},
};

/* Returns the step after the group that begins at i, or after i alone. */
static int find_group(const struct plan *plan, struct step *steps, int i)
{
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        const int grouped = plan->p->backend->group[kinds[k].group] ? kinds[k].find(plan, i) : 0;

        if (grouped) {
            steps[i].group = kinds[k].group;
            steps[i].grouped = grouped;
            return i + grouped;
        }
    }
    steps[i].group = GROUP_SAME;
    steps[i].grouped = 1;
    return i + 1;
}

/* The first product after the group at i, or of the next call of the model; -1: there is none. */
static int next_product(const struct program *p, int i)
{
    for (int k = 0, at = i + p->steps[i].grouped; k < p->count; k++, at++)
        if (op_role(p->steps[at % p->count].op) == ROLE_PRODUCT)
            return at % p->count;
    return -1;
}

static void plan_soon(struct program *p)
{
    for (int i = 0; i < p->count; i += p->steps[i].grouped) {
        const int next = next_product(p, i);

        if (next < 0)
            return;
        p->steps[i].soon[0] = p->steps[next].weights[0];
        if (p->steps[next].group == GROUP_GATED)
            p->steps[i].soon[1] = p->steps[next + 1].weights[0];
    }
}

int fuse_plan(struct program *p, struct error *err)
{
    int *readers = calloc((size_t)p->count + 1, sizeof(*readers));
    const struct plan plan = {p, readers};

    if (!readers)
        return error_set(err, 500, "out of memory");
    for (int i = 0; i < p->count; i++)
        for (int k = 0; k < p->steps[i].inputs; k++)
            if (p->steps[i].in[k] >= PROGRAM_INPUTS)
                readers[p->steps[i].in[k] - PROGRAM_INPUTS]++;
    for (int i = 0; i < p->count;)
        i = find_group(&plan, p->steps, i);
    plan_soon(p);
    free(readers);
    return 0;
}

int fuse_end(const struct program *p, int reader)
{
    int first = reader;

    while (p->steps[first].grouped == 0)
        first--;
    return p->steps[first].group == GROUP_EACH ? reader : first + p->steps[first].grouped - 1;
}

int fuse_leaves(enum group group, int step, int steps)
{
    return group == GROUP_LINEARS || step == steps - 1;
}
