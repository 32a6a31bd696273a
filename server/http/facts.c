/* facts.c - see facts.h. */
#include "server/http/facts.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "kernels/base/version.h"
#include "kernels/torch_host.h"
#include "server/http/json.h"

static char host[256]; /* of the CPU */
static pthread_once_t host_once = PTHREAD_ONCE_INIT;

static void host_read(void)
{
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[1024];

    strcpy(host, "unknown CPU");
    while (f && fgets(line, sizeof(line), f)) {
        char *value = strchr(line, ':');

        if (strncmp(line, "model name", 10) == 0 && value && value[1]) {
            value[strcspn(value, "\n")] = '\0';
            snprintf(host, sizeof(host), "%.255s", value + 2);
            break;
        }
    }
    if (f)
        fclose(f);
}

enum { FACTS = 9 };

struct facts {
    struct fact {
        const char *key, *value;
    } at[FACTS];
    char host[600]; /* the CPU, and the GPU where it computes */
};

static void collect(const struct engine *e, enum attention attention, struct facts *facts)
{
    const char *gpu = e->backend->hardware;

    pthread_once(&host_once, host_read);
    snprintf(facts->host, sizeof(facts->host), "%s%s%s", host, gpu ? " + " : "", gpu ? gpu : "");
    memcpy(facts->at,
           (struct fact[FACTS]){{"model", e->name},
                                {"family", e->family[attention]->name},
                                {"weights", e->digest},
                                {"numerics", e->backend->numerics->name},
                                {"attention", attention_name(attention)},
                                {"device", e->backend->device},
                                {"isa", e->backend->isa},
                                {"host", facts->host},
                                {"version", SAMEBIT_VERSION}},
           sizeof(struct fact[FACTS]));
}

/* The threads of torch's that a result depends on; 0: on none. */
static int torch_threads(const struct engine *e, int64_t asked)
{
    if (!e->backend->numerics->of_host)
        return 0;
    return (int)(asked ? asked : e->backend->torch.threads);
}

void facts_json(struct buffer *out, const struct engine *e, enum attention attention, int64_t asked)
{
    char torch[TORCH_HOST_TEXT];
    struct facts facts;

    collect(e, attention, &facts);
    for (int i = 0; i < FACTS; i++) {
        buffer_format(out, "\"%s\":", facts.at[i].key);
        json_put_name(out, facts.at[i].value);
        buffer_text(out, ",");
    }
    buffer_format(out, "\"threads\":%d", e->backend->threads);
    if (torch_threads(e, asked))
        buffer_format(out, ",\"torch_threads\":%d", torch_threads(e, asked));
    if (!e->backend->numerics->of_caches)
        return;
    torch_host_print(&e->backend->torch, torch);
    buffer_format(out, ",\"torch_host\":\"%s\"", torch);
}

/* Whether there is something to say. */
static int notice(const struct engine *e, int64_t positions, char text[160])
{
    if (positions <= e->max_positions)
        return 0;
    snprintf(text, 160,
             "%lld positions are more than the model's max_position_embeddings of %lld, as "
             "transformers allows",
             (long long)positions, (long long)e->max_positions);
    return 1;
}

void facts_notice_json(struct buffer *out, const struct engine *e, int64_t positions)
{
    char text[160];

    if (!notice(e, positions, text))
        return;
    buffer_text(out, ",\"notice\":");
    json_put_name(out, text);
}

int facts_notice_metadata(json_t *object, const struct engine *e, int64_t positions)
{
    char text[160];

    return notice(e, positions, text) ? json_object_set_new(object, "notice", json_string(text))
                                      : 0;
}

int facts_metadata(json_t *object, const struct engine *e, enum attention attention, int64_t asked)
{
    struct facts facts;
    char threads[16], torch[TORCH_HOST_TEXT];
    int rc = 0;

    collect(e, attention, &facts);
    for (int i = 0; i < FACTS; i++)
        rc |= json_object_set_new(object, facts.at[i].key, json_string(facts.at[i].value));
    snprintf(threads, sizeof(threads), "%d", e->backend->threads);
    rc |= json_object_set_new(object, "threads", json_string(threads));
    snprintf(threads, sizeof(threads), "%d", torch_threads(e, asked));
    if (torch_threads(e, asked))
        rc |= json_object_set_new(object, "torch_threads", json_string(threads));
    torch_host_print(&e->backend->torch, torch);
    if (e->backend->numerics->of_caches)
        rc |= json_object_set_new(object, "torch_host", json_string(torch));
    return rc ? -1 : 0;
}
