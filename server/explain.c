/* explain.c - see explain.h. */
#include "server/explain.h"

#include <stdlib.h>
#include <string.h>

#include "server/choose.h"
#include "server/torch.h"

enum { ROWS = 32 };

/* differing[p][r]: of probe p, elements of the torch's that row r has otherwise; -1: it has no such op. */
struct verdict {
    int64_t differing[PROBES][ROWS];
    int rows;
};

static struct torch_host host_of(const struct torch *t, const struct host_numerics *found)
{
    struct torch_host host = found->nearest->of_caches ? found->torch : torch_host_studied();

    host.threads = t->threads;
    return host;
}

static int64_t count_differing(const bf16 *a, const bf16 *b, int64_t n)
{
    int64_t differing = 0;

    for (int64_t i = 0; i < n; i++)
        differing += a[i] != b[i];
    return differing;
}

static int judge_probe(int probe, const struct torch *t, const struct torch_host *host,
                       struct verdict *v, struct error *err)
{
    const int64_t n = probe_count(probe);
    bf16 *own = calloc((size_t)n, sizeof(*own));
    int rc = own ? 0 : error_set(err, 500, "out of memory");

    for (int r = 0; r < v->rows && rc >= 0; r++) {
        rc = probe_compute(probe, numerics_at(r), host, own, err);
        v->differing[probe][r] = rc > 0 ? count_differing(own, t->result[probe], n) : -1;
    }
    free(own);
    return rc < 0 ? -1 : 0;
}

static int judge(const struct torch *t, const struct host_numerics *found, struct verdict *v,
                 struct error *err)
{
    const struct torch_host host = host_of(t, found);

    v->rows = 0;
    while (v->rows < ROWS && numerics_at(v->rows))
        v->rows++;
    for (int p = 0; p < PROBES; p++)
        if (judge_probe(p, t, &host, v, err))
            return -1;
    return 0;
}

/* Whether a row has the torch's bits in probes [first, end). */
static int fits(const struct verdict *v, int row, int first, int end)
{
    int differ = 0;

    for (int p = first; p < end; p++)
        differ |= v->differing[p][row] != 0;
    return !differ;
}

static int row_index(const struct numerics *row)
{
    int i = 0;

    while (numerics_at(i) != row)
        i++;
    return i;
}

/* ---- words ---- */

static void print_probe(const struct verdict *v, int probe, FILE *to)
{
    char name[PROBE_TEXT];
    const char *comma = "";

    probe_name(probe, name);
    fprintf(to, "  %-20s ", name);
    for (int r = 0; r < v->rows; r++)
        if (v->differing[probe][r] == 0) {
            fprintf(to, "%s%s", comma, numerics_at(r)->name);
            comma = "  ";
        }
    fprintf(to, "%s\n", *comma ? "" : "no numerics has these bits");
}

/* The rows that have all bits, or at least those of eager; returns whether there is one. */
static int print_rows(const struct verdict *v, int first, int end, const char *under, FILE *to)
{
    const char *comma = "";

    for (int r = 0; r < v->rows; r++)
        if (fits(v, r, first, end)) {
            fprintf(to, "%s%s", *comma ? comma : under, numerics_at(r)->name);
            comma = ", ";
        }
    fprintf(to, "%s", *comma ? "\n" : "");
    return *comma != '\0';
}

static void print_found(const struct verdict *v, FILE *to)
{
    if (print_rows(v, 0, PROBES, "these are the bits of ", to) ||
        print_rows(v, 0, PROBES_OF_EAGER, "these are, under eager alone, the bits of ", to))
        return;
    fputs("these are the bits of no numerics\n", to);
}

/* Whether the torch computes what was said of it. */
static int agrees(const struct host_numerics *found, const struct torch *t, const struct verdict *v,
                  FILE *to)
{
    const int row = found->row ? row_index(found->row) : -1;

    if (found->torch.threads && found->torch.threads != t->threads) {
        fprintf(to, "not as said: it has %d threads, not %d: --torch-threads %d\n", t->threads,
                (int)found->torch.threads, t->threads);
        return 0;
    }
    if (found->portable)
        return 1;
    if (row < 0) {
        for (int r = 0; r < v->rows; r++)
            if (fits(v, r, 0, PROBES_OF_EAGER)) {
                fputs("not as said: a numerics has these bits\n", to);
                return 0;
            }
        return 1;
    }
    if (fits(v, row, 0, found->sdpa ? PROBES : PROBES_OF_EAGER))
        return 1;
    fprintf(to, "not as said: other bits than those of %s\n", found->row->name);
    return 0;
}

static int compare(const struct options *o, const struct host_numerics *found, FILE *to,
                   struct error *err)
{
    struct torch t;
    struct verdict v;
    int agreed, rc = torch_ask(o->python, o->probe, &t, err);

    if (!rc)
        rc = judge(&t, found, &v, err);
    if (rc) {
        torch_clear(&t);
        return 2;
    }
    fprintf(to,
            "\n%s: PyTorch %s, CPU capability %s, %d threads; operations that it ran, and whose "
            "bits they are:\n",
            o->python, t.version, t.capability, t.threads);
    for (int p = 0; p < PROBES; p++)
        print_probe(&v, p, to);
    print_found(&v, to);
    agreed = agrees(found, &t, &v, to);
    if (strncmp(t.version, "2.13.0", 6) != 0)
        fputs("numerics are those of PyTorch 2.13.0: another may differ elsewhere\n", to);
    fputs(agreed ? "as said: they agree\n" : "", to);
    torch_clear(&t);
    return !agreed;
}

int explain_numerics(const struct options *o, FILE *to, struct error *err)
{
    struct host_numerics found;

    choose_find(o, &found);
    host_print(&found, to);
    fflush(to);
    return o->python ? compare(o, &found, to, err) : 0;
}
