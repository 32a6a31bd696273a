/* test_weights.c - single files and shards, conversion to bf16, and the digest. */
#include "tests/unit/scratch.h"

#include <math.h>
#include <openssl/sha.h>

#include "kernels/base/bf16.h"
#include "kernels/base/float16.h"
#include "kernels/base/safetensors.h"
#include "server/model/weights.h"

#define INDEX "model.safetensors.index.json"

/* Writes a file of these tensors whose data is `bytes`. */
static void write_file(const char *name, const struct safetensors_spec *specs, int count,
                       const void *bytes, size_t size)
{
    struct buffer out = {0};

    assert_int_equal(safetensors_header(&out, specs, count, NULL, NULL), 0);
    buffer_append(&out, bytes, size);
    assert_false(out.failed);
    scratch_write(name, out.data, out.size);
    buffer_clear(&out);
}

static int empty_folder(void **state)
{
    return scratch_remove(state) || mkdir(scratch, 0700);
}

static void refuse(const char *says)
{
    struct error err = {0};

    assert_null(weights_open(scratch, &err));
    assert_int_equal(err.code, 400);
    assert_contains(err.text, scratch);
    assert_contains(err.text, says);
}

static void test_bf16_stays_mapped(void **state)
{
    const struct safetensors_spec specs[] = {{"model.b", DTYPE_BF16, 2, {2, 2}},
                                             {"a", DTYPE_BF16, 1, {3}}};
    const uint16_t data[] = {1, 2, 3, 4, 5, 6, 7};
    const char *first = NULL;
    const struct tensor *t;
    struct weights *w;

    (void)state;
    write_file("model.safetensors", specs, 2, data, sizeof(data));
    w = weights_open(scratch, NULL);
    assert_non_null(w);
    assert_int_equal(weights_count(w), 2);
    assert_int_equal(weights_bytes(w), 14);
    t = weights_find(w, "model.b", NULL);
    assert_int_equal(t->rank, 2);
    assert_int_equal(t->stride[0], 2);
    assert_memory_equal(t->data, data, 8);
    assert_ptr_equal(weights_find(w, "model.b", NULL), t);
    assert_ptr_equal(weights_find(w, "b", NULL), t);
    assert_null(weights_find(w, "x.b", NULL));
    assert_int_equal(weights_unused(w, &first), 1);
    assert_string_equal(first, "a");
    assert_memory_equal(weights_find(w, "model.a", NULL)->data, data + 4, 6);
    assert_int_equal(weights_unused(w, &first), 0);
    assert_null(weights_find(w, "model.c", NULL));
    weights_release(w, t);
    assert_memory_equal(t->data, data, 8);
    weights_close(w);
}

/* Bits of every f16 as a float, from what an f16 is. */
static float f16_value(unsigned h)
{
    int exponent = (int)(h >> 10 & 31);
    float fraction = (float)(h & 0x3ff), value;

    if (exponent == 31)
        value = h & 0x3ff ? NAN : INFINITY;
    else
        value = exponent ? ldexpf(1024 + fraction, exponent - 25) : ldexpf(fraction, -24);
    return h & 0x8000 ? -value : value;
}

static void test_every_f16(void **state)
{
    const struct safetensors_spec spec = {"t", DTYPE_F16, 1, {65536}};
    uint16_t *data = malloc(65536 * 2);
    const struct tensor *t;
    const bf16 *got;
    struct weights *w;

    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        float value = f16_value(h), made = f32_from_f16((uint16_t)h);

        data[h] = (uint16_t)h;
        assert_true(isnan(value) ? isnan(made) : f32_bits(value) == f32_bits(made));
    }
    write_file("model.safetensors", &spec, 1, data, 65536 * 2);
    w = weights_open(scratch, NULL);
    t = weights_find(w, "t", NULL);
    assert_int_equal(t->dtype, DTYPE_BF16);
    got = t->data;
    for (unsigned h = 0; h < 65536; h++)
        assert_int_equal(got[h], bf16_from_f32(f16_value(h)));
    assert_int_equal(got[0x3c00], 0x3f80);
    assert_int_equal(got[0x7c01], 0x7fc0);
    assert_int_equal(got[0xfc00], 0xff80);
    assert_int_equal(got[0x0001], 0x3380);
    weights_release(w, t);
    assert_ptr_equal(weights_find(w, "t", NULL), t);
    assert_int_equal(((const bf16 *)t->data)[0x3c00], 0x3f80);
    weights_close(w);
    free(data);
}

