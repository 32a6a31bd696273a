/* target_files.c - files of strangers, as the daemon reads them. */
#include "tests/fuzz/targets.h"

#include "kernels/base/safetensors.h"
#include "server/model/family.h"
#include "server/model/hf_config.h"
#include "server/tokenizer/tokenizer.h"

int fuzz_safetensors(const uint8_t *data, size_t size)
{
    unsigned char *bytes = malloc(size + 1);
    struct error err = {0};
    struct safetensors *s;
    volatile unsigned sum = 0;

    memcpy(bytes, data, size);
    s = safetensors_open_memory("x", bytes, size, &err);
    fuzz_outcome(!s, &err);
    for (int i = 0; s && i < s->count; i++) {
        const struct safetensors_entry *e = &s->entries[i];

        for (uint64_t k = e->begin; k < e->end; k++)
            sum = sum + s->data[k];
        fuzz_demand(!e->supported || tensor_bytes(&e->tensor) == e->end - e->begin,
                    "bytes of its shape");
        fuzz_demand(safetensors_find(s, e->name) == e, "found by its name");
        tensor_is_contiguous(&e->tensor);
    }
    safetensors_close(s);
    free(bytes);
    return 0;
}

int fuzz_config(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct hf_config *c = hf_config_open(fuzz_folder("config.json", data, size), &err);
    struct rope_config rope = {0};
    int64_t ids[16], layers = 0;

    fuzz_outcome(!c, &err);
    if (!c)
        return 0;
    struct error none = {0}, wrong = {0};
    int rc = hf_config_rope(c, &rope, &wrong);

    fuzz_outcome(rc, &wrong);
    hf_config_eos(c, ids, 16);
    if (!hf_config_count(c, "num_hidden_layers", &layers, &none) && layers > 0)
        hf_config_layer_type(c, layers - 1);
    hf_config_close(c);
    return 0;
}

int fuzz_family(const uint8_t *data, size_t size)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/family.json", fuzz_folder("family.json", data, size));
    for (int a = 0; a < ATTENTION_COUNT; a++) {
        struct error err = {0};
        struct family *f = family_open(path, (enum attention)a, &err);

        fuzz_outcome(!f, &err);
        if (f)
            family_close(f);
    }
    return 0;
}

/* Ids of the text, and the text of the ids: at once and one by one alike. */
static void round_trip(const struct tokenizer *t, const char *text, size_t size)
{
    struct buffer whole = {0}, pieces = {0};
    struct tokenizer_stream stream = {0};
    struct error err = {0}, later = {0};
    int64_t *ids = NULL;
    size_t count = 0;
    int rc = tokenizer_encode(t, text, size, 1, &ids, &count, &err);

    fuzz_outcome(rc, &err);
    if (rc)
        return;
    rc = tokenizer_decode(t, ids, count, 0, &whole, &later);
    fuzz_outcome(rc, &later);
    for (size_t i = 0; !rc && i < count; i++)
        rc = tokenizer_stream_push(t, &stream, ids[i], 0, &pieces, &later);
    if (!rc) {
        tokenizer_stream_finish(&stream, &pieces, &later);
        fuzz_demand(whole.size == pieces.size &&
                        (!whole.size || !memcmp(whole.data, pieces.data, whole.size)),
                    "one by one as at once");
    }
    tokenizer_stream_close(&stream);
    buffer_clear(&whole);
    buffer_clear(&pieces);
    free(ids);
}

int fuzz_encode(const uint8_t *data, size_t size)
{
    static struct tokenizer *t;
    struct error err = {0};

    if (!t && fuzz_model())
        t = tokenizer_open(fuzz_model(), TOKENIZER_FILE, &err);
    if (t)
        round_trip(t, (const char *)data, size);
    return 0;
}

int fuzz_tokenizer(const uint8_t *data, size_t size)
{
    static const char text[] =
        "Hello, world! it's 123  \n\n x \xc3\xa9\xe4\xb8\xad <|endoftext|><s>";
    struct error err = {0};
    struct tokenizer *t =
        tokenizer_open(fuzz_folder("tokenizer.json", data, size), TOKENIZER_FILE, &err);

    fuzz_outcome(!t, &err);
    if (!t)
        return 0;
    round_trip(t, text, sizeof(text) - 1);
    tokenizer_token(t, -1);
    tokenizer_token(t, tokenizer_vocab_size(t));
    tokenizer_close(t);
    return 0;
}
