/* target_http.c - what arrives over the network before it is JSON. */
#include "tests/fuzz/targets.h"

#include <fnmatch.h>

#include "kernels/base/glob.h"
#include "server/http/guard.h"
#include "server/http/head.h"
#include "server/http/inflate.h"

/* A part of a head is never something else than the whole of it turns out to be. */
static void check_prefix(const char *bytes, size_t size, const struct head *whole)
{
    struct head part;
    struct error err = {0};

    for (size_t n = 0; n < whole->bytes; n += 1 + n / 8)
        fuzz_demand(head_read(bytes, n, &part, &err) == HEAD_PARTIAL,
                    "a part of a good head is partial");
    fuzz_demand(head_read(bytes, size, &part, &err) == HEAD_WHOLE && part.bytes == whole->bytes,
                "the same again");
}

int fuzz_head(const uint8_t *data, size_t size)
{
    char *bytes = malloc(size + 1);
    struct error err = {0};
    struct head head;
    enum head_state state;

    memcpy(bytes, data, size);
    state = head_read(bytes, size, &head, &err);
    fuzz_outcome(state == HEAD_WRONG, &err);
    if (state == HEAD_WHOLE) {
        struct error chunk = {0};
        int end = head_chunks(bytes + head.bytes, size - head.bytes, &chunk);

        fuzz_demand(head.bytes <= size && *head.method, "a method, within the bytes");
        fuzz_demand(head_path(head.target, head.target_size) <= head.target_size,
                    "a path in its target");
        fuzz_demand(!(head.chunked && head.length >= 0), "one length");
        fuzz_demand(head_queries(head.target, head.target_size) >= 0, "a count");
        fuzz_outcome(end < 0, &chunk);
        check_prefix(bytes, size, &head);
    }
    free(bytes);
    return 0;
}

/* fnmatch reads no classes of ours, bytes that are no ASCII by locale, and a last backslash otherwise. */
static int is_comparable(const char *pattern, const char *text)
{
    const size_t n = strlen(pattern);

    for (const char *s = pattern; *s; s++)
        if ((signed char)*s < 0)
            return 0;
    for (const char *s = text; *s; s++)
        if ((signed char)*s < 0)
            return 0;
    return n && n < 40 && strlen(text) < 40 && pattern[n - 1] != '\\' && !strstr(pattern, "[:") &&
           !strstr(pattern, "[.") && !strstr(pattern, "[=") && !strpbrk(pattern, "[");
}

int fuzz_glob(const uint8_t *data, size_t size)
{
    char *bytes = calloc(1, size + 2);
    const char *pattern = bytes, *text;
    int fits;

    memcpy(bytes, data, size);
    text = pattern + strlen(pattern) + 1;
    fits = glob_matches(pattern, text);
    if (is_comparable(pattern, text))
        fuzz_demand(fits == !fnmatch(pattern, text, 0), "as fnmatch");
    if (!glob_is_pattern(pattern))
        fuzz_demand(fits == !strcmp(pattern, text), "no pattern fits itself alone");
    free(bytes);
    return 0;
}

int fuzz_inflate(const uint8_t *data, size_t size)
{
    static const char *const encodings[] = {"gzip", "deflate", "identity", "br"};
    struct buffer body = {0};
    struct error err = {0};
    int rc;

    if (!size)
        return 0;
    buffer_append(&body, data + 1, size - 1);
    rc = inflate_body(&body, encodings[data[0] & 3], 1 << 20, &err);
    fuzz_outcome(rc, &err);
    fuzz_demand(rc || body.size <= 1 << 20 || (data[0] & 3) == 2, "no more than allowed");
    buffer_clear(&body);
    return 0;
}

int fuzz_tokens(const uint8_t *data, size_t size)
{
    struct guard_rules rules = {0};
    struct head head;
    struct error err = {0}, refused = {0};
    char path[128], who[64];
    struct guard *g;

    snprintf(path, sizeof(path), "%s/tokens", fuzz_folder("tokens", data, size));
    chmod(path, 0600);
    rules.tokens = path;
    g = guard_create(&rules, &err);
    fuzz_outcome(!g, &err);
    if (!g)
        return 0;
    head_begin(&head);
    fuzz_demand(guard_check(g, &head, "/v1/model", "", who, &refused) < 0 && refused.code == 401,
                "none");
    refused = (struct error){0};
    fuzz_demand(guard_check(g, &head, "/v1/model", "Bearer ", who, &refused) < 0, "an empty one");
    guard_free(g);
    return 0;
}
