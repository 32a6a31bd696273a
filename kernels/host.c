/* host.c - see host.h. */
#include "kernels/host.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "kernels/torch_host.h"

/* ---- what each of the three libraries would do ---- */

/* What computes the matrix products, by oneDNN's instruction set. */
enum products { PRODUCTS_ATEN, PRODUCTS_AVX512, PRODUCTS_BF16, PRODUCTS_AMX };

/* What decides, and whether it was seen to. */
struct choice {
    enum products products;
    int products_known;      /* 0: what the row of `products` has is only near */
    int lanes;               /* of ATen's vectors; 0: none that a row has */
    enum sdpa_products sdpa; /* SDPA_NONE: not known */
};

/* Where bits of the rows come from.  The rest is read from the rows. */
static const struct {
    enum products products;
    const char *name;
} rows[] = {
    {PRODUCTS_BF16, "torch-cpu/avx512_bf16"},
    {PRODUCTS_BF16, "torch-cpu/avx512_bf16,mkl=intel"},
    {PRODUCTS_BF16, "torch-cpu/avx512_bf16,mkl=amx"},
    {PRODUCTS_ATEN, "torch-cpu/avx2"},
    {PRODUCTS_ATEN, "torch-cpu/avx2,mkl=amx"},
    {PRODUCTS_AMX, "torch-cpu/amx_bf16"},
    {PRODUCTS_AVX512, "torch-cpu/avx512"},
};

__attribute__((format(printf, 2, 3))) static void say(struct host_numerics *out, const char *format,
                                                      ...)
{
    va_list args;

    if (out->reasons == HOST_REASONS)
        return;
    va_start(args, format);
    vsnprintf(out->reason[out->reasons++], HOST_REASON, format, args);
    va_end(args);
}

static int is_intel(const struct host_facts *f)
{
    return strcmp(f->vendor, "GenuineIntel") == 0;
}

static int is_amd(const struct host_facts *f)
{
    return strcmp(f->vendor, "AuthenticAMD") == 0;
}

static const char *maker(const struct host_facts *f)
{
    return is_intel(f) ? "Intel" : is_amd(f) ? "AMD" : f->vendor;
}

static int is_set(const char *variable)
{
    return variable && *variable;
}

/* ---- oneDNN: the products ---- */

enum isa { ISA_AVX2, ISA_NE_CONVERT, ISA_AVX512, ISA_BF16, ISA_FP16, ISA_AMX, ISA_ALL };

/* oneDNN (src/cpu/x64/cpu_isa_traits.cpp: init_max_cpu_isa): ONEDNN_ before DNNL_, in any case of
 * letters; a name that it does not know is no limit. */
static enum isa isa_limit(const struct host_facts *f, struct host_numerics *out)
{
    static const struct {
        const char *name;
        enum isa isa;
    } limits[] = {
        {"sse41", ISA_AVX2},
        {"avx", ISA_AVX2},
        {"avx2", ISA_AVX2},
        {"avx2_vnni", ISA_AVX2},
        {"avx2_vnni_2", ISA_NE_CONVERT},
        {"avx512_core", ISA_AVX512},
        {"avx512_core_vnni", ISA_AVX512},
        {"avx512_core_bf16", ISA_BF16},
        {"avx512_core_fp16", ISA_FP16},
        {"avx10_1_512", ISA_FP16},
        {"avx512_core_amx", ISA_AMX},
        {"avx10_1_512_amx", ISA_AMX},
    };
    const int own = is_set(f->onednn_max_cpu_isa);
    const char *text = own ? f->onednn_max_cpu_isa : f->dnnl_max_cpu_isa;

    for (size_t i = 0; is_set(text) && i < sizeof(limits) / sizeof(limits[0]); i++)
        if (strcasecmp(text, limits[i].name) == 0) {
            say(out, "%s=%.40s limits oneDNN", own ? "ONEDNN_MAX_CPU_ISA" : "DNNL_MAX_CPU_ISA",
                text);
            return limits[i].isa;
        }
    return ISA_ALL;
}

static struct torch_host torch_host_of(const struct host_facts *f)
{
    struct torch_host torch = torch_host_studied();

    torch.threads = host_torch_threads(f);
    torch.amx_fp16 = f->amx_fp16;
    if (!f->l1 || !f->l2)
        return torch;
    torch.l1 = f->l1;
    torch.l2 = f->l2;
    torch.l2_ways = f->l2_ways;
    torch.l2_sets = f->l2_sets;
    return torch;
}

/* Bits follow from the caches; only those of torch_host_studied() were seen. */
static void choose_amx(const struct host_facts *f, struct choice *c, struct host_numerics *out)
{
    const struct torch_host torch = torch_host_of(f);
    char text[TORCH_HOST_TEXT];

    c->products = PRODUCTS_AMX;
    c->products_known = f->l1 && f->l2;
    out->untried = c->products_known && !torch_host_is_studied(&torch);
    torch_host_print(&torch, text);
    if (!c->products_known)
        say(out,
            "products: oneDNN's for AMX, but CPUID names no caches: where it cuts sums then is "
            "not mirrored");
    else
        say(out, "products: oneDNN's for AMX, with %s%s", text,
            out->untried ? ", as its source has it: not seen on such a CPU" : "");
}

