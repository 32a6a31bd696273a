/* choose.c - see choose.h. */
#include "server/choose.h"

#include <stdarg.h>
#include <string.h>

#include "kernels/torch_host.h"

void choose_find(const struct options *o, struct host_numerics *found)
{
    struct host_facts facts;

    host_read(&facts);
    host_numerics(&facts, o->engine.device, found);
}

/* Whether the row found has PyTorch's bits under the attention that will be the default. */
static int has_attention(const struct options *o, const struct host_numerics *found)
{
    if (found->sdpa || o->engine.attention == ATTENTION_EAGER)
        return 1;
    return found->row->sdpa == SDPA_NONE && o->engine.attention == ATTENTION_COUNT;
}

/* ---- --numerics host ---- */

/* No row is chosen that differs from PyTorch here where a request asks for no more. */
static int refuse(const struct options *o, const struct host_numerics *found, struct error *err)
{
    if (!found->row)
        return error_param(
            err, 400, "numerics",
            "--numerics host: PyTorch's bits on this machine are those of no numerics "
            "(--which-numerics says why); the nearest is --numerics %s",
            found->nearest->name);
    if (!has_attention(o, found))
        return error_param(err, 400, "numerics",
                           "--numerics host: PyTorch's sdpa on this machine is that of no numerics "
                           "(--which-numerics says why); with --attention eager it is %s",
                           found->row->name);
    return 0;
}

/* ---- no --numerics ---- */

/* Adds to what is told at the start. */
__attribute__((format(printf, 2, 3))) static void note(struct options *o, const char *format, ...)
{
    const size_t used = strlen(o->notice);
    const char *between = used ? "; " : "";
    const size_t at = used + strlen(between);
    va_list args;

    if (at >= sizeof(o->notice))
        return;
    memcpy(o->notice + used, between, at - used + 1);
    va_start(args, format);
    vsnprintf(o->notice + at, sizeof(o->notice) - at, format, args);
    va_end(args);
    o->engine.notice = o->notice;
}

static void take_portable(struct options *o, struct host_numerics *found, const char *what)
{
    *found = (struct host_numerics){.row = numerics_at(0), .nearest = numerics_at(0)};
    note(o,
         "numerics %s, the portable one: no numerics has PyTorch's %s on this machine (samebitd "
         "--which-numerics says why)",
         found->row->name, what);
}

/* Makes *found what a machine gets whose operator asks for nothing. */
static void settle(struct options *o, struct host_numerics *found)
{
    if (found->portable)
        note(o, "numerics %s, the portable one: PyTorch's own bits on this device are not mirrored",
             found->row->name);
    else if (!found->row)
        take_portable(o, found, "bits");
    else if (!has_attention(o, found) && o->engine.attention != ATTENTION_COUNT)
        take_portable(o, found, "sdpa");
    else if (!found->sdpa && o->engine.attention == ATTENTION_COUNT) {
        o->engine.attention = ATTENTION_EAGER;
        note(
            o,
            "attention eager where a request names none: PyTorch's sdpa on this machine is that of "
            "no numerics, its eager that of %s (samebitd --which-numerics says why)",
            found->row->name);
    }
}

/* Where other numerics are named than those of this machine. */
static void note_others(struct options *o, const struct host_numerics *found)
{
    if (!found->portable && found->row && strcmp(found->row->name, o->engine.numerics->name) != 0)
        note(o,
             "PyTorch on this machine has other bits, those of numerics %s (samebitd "
             "--which-numerics says why)",
             found->row->name);
}

int choose_numerics(struct options *o, struct error *err)
{
    struct host_numerics found;

    choose_find(o, &found);
    if (o->engine.numerics) {
        note_others(o, &found);
        return 0;
    }
    if (o->host_numerics && refuse(o, &found, err))
        return -1;
    if (!o->host_numerics)
        settle(o, &found);
    o->engine.numerics = found.row;
    if (found.untried)
        note(o,
             "numerics %s on a CPU with other caches, or more of AMX, than was seen: ask PyTorch "
             "(samebitd --which-numerics --python PATH)",
             found.row->name);
    if (found.torch.threads && !o->engine.torch_threads)
        o->engine.torch_threads = (int)found.torch.threads;
    if (found.row->of_caches && !o->engine.torch_host) {
        o->torch_host = found.torch;
        o->engine.torch_host = &o->torch_host;
    }
    return 0;
}
