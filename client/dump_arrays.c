/* dump_arrays.c - see dump_arrays.h. */
#include "client/dump_arrays.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void dump_arrays_clear(struct dump_arrays *a)
{
    for (int i = 0; i < a->count; i++) {
        free(a->at[i].name);
        free(a->at[i].owned);
    }
    free(a->at);
    json_decref(a->left_out);
    json_decref(a->metadata);
}

static int is_one_of(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(name, *names) == 0)
            return 1;
    return 0;
}

int dump_is_tokens(const char *name)
{
    static const char *const names[] = {"tokens",       "input_ids",  "token_ids",     "ids",
                                        "input_tokens", "inp_tokens", "prompt_tokens", NULL};

    return is_one_of(name, names);
}

/* Returns whether an array can become a tensor; of more than four axes those of one are removed, from the
 * left. */
static int usable(struct npy *a)
{
    for (int k = 0; k < a->rank && a->rank > TENSOR_MAX_RANK;)
        if (a->shape[k] == 1)
            memmove(a->shape + k, a->shape + k + 1, (size_t)(--a->rank - k) * sizeof(a->shape[0]));
        else
            k++;
    return a->rank <= TENSOR_MAX_RANK &&
           ((a->kind == 'f' && (a->size == 2 || a->size == 4 || a->size == 8)) ||
            ((a->kind == 'i' || a->kind == 'u') && a->size <= 8) ||
            (a->kind == 'V' && a->size == 2));
}

int dump_arrays_leave_out(struct dump_arrays *all, const char *name, size_t length,
                          const char *what, struct error *err)
{
    char *key = strndup(name, length);
    const int rc = key ? json_object_set_new(all->left_out, key, json_string(what)) : -1;

    free(key);
    return rc ? error_set(err, 400, "the name of an array is not UTF-8") : 0;
}

int dump_arrays_add(struct dump_arrays *all, const char *name, size_t length, struct npy npy,
                    void *owned, struct error *err)
{
    struct dump_array *more;
    char what[64];

    if (!usable(&npy)) {
        if (npy.size)
            snprintf(what, sizeof(what), "%c%d of %d axes", npy.kind, npy.size, npy.rank);
        else
            snprintf(what, sizeof(what), "%s", npy.kind == 'O' ? "Python objects" : "records");
        free(owned);
        return dump_arrays_leave_out(all, name, length, what, err);
    }
    if (all->count == all->room) {
        all->room = all->room ? 2 * all->room : 64;
        more = realloc(all->at, (size_t)all->room * sizeof(*more));
        if (!more) {
            free(owned);
            return error_set(err, 500, "out of memory");
        }
        all->at = more;
    }
    all->at[all->count] = (struct dump_array){strndup(name, length), npy, owned};
    return all->at[all->count++].name ? 0 : error_set(err, 500, "out of memory");
}