static void choose_avx512(const struct host_facts *f, struct choice *c, struct host_numerics *out)
{
    c->products = PRODUCTS_AVX512;
    c->products_known = is_intel(f);
    if (c->products_known)
        say(out, "products: oneDNN's for AVX512 without BF16, on an Intel CPU");
    else
        say(out, "products: oneDNN's for AVX512 without BF16, which no row mirrors on a CPU that "
                 "is not of "
                 "Intel");
}

static void choose_products(const struct host_facts *f, struct choice *c, struct host_numerics *out)
{
    const enum isa most = isa_limit(f, out);

    if (f->amx && most >= ISA_AMX) {
        choose_amx(f, c, out);
    } else if (f->avx512_fp16 && most >= ISA_FP16) {
        c->products = PRODUCTS_BF16;
        say(out, "products: oneDNN's for AVX512_FP16 without AMX, which no row mirrors");
    } else if (f->avx512_bf16 && most >= ISA_BF16) {
        c->products = PRODUCTS_BF16;
        c->products_known = 1;
        say(out, "products: oneDNN's for AVX512_BF16");
    } else if (f->avx512 && most >= ISA_AVX512) {
        choose_avx512(f, c, out);
    } else if (f->avx_ne_convert && most >= ISA_NE_CONVERT) {
        say(out, "products: oneDNN's for AVX_NE_CONVERT, which no row mirrors");
    } else {
        c->products_known = 1;
        say(out, "products: ATen's own loops, as oneDNN has no bf16 products without AVX512");
    }
}

/* ---- ATen: softmax and what is element by element ---- */

/* aten/src/ATen/native/DispatchStub.cpp: compute_cpu_capability.  It takes the variable at its word,
 * whatever the CPU has; a name that it does not know is ignored. */
static void choose_lanes(const struct host_facts *f, struct choice *c, struct host_numerics *out)
{
    const char *told = is_set(f->aten_cpu_capability) ? f->aten_cpu_capability : "";
    const int wide = strcmp(told, "avx512") == 0, narrow = strcmp(told, "avx2") == 0;

    if (strcmp(told, "default") == 0) {
        say(out,
            "softmax: ATEN_CPU_CAPABILITY=default: ATen without vectors, which no row mirrors");
    } else if (wide && !f->avx512) {
        say(out, "softmax: ATEN_CPU_CAPABILITY=avx512: PyTorch ends on this CPU, which has none");
    } else {
        c->lanes = f->avx512 && !narrow ? 16 : 8;
        say(out, "softmax: ATen's for %s%s", c->lanes == 16 ? "AVX512, 16 lanes" : "AVX2, 8 lanes",
            narrow ? " (ATEN_CPU_CAPABILITY=avx2)" : "");
    }
}

/* ---- MKL: the products inside sdpa ---- */

static enum sdpa_products sdpa_of(const struct host_facts *f)
{
    const char *told = is_set(f->mkl_enable_instructions) ? f->mkl_enable_instructions : NULL;

    if (is_set(f->mkl_cbwr))
        return SDPA_NONE;
    if (is_amd(f))
        return told ? SDPA_NONE : SDPA_MKL_AMD;
    if (!is_intel(f) || !f->avx512_bf16)
        return SDPA_NONE;
    if (told)
        return strcasecmp(told, "AVX512_E3") == 0 ? SDPA_MKL_INTEL : SDPA_NONE;
    if (f->amx)
        return f->amx_fp16 ? SDPA_NONE : SDPA_MKL_AMX;
    return f->avx512_fp16 ? SDPA_NONE : SDPA_MKL_INTEL;
}

static void choose_sdpa(const struct host_facts *f, struct choice *c, struct host_numerics *out)
{
    static const char *const kinds[SDPA_KINDS] = {[SDPA_MKL_AMD] = "of an AMD CPU",
                                                  [SDPA_MKL_INTEL] =
                                                      "of an Intel CPU with AVX512_BF16 and no AMX",
                                                  [SDPA_MKL_AMX] = "of an Intel CPU with AMX"};

    c->sdpa = sdpa_of(f);
    if (c->sdpa != SDPA_NONE)
        say(out, "sdpa: MKL's products %s%s", kinds[c->sdpa],
            is_set(f->mkl_enable_instructions) ? " (MKL_ENABLE_INSTRUCTIONS)" : "");
    else if (is_set(f->mkl_cbwr) || is_set(f->mkl_enable_instructions))
        say(out, "sdpa: MKL is told %s=%.40s: what it computes then is not known",
            is_set(f->mkl_cbwr) ? "MKL_CBWR" : "MKL_ENABLE_INSTRUCTIONS",
            is_set(f->mkl_cbwr) ? f->mkl_cbwr : f->mkl_enable_instructions);
    else
        say(out, "sdpa: what MKL computes on this CPU of %s is not known", maker(f));
}

