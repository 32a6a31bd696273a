/* options.c - see options.h. */
#include "server/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/torch_host.h"

static const char help[] =
    "usage: samebitd --model FOLDER [option ...]\n"
    "\n"
    "Serves a Hugging Face folder over HTTP: text, logits, and any value inside the model, with\n"
    "PyTorch's own bits.\n"
    "\n"
    "  --model FOLDER       config.json, *.safetensors, tokenizer.json; or an entry of the hub's "
    "cache\n"
    "  --listen ADDRESS     127.0.0.1:8642 or [::1]:8642; port 0 takes any free one.  unix:PATH "
    "for\n"
    "                       this user alone, unix:PATH,mode=660 for its group.  Any other than a\n"
    "                       loopback address must be given here, not in the configuration, with\n"
    "                       --token-file or --insecure\n"
    "  --token-file FILE    a line NAME TOKEN for each who may ask (Authorization: Bearer TOKEN);\n"
    "                       SIGHUP reads it again\n"
    "  --tls-cert FILE      HTTPS with this certificate and\n"
    "  --tls-key FILE       its key, in PEM; SIGHUP reads them again\n"
    "  --insecure           anybody who reaches the address may ask\n"
    "  --config FILE        limits (configs/server.json); SIGHUP reads it again\n"
    "  --families FOLDER    the architectures it knows (configs/families)\n"
    "  --numerics NAME      whose bits (see below); host (default): those of PyTorch on this very "
    "machine\n"
    "  --which-numerics     says which numerics that is, and why, and ends; with\n"
    "  --python PATH        a Python that has torch, asks it too, and says whether they agree\n"
    "  --attention NAME     sdpa (default) or eager (the default where PyTorch's sdpa is not "
    "mirrored):\n"
    "                       where a request names none\n"
    "  --tokenizer NAME     file (default): the ids of tokenizer.json; auto: of transformers' "
    "AutoTokenizer\n"
    "  --device NAME        cpu (default), or cuda:0, cuda:1, ... of a build with CUDA\n"
    "  --isa NAME           avx512_bf16, avx2 or plain (ARM: neon or plain): by which of the "
    "cpu's\n"
    "                       instructions, with equal bits; the environment's SAMEBIT_ISA where it "
    "is "
    "not\n"
    "                       given, else the best\n"
    "  --threads N          the cpu's threads of one product (default: one per core)\n"
    "  --torch-threads N    torch.get_num_threads() of the machine whose bits these are, where a "
    "request\n"
    "                       names none: for numerics whose bits depend on it (amx_bf16, avx512)\n"
    "  --torch-host FACTS   and of amx_bf16 its caches (of a core): "
    "l1=48K,l2=2M,l2_ways=16,amx_fp16=0\n"
    "  --verbose            one line per request on stderr\n"
    "  --help, --version\n";

void options_help(FILE *to)
{
    const struct numerics *n;

    fputs(help, to);
    fputs("\nnumerics:\n", to);
    for (int i = 0; (n = numerics_at(i)); i++)
        fprintf(to, "  %-31s  %s%s%s\n", n->name, n->about, i == 0 ? " (portable)" : "",
                n->devices == DEVICE_CUDA  ? "; --device cuda:N"
                : n->devices == DEVICE_CPU ? "; --device cpu"
                                           : "");
}

enum {
    CONFIG = 1,
    FAMILIES,
    LISTEN,
    THREADS,
    TORCH_THREADS,
    NUMERICS,
    ATTENTION,
    PYTHON,
    TORCH_HOST,
    TOKENIZER,
    DEVICE,
    ISA,
    MODEL
};
enum { TOKENS = 100, CERTIFICATE, KEY };

static int read_threads(const char *name, const char *text, int most, int *out, struct error *err)
{
    char *end;
    long n = strtol(text, &end, 10);

    if (*end || !*text || n < 1 || n > most)
        return error_param(err, 400, name, "--%s '%.40s': 1 to %d is expected", name, text, most);
    *out = (int)n;
    return 0;
}

static int read_numerics(const char *text, const struct numerics **out, struct error *err)
{
    char names[512] = "";
    const struct numerics *row;

    *out = numerics_find(text);
    if (*out)
        return 0;
    for (int i = 0; (row = numerics_at(i)); i++) {
        size_t n = strlen(names);

        snprintf(names + n, sizeof(names) - n, "%s%s", i ? ", " : "", row->name);
    }
    return error_param(err, 400, "numerics", "--numerics '%.100s' is not known; known are: %s",
                       text, names);
}

static int read_tokenizer(const char *text, enum tokenizer_ids *out, struct error *err)
{
    *out = strcmp(text, "auto") ? TOKENIZER_FILE : TOKENIZER_AUTO;
    if (*out == TOKENIZER_AUTO || !strcmp(text, "file"))
        return 0;
    return error_param(err, 400, "tokenizer",
                       "--tokenizer '%.100s' is not known; known are: file, auto", text);
}

