/* tool_tokenize.c - the tokenizer on a pipe, for tests/parity/test_tokenizer.py.
 *
 *     tool_tokenize FOLDER [auto] < requests > answers
 *
 * A request is a letter and the sizes it needs, then the data, all numbers little-endian 32 bits:
 *   e FLAG SIZE bytes   encode, FLAG: with special tokens    -> COUNT ids, or 0xFFFFFFFF SIZE
 * message d FLAG COUNT ids    decode, FLAG: skip special tokens    -> SIZE bytes s FLAG COUNT ids
 * the same, pushed one id at a time    -> SIZE bytes v                   size of the vocabulary ->
 * COUNT t ID                the raw token of an id               -> SIZE bytes (0xFFFFFFFF 0: none)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/tokenizer/tokenizer.h"

static uint32_t number(void)
{
    uint32_t value = 0;

    if (fread(&value, sizeof(value), 1, stdin) != 1)
        exit(2);
    return value;
}

static void put(uint32_t value)
{
    fwrite(&value, sizeof(value), 1, stdout);
}

static void put_bytes(const char *bytes, size_t size)
{
    put((uint32_t)size);
    if (size)
        fwrite(bytes, 1, size, stdout);
}

static void put_error(const struct error *err)
{
    put(0xFFFFFFFFu);
    put_bytes(err->text, strlen(err->text));
}

static void encode(const struct tokenizer *t)
{
    int special = (int)number();
    uint32_t size = number();
    char *text = malloc(size + 1);
    struct error err = {0};
    int64_t *ids = NULL;
    size_t count = 0, i;

    if (!text || fread(text, 1, size, stdin) != size)
        exit(2);
    if (tokenizer_encode(t, text, size, special, &ids, &count, &err)) {
        put_error(&err);
    } else {
        put((uint32_t)count);
        for (i = 0; i < count; i++)
            put((uint32_t)ids[i]);
    }
    free(ids);
    free(text);
}

static int push_all(const struct tokenizer *t, const int64_t *ids, size_t count, int skip,
                    struct buffer *out, struct error *err)
{
    struct tokenizer_stream stream = {0};
    size_t i;

    for (i = 0; i < count; i++)
        if (tokenizer_stream_push(t, &stream, ids[i], skip, out, err)) {
            tokenizer_stream_close(&stream);
            return -1;
        }
    return tokenizer_stream_finish(&stream, out, err);
}

static void decode(const struct tokenizer *t, int stream)
{
    int skip = (int)number(), rc;
    uint32_t count = number(), i;
    int64_t *ids = malloc((count + 1) * sizeof(*ids));
    struct buffer out = {0};
    struct error err = {0};

    if (!ids)
        exit(2);
    for (i = 0; i < count; i++)
        ids[i] = number();
    rc = stream ? push_all(t, ids, count, skip, &out, &err)
                : tokenizer_decode(t, ids, count, skip, &out, &err);
    if (rc)
        put_error(&err);
    else
        put_bytes(out.data, out.size);
    buffer_clear(&out);
    free(ids);
}

static void token(const struct tokenizer *t)
{
    const char *text = tokenizer_token(t, number());

    if (text) {
        put_bytes(text, strlen(text));
    } else {
        put(0xFFFFFFFFu);
        put(0);
    }
}

int main(int argc, char **argv)
{
    struct error err = {0};
    struct tokenizer *t;
    int c;

    if (argc != 2 && argc != 3) {
        fprintf(stderr, "usage: tool_tokenize FOLDER [auto]\n");
        return 2;
    }
    t = tokenizer_open(argv[1], argc == 3 ? TOKENIZER_AUTO : TOKENIZER_FILE, &err);
    if (!t) {
        fprintf(stderr, "%d %s\n", err.code, err.text);
        return 1;
    }
    while ((c = getchar()) != EOF) {
        if (c == 'e')
            encode(t);
        else if (c == 'd' || c == 's')
            decode(t, c == 's');
        else if (c == 'v')
            put((uint32_t)tokenizer_vocab_size(t));
        else if (c == 't')
            token(t);
    }
    tokenizer_close(t);
    return 0;
}