static void test_f32_rounds_to_nearest_even(void **state)
{
    static const struct {
        uint32_t from;
        bf16 to;
    } cases[] = {
        {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81}, {0x3f807fff, 0x3f80},
        {0x7f7fffff, 0x7f80}, {0xff7f7fff, 0xff7f}, {0x00000001, 0x0000}, {0x00008001, 0x0001},
        {0x80018000, 0x8002}, {0x7f800001, 0xffff}, {0x7fffffff, 0xffff}, {0x7f800000, 0x7f80},
        {0x80000000, 0x8000},
    };
    enum { COUNT = sizeof(cases) / sizeof(cases[0]) };
    const struct safetensors_spec spec = {"t", DTYPE_F32, 1, {COUNT}};
    uint32_t data[COUNT];
    struct weights *w;

    (void)state;
    for (int i = 0; i < COUNT; i++)
        data[i] = cases[i].from;
    write_file("model.safetensors", &spec, 1, data, sizeof(data));
    w = weights_open(scratch, NULL);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(((const bf16 *)weights_find(w, "t", NULL)->data)[i], cases[i].to);
    weights_close(w);
}

/* What conversion_golden.py has made of the same numbers with PyTorch. */
static const char f16_golden[] = "37de2c9beecc2633296c26c38c769266445dbdb118bf655d177cddbd3e73914c";
static const char f32_golden[] = "e61edebfd74492a7ae150a6a8efc168803ba2979ce9380b64c7d921cc8c076e5";

static uint32_t conversion_source(uint64_t *state, int i)
{
    uint64_t z = next_random(state);
    uint32_t bits = (uint32_t)z;

    if (i % 3 == 0)
        bits = (bits & 0xffff0000u) | (0x7fffu + (uint32_t)(z >> 32) % 3);
    if (i % 14 == 0)
        bits &= 0x807fffffu;
    if (i % 14 == 7)
        bits |= 0x7f800000u;
    return bits;
}

static void assert_converts_to(enum dtype dtype, int64_t count, const void *data,
                               const char *golden)
{
    const struct safetensors_spec spec = {"t", dtype, 1, {count}};
    unsigned char hash[32];
    char hex[65];
    struct weights *w;

    write_file("model.safetensors", &spec, 1, data, (size_t)count * dtype_size(dtype));
    w = weights_open(scratch, NULL);
    SHA256(weights_find(w, "t", NULL)->data, (size_t)count * 2, hash);
    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    assert_string_equal(hex, golden);
    weights_close(w);
}

static void test_conversion_is_that_of_pytorch(void **state)
{
    enum { HALVES = 1 << 16, FLOATS = 1 << 20 };
    uint16_t *halves = malloc(HALVES * sizeof(*halves));
    uint32_t *floats = malloc(FLOATS * sizeof(*floats));
    uint64_t random = 1;

    (void)state;
    for (int i = 0; i < HALVES; i++)
        halves[i] = (uint16_t)i;
    for (int i = 0; i < FLOATS; i++)
        floats[i] = conversion_source(&random, i);
    assert_converts_to(DTYPE_F16, HALVES, halves, f16_golden);
    assert_converts_to(DTYPE_F32, FLOATS, floats, f32_golden);
    free(halves);
    free(floats);
}

/* A header that is not padded leaves bf16 data at an odd address. */
static void test_unaligned_data(void **state)
{
    static const char *const headers[] = {
        "{\"t\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}",
        "{\"t\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}} "};

    (void)state;
    for (int i = 0; i < 2; i++) {
        uint64_t length = strlen(headers[i]);
        struct buffer file = {0};
        struct weights *w;

        buffer_append(&file, &length, 8);
        buffer_text(&file, headers[i]);
        buffer_append(&file, "abcd", 4);
        scratch_write("model.safetensors", file.data, file.size);
        w = weights_open(scratch, NULL);
        assert_int_equal((uintptr_t)weights_find(w, "t", NULL)->data % 2, 0);
        assert_memory_equal(weights_find(w, "t", NULL)->data, "abcd", 4);
        weights_close(w);
        buffer_clear(&file);
    }
}