static int read_option(int which, const char *text, struct options *out, struct error *err)
{
    switch (which) {
    case MODEL:
        out->engine.folder = text;
        return 0;
    case CONFIG:
        out->config = text;
        return 0;
    case FAMILIES:
        out->engine.families = text;
        return 0;
    case LISTEN:
        out->listen = text;
        return 0;
    case TOKENS:
        out->tokens = text;
        return 0;
    case CERTIFICATE:
        out->certificate = text;
        return 0;
    case KEY:
        out->key = text;
        return 0;
    case DEVICE:
        out->engine.device = text;
        return 0;
    case ISA:
        out->engine.isa = text;
        return 0;
    case THREADS:
        return read_threads("threads", text, 4096, &out->engine.threads, err);
    case TORCH_THREADS:
        return read_threads("torch-threads", text, TORCH_THREADS_MOST, &out->engine.torch_threads,
                            err);
    case TORCH_HOST:
        out->engine.torch_host = &out->torch_host;
        return torch_host_read(text, &out->torch_host, err);
    case PYTHON:
        out->python = text;
        return 0;
    case TOKENIZER:
        return read_tokenizer(text, &out->engine.tokenizer, err);
    case NUMERICS:
        out->host_numerics = strcmp(text, "host") == 0;
        out->engine.numerics = NULL;
        return out->host_numerics ? 0 : read_numerics(text, &out->engine.numerics, err);
    default:
        return attention_read(text, &out->engine.attention, err) ? error_prefix(err, "--") : 0;
    }
}

/* PATH in the working directory, or beside the folders above the program.  NULL: nowhere. */
static const char *look_up(const char *path, char *out, size_t size)
{
    char self[3072];
    ssize_t n;

    if (access(path, R_OK) == 0)
        return path;
    n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    for (int up = 0; n > 0 && up < 3; up++) {
        self[n] = '\0';
        *strrchr(self, '/') = '\0';
        n = (ssize_t)strlen(self);
        snprintf(out, size, "%s/%s", self, path);
        if (access(out, R_OK) == 0)
            return out;
    }
    return NULL;
}

static void set_defaults(struct options *o)
{
    if (o->python)
        o->probe = look_up("configs/probe_torch.py", o->probe_found, sizeof(o->probe_found));
    if (o->python && !o->probe)
        o->probe = "configs/probe_torch.py"; /* so that the error names it */
    if (!o->config)
        o->config = look_up("configs/server.json", o->config_found, sizeof(o->config_found));
    if (!o->engine.families)
        o->engine.families =
            look_up("configs/families", o->families_found, sizeof(o->families_found));
    if (!o->engine.families)
        o->engine.families = "configs/families"; /* so that the error names it */
}

int options_parse(int argc, char **argv, struct options *out, struct error *err)
{
    const struct option known[] = {{"model", required_argument, NULL, MODEL},
                                   {"config", required_argument, NULL, CONFIG},
                                   {"families", required_argument, NULL, FAMILIES},
                                   {"listen", required_argument, NULL, LISTEN},
                                   {"token-file", required_argument, NULL, TOKENS},
                                   {"tls-cert", required_argument, NULL, CERTIFICATE},
                                   {"tls-key", required_argument, NULL, KEY},
                                   {"insecure", no_argument, &out->insecure, 1},
                                   {"threads", required_argument, NULL, THREADS},
                                   {"torch-threads", required_argument, NULL, TORCH_THREADS},
                                   {"torch-host", required_argument, NULL, TORCH_HOST},
                                   {"python", required_argument, NULL, PYTHON},
                                   {"numerics", required_argument, NULL, NUMERICS},
                                   {"attention", required_argument, NULL, ATTENTION},
                                   {"tokenizer", required_argument, NULL, TOKENIZER},
                                   {"device", required_argument, NULL, DEVICE},
                                   {"isa", required_argument, NULL, ISA},
                                   {"verbose", no_argument, &out->verbose, 1},
                                   {"help", no_argument, &out->help, 1},
                                   {"version", no_argument, &out->version, 1},
                                   {"which-numerics", no_argument, &out->which_numerics, 1},
                                   {NULL, 0, NULL, 0}};
    int which;

    memset(out, 0, sizeof(*out));
    out->engine.device = "cpu";
    out->torch_host = torch_host_studied();
    out->engine.attention = ATTENTION_COUNT;
    opterr = 0;
    while ((which = getopt_long(argc, argv, ":", known, NULL)) != -1) {
        if (which == '?' || which == ':')
            return error_set(err, 400,
                             which == ':' ? "%s needs a value" : "%s is no option; see --help",
                             argv[optind - 1]);
        if (which && read_option(which, optarg, out, err))
            return -1;
    }
    if (optind < argc)
        return error_set(err, 400, "'%.100s' is no option; see --help", argv[optind]);
    if (out->python && !out->which_numerics)
        return error_set(err, 400, "--python belongs to --which-numerics");
    set_defaults(out);
    if (out->help || out->version || out->which_numerics)
        return 0;
    if (!out->engine.folder)
        return error_set(err, 400, "--model FOLDER is missing; see --help");
    if (!out->certificate != !out->key)
        return error_set(err, 400, "--tls-cert and --tls-key belong together");
    return 0;
}
