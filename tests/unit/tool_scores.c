/* tool_scores.c - the logits processors on a pipe, for tests/parity/processors.py.
 *
 *     tool_scores NUMERICS < requests > answers
 *
 * A request is a line of JSON, {"config": fields of generation_config.h, "eos": [ids], "prompt": N,
 * "max_new_tokens": N, "ids": [ids], "vocab_size": N}, then vocab_size bf16 logits.  The answer is
 * vocab_size f32 scores and the token that was chosen, 64 bits. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/engine/logits_processor.h"

static int64_t number(const json_t *request, const char *key)
{
    return json_integer_value(json_object_get(request, key));
}

static int64_t *numbers(const json_t *list, int64_t *count)
{
    int64_t *out = calloc(json_array_size(list) + 1, sizeof(*out));

    *count = (int64_t)json_array_size(list);
    for (int64_t i = 0; i < *count; i++)
        out[i] = json_integer_value(json_array_get(list, (size_t)i));
    return out;
}

static int answer(const json_t *request, const struct numerics *numerics, struct error *err)
{
    struct generation_config config;
    struct logits_processor *p = NULL;
    const int64_t size = number(request, "vocab_size");
    bf16 *logits = calloc((size_t)size, sizeof(*logits));
    int64_t count, *ids = numbers(json_object_get(request, "ids"), &count), token;

    generation_config_init(&config, size);
    config.eos_token_id.at = numbers(json_object_get(request, "eos"), &config.eos_token_id.count);
    if (fread(logits, sizeof(*logits), (size_t)size, stdin) == (size_t)size &&
        !generation_config_read(&config, json_object_get(request, "config"), NULL, 1, err))
        p = logits_processor_create(&config, number(request, "prompt"),
                                    number(request, "max_new_tokens"), 0, numerics, err);
    if (p) {
        token = logits_processor_choose(p, ids, count, logits);
        fwrite(logits_processor_scores(p), sizeof(float), (size_t)size, stdout);
        fwrite(&token, sizeof(token), 1, stdout);
        fflush(stdout);
    }
    free(ids);
    free(logits);
    generation_config_clear(&config);
    logits_processor_free(p);
    return p ? 0 : -1;
}

int main(int argc, char **argv)
{
    const struct numerics *numerics = argc == 2 ? numerics_find(argv[1]) : NULL;
    char *line = NULL;
    size_t room = 0;
    struct error err = {0};

    while (numerics && getline(&line, &room, stdin) > 0) {
        json_t *request = json_loads(line, 0, NULL);
        const int rc = answer(request, numerics, &err);

        json_decref(request);
        if (rc) {
            fprintf(stderr, "tool_scores: %s\n", err.text);
            break;
        }
    }
    free(line);
    return !numerics || err.code;
}