static void test_dtype_that_cannot_be_a_weight(void **state)
{
    const struct safetensors_spec spec = {"ids", DTYPE_I64, 1, {1}};
    struct error err = {0};
    struct weights *w;

    (void)state;
    write_file("model.safetensors", &spec, 1, "12345678", 8);
    w = weights_open(scratch, NULL);
    assert_null(weights_find(w, "ids", &err));
    assert_contains(err.text, "model.safetensors: tensor 'ids' is of dtype I64: quantized");
    weights_close(w);
}

/* ---- shards ---- */

static const struct safetensors_spec first[] = {{"a", DTYPE_BF16, 1, {1}},
                                                {"d", DTYPE_F32, 1, {1}}};
static const struct safetensors_spec second[] = {{"b", DTYPE_BF16, 1, {2}},
                                                 {"c", DTYPE_BF16, 0, {0}}};

static void write_shards(void)
{
    write_file("one.safetensors", first, 2, "aadddd", 6);
    write_file("two.safetensors", second, 2, "bbBBcc", 6);
}

static void test_shards(void **state)
{
    struct weights *w;

    (void)state;
    write_shards();
    scratch_text(INDEX, "{\"metadata\":{\"total_size\":1},\"weight_map\":{"
                        "\"a\":\"one.safetensors\",\"b\":\"two.safetensors\","
                        "\"d\":\"one.safetensors\"}}");
    w = weights_open(scratch, NULL);
    assert_non_null(w);
    assert_int_equal(weights_count(w), 4); /* c too: shards are read whole */
    assert_memory_equal(weights_find(w, "b", NULL)->data, "bbBB", 4);
    assert_memory_equal(weights_find(w, "c", NULL)->data, "cc", 2);
    weights_close(w);
}

static void test_a_single_file_wins(void **state)
{
    struct weights *w;

    (void)state;
    write_shards();
    scratch_text(INDEX, "no JSON at all");
    write_file("model.safetensors", second, 2, "bbBBcc", 6);
    w = weights_open(scratch, NULL);
    assert_int_equal(weights_count(w), 2);
    weights_close(w);
}

static void test_broken_indexes(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", INDEX},
        {"[]", "not a JSON object"},
        {"{", "line 1"},
        {"{}", "weight_map: missing"},
        {"{\"weight_map\":{}}", "weight_map: missing"},
        {"{\"weight_map\":[\"a\"]}", "weight_map: missing"},
        {"{\"weight_map\":{\"a\":1}}", "weight_map: a: '?' is not a file name"},
        {"{\"weight_map\":{\"a\":\"\"}}", "weight_map: a: '' is not a file name"},
        {"{\"weight_map\":{\"a\":\"../one.safetensors\"}}", "is not a file name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "is not a file name"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "is not a file name"},
        {"{\"weight_map\":{\"a\":\"x/one.safetensors\"}}", "is not a file name"},
        {"{\"weight_map\":{\"a\":\"no.safetensors\"}}", "weight_map: a: "},
        {"{\"weight_map\":{\"a\":\"no.safetensors\"}}", "no.safetensors: No such file"},
        {"{\"weight_map\":{\"a\":\"" INDEX "\"}}", "header of "},
    };

    (void)state;
    write_shards();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        scratch_text(INDEX, cases[i].text);
        refuse(cases[i].says);
    }
}

/* transformers reads every file that the map names, whatever it says of the tensors in them, and of
 * a tensor that is in two files keeps the one of the later name. */
static void test_index_names_wrong_files(void **state)
{
    const struct safetensors_spec twin[] = {{"a", DTYPE_BF16, 1, {1}}, {"e", DTYPE_BF16, 1, {1}}};
    struct weights *w;
    const struct tensor *t;

    (void)state;
    write_shards();
    write_file("twin.safetensors", twin, 2, "AAee", 4);
    scratch_text(INDEX, "{\"weight_map\":{\"a\":\"two.safetensors\",\"buffer\":\"one.safetensors\","
                        "\"b\":\"twin.safetensors\"}}");
    w = weights_open(scratch, NULL);
    assert_non_null(w);
    assert_int_equal(weights_count(w), 5);
    t = weights_find(w, "a", NULL);
    assert_non_null(t);
    assert_memory_equal(t->data, "AA", 2);
    assert_non_null(weights_find(w, "b", NULL));
    assert_null(weights_find(w, "buffer", NULL));
    weights_close(w);
}

