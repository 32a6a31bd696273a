/* facts.c - see facts.h. */
#include "server/http/facts.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "server/base/version.h"
#include "server/http/json.h"

static char host[256];
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

struct fact {
    const char *key, *value;
};

static void collect(const struct engine *e, enum attention attention, struct fact facts[FACTS])
{
    pthread_once(&host_once, host_read);
    memcpy(facts,
           (struct fact[FACTS]){{"model", e->name},
                                {"family", e->family[attention]->name},
                                {"weights", e->digest},
                                {"numerics", numerics_name(e->backend->numerics)},
                                {"attention", attention_name(attention)},
                                {"device", e->backend->device},
                                {"isa", e->backend->isa},
                                {"host", host},
                                {"version", SAMEBIT_VERSION}},
           sizeof(struct fact[FACTS]));
}

void facts_json(struct buffer *out, const struct engine *e, enum attention attention)
{
    struct fact facts[FACTS];

    collect(e, attention, facts);
    for (int i = 0; i < FACTS; i++) {
        buffer_format(out, "\"%s\":", facts[i].key);
        json_put_name(out, facts[i].value);
        buffer_text(out, ",");
    }
    buffer_format(out, "\"threads\":%d", e->backend->threads);
}

int facts_metadata(json_t *object, const struct engine *e, enum attention attention)
{
    struct fact facts[FACTS];
    char threads[16];
    int rc = 0;

    collect(e, attention, facts);
    for (int i = 0; i < FACTS; i++)
        rc |= json_object_set_new(object, facts[i].key, json_string(facts[i].value));
    snprintf(threads, sizeof(threads), "%d", e->backend->threads);
    rc |= json_object_set_new(object, "threads", json_string(threads));
    return rc ? -1 : 0;
}