/* ---- the row ---- */

/* 7: all that decides; the products weigh most, as most values come from them. */
static int closeness(const struct choice *c, enum products products, const struct numerics *row)
{
    return 4 * (products == c->products) + 2 * (row->lanes == c->lanes) +
           (c->sdpa != SDPA_NONE && row->sdpa == c->sdpa);
}

static void choose_row(const struct choice *c, struct host_numerics *out)
{
    int best = -1;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct numerics *row = numerics_find(rows[i].name);
        const int near = closeness(c, rows[i].products, row);

        if (near > best) {
            best = near;
            out->nearest = row;
        }
    }
    if (c->products_known && best >= 6)
        out->row = out->nearest;
    out->sdpa = out->row && best == 7;
}

static void choose_portable(struct host_numerics *out, const char *why)
{
    out->row = out->nearest = numerics_at(0);
    out->sdpa = out->portable = 1;
    say(out, "%s: the portable numerics, which is the same on every machine", why);
}

static void choose_by_cpu(const struct host_facts *f, struct host_numerics *out)
{
    struct choice c = {0};

    say(out, "a CPU of %s with %s%s", maker(f),
        f->amx           ? "AMX"
        : f->avx512_bf16 ? "AVX512_BF16"
        : f->avx512      ? "AVX512"
                         : "AVX2",
        f->amx || f->avx512_bf16 ? "" : " and no more of what PyTorch asks for");
    choose_products(f, &c, out);
    choose_lanes(f, &c, out);
    choose_sdpa(f, &c, out);
    choose_row(&c, out);
}

void host_numerics(const struct host_facts *facts, const char *device, struct host_numerics *out)
{
    *out = (struct host_numerics){0};
    if (strncmp(device, "cuda:", 5) == 0)
        choose_portable(out, "on a GPU");
    else if (facts->cpu == HOST_CPU_ARM)
        choose_portable(out, "what PyTorch computes on ARM is not known");
    else if (facts->cpu != HOST_CPU_X86 || !facts->avx2)
        choose_portable(out, "what PyTorch computes on a CPU without AVX2 is not known");
    else
        choose_by_cpu(facts, out);
    if (!out->nearest->of_caches)
        out->untried = 0;
    if (!out->nearest->of_host)
        return;
    out->torch = torch_host_of(facts);
    say(out, "bits depend on PyTorch's threads: by default it has %d here (%d cores)",
        (int)out->torch.threads, facts->cores);
}

/* ---- threads ---- */

/* The first number of "4,2"; 0: none that counts. */
static int read_count(const char *text)
{
    char *end;
    long n;

    if (!is_set(text))
        return 0;
    n = strtol(text, &end, 10);
    while (isspace((unsigned char)*end))
        end++;
    return (*end && *end != ',') || n < 0 || n > 1 << 20 ? 0 : (int)n;
}

/* PyTorch takes mkl_get_max_threads() (aten/src/ATen/ParallelOpenMP.cpp: init_num_threads), which is at
 * most the machine's physical cores, unless MKL_DYNAMIC forbids that. */
int host_torch_threads(const struct host_facts *f)
{
    const char *dynamic = is_set(f->mkl_dynamic) ? f->mkl_dynamic : "true";
    int n = read_count(f->mkl_num_threads);

    if (!n)
        n = read_count(f->omp_num_threads);
    if (!n)
        n = f->cpus;
    if (strcasecmp(dynamic, "false") == 0 || strcmp(dynamic, "0") == 0)
        return n;
    return n < f->cores ? n : f->cores;
}

/* ---- words ---- */

static void print_options(const struct host_numerics *h, FILE *to)
{
    char text[TORCH_HOST_TEXT];

    torch_host_print(&h->torch, text);
    fprintf(to, "  --numerics %s", h->nearest->name);
    if (h->torch.threads)
        fprintf(to, " --torch-threads %d", (int)h->torch.threads);
    if (h->nearest->of_caches && !torch_host_is_studied(&h->torch))
        fprintf(to, " --torch-host %s", text);
    fprintf(to, "%s\n", h->row && !h->sdpa ? " --attention eager" : "");
}

void host_print(const struct host_numerics *h, FILE *to)
{
    fprintf(to, "%s%s\n", h->row ? h->row->name : "none",
            h->row && !h->sdpa ? " (eager attention only)" : "");
    for (int i = 0; i < h->reasons; i++)
        fprintf(to, "  %s\n", h->reason[i]);
    fputs(h->portable ? "the same elsewhere:\n"
          : h->row    ? "the same bits elsewhere:\n"
                      : "PyTorch's bits here are those of no numerics; the nearest is:\n",
          to);
    print_options(h, to);
}