/* What lies in the place of a checkpoint is named, with what to do. */
static void test_files_of_other_kinds(void **state)
{
    static const struct {
        const char *bytes, *says;
    } cases[] = {{"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"},
                 {"<!DOCTYPE html><html>", "an HTML page"},
                 {"GGUF12345678", "a GGUF file"},
                 {"PK\003\004abcdefgh", "a zip archive"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        scratch_text("model.safetensors", cases[i].bytes);
        refuse(cases[i].says);
    }
}

static void test_other_checkpoints(void **state)
{
    (void)state;
    scratch_text("adapter_model.safetensors", "x");
    refuse("an adapter (LoRA) without its model");
    scratch_text("pytorch_model.bin", "x");
    refuse("pytorch_model.bin is a pickle");
    refuse("save_pretrained('.')");
}

static void test_no_checkpoint(void **state)
{
    (void)state;
    refuse("neither model.safetensors nor " INDEX);
    assert_int_equal(mkdir(scratch_path("model.safetensors"), 0700), 0);
    refuse("neither model.safetensors nor " INDEX);
}

static void test_truncated_checkpoint(void **state)
{
    (void)state;
    write_file("model.safetensors", second, 2, "bbBB", 4);
    refuse("model.safetensors: tensor 'c': data ends at 6, the file holds 4");
}

/* ---- digest ---- */

static void digest_of(char out[65])
{
    struct weights *w = weights_open(scratch, NULL);

    assert_non_null(w);
    assert_int_equal(weights_digest(w, out, NULL, NULL, NULL), 0);
    weights_close(w);
}

static void test_digest(void **state)
{
    static const char said[] = "a\0BF16\0"
                               "1\0aa"
                               "b\0BF16\0"
                               "2\0bbBB"
                               "c\0BF16\0\0cc"
                               "d\0F32\0"
                               "1\0dddd";
    const struct safetensors_spec all[] = {second[0], first[1], second[1], first[0]};
    unsigned char hash[32];
    char sharded[65], single[65], expected[65];

    (void)state;
    write_shards();
    scratch_text(INDEX, "{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}");
    digest_of(sharded);
    write_file("model.safetensors", all, 4, "bbBBddddccaa", 12);
    digest_of(single);
    SHA256((const unsigned char *)said, sizeof(said) - 1, hash);
    for (int i = 0; i < 32; i++)
        snprintf(expected + 2 * i, 3, "%02x", hash[i]);
    assert_string_equal(single, expected);
    assert_string_equal(sharded, expected);
    write_file("model.safetensors", all, 4, "bbBBddddccab", 12);
    digest_of(single);
    assert_string_not_equal(single, expected);
}

static void count_progress(void *user, uint64_t done, uint64_t all)
{
    uint64_t *last = user;

    assert_in_range(done, *last + 1, all);
    *last = done;
}

static void test_digest_progress(void **state)
{
    uint64_t last = 0;
    char out[65];
    struct weights *w;

    (void)state;
    write_file("model.safetensors", second, 2, "bbBBcc", 6);
    w = weights_open(scratch, NULL);
    assert_int_equal(weights_digest(w, out, count_progress, &last, NULL), 0);
    assert_int_equal(last, weights_bytes(w));
    weights_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bf16_stays_mapped),
        cmocka_unit_test(test_every_f16),
        cmocka_unit_test(test_f32_rounds_to_nearest_even),
        cmocka_unit_test(test_conversion_is_that_of_pytorch),
        cmocka_unit_test(test_unaligned_data),
        cmocka_unit_test(test_dtype_that_cannot_be_a_weight),
        cmocka_unit_test_setup(test_shards, empty_folder),
        cmocka_unit_test_setup(test_a_single_file_wins, empty_folder),
        cmocka_unit_test_setup(test_broken_indexes, empty_folder),
        cmocka_unit_test_setup(test_index_names_wrong_files, empty_folder),
        cmocka_unit_test_setup(test_files_of_other_kinds, empty_folder),
        cmocka_unit_test_setup(test_other_checkpoints, empty_folder),
        cmocka_unit_test_setup(test_no_checkpoint, empty_folder),
        cmocka_unit_test_setup(test_truncated_checkpoint, empty_folder),
        cmocka_unit_test_setup(test_digest, empty_folder),
        cmocka_unit_test(test_digest_progress),
    };

    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
