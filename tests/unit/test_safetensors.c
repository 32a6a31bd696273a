/* test_safetensors.c - what the reader takes, and that it refuses everything else by name. */
#include "tests/unit/scratch.h"

#include "kernels/base/safetensors.h"

/* A file of this header and so many bytes of data; the caller frees it. */
static unsigned char *make_file(const char *header, size_t data, size_t *size)
{
    size_t n = strlen(header);
    unsigned char *bytes = calloc(1, 8 + n + data + 1);

    assert_non_null(bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(n >> 8 * i);
    memcpy(bytes + 8, header, n);
    for (size_t i = 0; i < data; i++)
        bytes[8 + n + i] = (unsigned char)i;
    *size = 8 + n + data;
    return bytes;
}

#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"
#define T(dtype, shape, begin, end)                                                                \
    "{\"t\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}}"

static void test_reads(void **state)
{
    const char *header =
        "{\"__metadata__\":{\"format\":\"pt\",\"n\":\"\"},"
        "\"late\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[28,32]}," A ","
        "\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[24,28],\"extra\":1},"
        "\"none\":{\"dtype\":\"I64\",\"shape\":[3,0],\"data_offsets\":[32,32]},"
        "\"five\":{\"dtype\":\"BF16\",\"shape\":[1,1,1,1,1],\"data_offsets\":[32,34]},"
        "\"bytes\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[34,37]},"
        "\"nibbles\":{\"dtype\":\"F4\",\"shape\":[2,3],\"data_offsets\":[37,40]}}   ";
    size_t size;
    unsigned char *bytes = make_file(header, 40, &size);
    struct error err = {0};
    struct safetensors *s = safetensors_open_memory("memory", bytes, size, &err);
    const struct safetensors_entry *e;

    (void)state;
    assert_string_equal(err.text, "");
    assert_non_null(s);
    assert_int_equal(s->count, 7);
    assert_string_equal(s->entries[0].name, "a");
    assert_string_equal(s->entries[2].name, "late");
    assert_string_equal(json_string_value(json_object_get(s->metadata, "format")), "pt");
    e = safetensors_find(s, "a");
    assert_int_equal(e->tensor.rank, 2);
    assert_int_equal(e->tensor.shape[1], 3);
    assert_int_equal(e->tensor.stride[0], 3);
    assert_ptr_equal(e->tensor.data, s->data);
    assert_string_equal(e->shape_text, "2,3");
    e = safetensors_find(s, "scalar");
    assert_true(e->supported && e->tensor.rank == 0);
    assert_int_equal(*(const unsigned char *)e->tensor.data, 24);
    assert_int_equal(tensor_count(&safetensors_find(s, "none")->tensor), 0);
    assert_false(safetensors_find(s, "five")->supported);
    assert_string_equal(safetensors_find(s, "five")->shape_text, "1,1,1,1,1");
    assert_false(safetensors_find(s, "bytes")->supported);
    assert_string_equal(safetensors_find(s, "nibbles")->dtype_text, "F4");
    assert_null(safetensors_find(s, "b"));
    assert_null(safetensors_find(s, ""));
    safetensors_close(s);
    free(bytes);
}

static void test_empty_file_of_tensors(void **state)
{
    size_t size;
    unsigned char *bytes = make_file("{}", 0, &size);
    struct safetensors *s = safetensors_open_memory("memory", bytes, size, NULL);

    (void)state;
    assert_non_null(s);
    assert_int_equal(s->count, 0);
    assert_null(safetensors_find(s, "a"));
    safetensors_close(s);
    free(bytes);
}

static const struct {
    const char *header;
    size_t data;
    const char *says;
} refused[] = {
    {"", 0, "header of 0 bytes"},
    {" {}", 0, "does not begin with '{'"},
    {"[]", 0, "does not begin with '{'"},
    {"{", 0, "header of 1 bytes"},
    {"{\"a\"", 0, "header: "},
    {"{} x", 0, "header: "},
    {"{\"\xff\":1}", 0, "header: "},
    {"{" A "," A "}", 24, "uplicate"},
    {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object"},
    {"{\"__metadata__\":{\"k\":1}}", 0, "__metadata__.k is not a string"},
    {"{\"t\":1}", 0, "tensor 't': its description is not an object"},
    {"{\"t\":{}}", 0, "tensor 't': dtype is missing"},
    {"{\"t\":{\"dtype\":1}}", 0, "tensor 't': dtype is missing or not a string"},
    {"{\"t\":{\"dtype\":\"F32\"}}", 0, "tensor 't': shape is not a list"},
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets is not a pair"},
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "not a pair"},
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,5]}}", 4, "not a pair"},
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4.0]}}", 4, "not a pair"},
    {T("f32", "[1]", 0, 4), 4, "unknown dtype 'f32'"},
    {T("F128", "[1]", 0, 16), 16, "unknown dtype 'F128'"},
    {T("F32", "[-1]", 0, 4), 4, "shape[0] is not a whole number"},
    {T("F32", "[1.0]", 0, 4), 4, "shape[0] is not a whole number"},
    {T("F32", "[1,\"2\"]", 0, 4), 4, "shape[1] is not a whole number"},
    {T("F32", "[99999999999999999999]", 0, 4), 4, "header: "},
    {T("F32", "[4294967296,4294967296,2]", 0, 4), 4, "more than 2^64"},
    {T("F32", "[4611686018427387904,4]", 0, 0), 0, "more than 2^64"},
    {T("F32", "[4611686018427387904]", 0, 0), 0, "does not fit 64 bits"},
    {T("F32", "[2]", 0, 4), 4, "shape x F32 is 8 bytes, data_offsets span 4"},
    {T("F32", "[0]", 0, 4), 4, "is 0 bytes, data_offsets span 4"},
    {T("U8", "[3]", 0, 4), 4, "is 3 bytes"},
    {T("F4", "[3]", 0, 2), 2, "does not end at a whole byte"},
    {T("F32", "[1]", 4, 0), 4, "end before they begin"},
    {T("F32", "[1]", -4, 0), 4, "not a pair"},
    {T("F32", "[1]", 4, 8), 8, "leaving a hole after 0"},
    {T("F32", "[1]", 0, 4), 3, "data ends at 4, the file holds 3"},
    {T("F32", "[1]", 0, 4), 5, "1 bytes after the last tensor"},
    {"{}", 1, "1 bytes after the last tensor"},
    {"{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[20,24]}}", 24,
     "tensor 'b': data begins at 20, overlapping what ends at 24"},
    {"{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}", 24,
     "tensor 'b': data begins at 0, overlapping"},
    {"{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[25,26]}}", 26,
     "tensor 'b': data begins at 25, leaving a hole after 24"},
    {"{\"two\\nlines\":1}", 0, "tensor 'two?lines'"},
};

static void test_refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        size_t size;
        unsigned char *bytes = make_file(refused[i].header, refused[i].data, &size);
        struct error err = {0};

        assert_null(safetensors_open_memory("the/path", bytes, size, &err));
        assert_int_equal(err.code, 400);
        assert_contains(err.text, "the/path: ");
        assert_contains(err.text, refused[i].says);
        free(bytes);
    }
}

static void test_refuses_header_lengths(void **state)
{
    static const uint64_t lengths[] = {3, 100000001, UINT64_MAX, UINT64_MAX - 7, 1ull << 63};
    unsigned char bytes[10] = "--------{}";

    (void)state;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct error err = {0};

        memcpy(bytes, &lengths[i], 8);
        assert_null(safetensors_open_memory("path", bytes, sizeof(bytes), &err));
        assert_contains(err.text, "path: header of ");
    }
    for (size_t size = 0; size < 8; size++)
        assert_null(safetensors_open_memory("path", bytes, size, NULL));
}

static void refuse_path(const char *path, const char *says)
{
    struct error err = {0};

    assert_null(safetensors_open(path, &err));
    assert_contains(err.text, path);
    assert_contains(err.text, says);
}

static void test_paths(void **state)
{
    size_t size;
    unsigned char *bytes = make_file("{" A "}", 24, &size);
    struct safetensors *s;

    (void)state;
    scratch_write("good", bytes, size);
    s = safetensors_open(scratch_path("good"), NULL);
    assert_non_null(s);
    assert_int_equal(((const unsigned char *)s->entries[0].tensor.data)[5], 5);
    safetensors_close(s);
    for (size_t cut = 0; cut < size; cut++) {
        scratch_write("cut", bytes, cut);
        refuse_path(scratch_path("cut"), "cut: ");
    }
    scratch_write("empty", "", 0);
    refuse_path(scratch_path("empty"), "too short");
    refuse_path(scratch, "not a regular file");
    refuse_path(scratch_path("absent"), "No such file");
    assert_int_equal(mkfifo(scratch_path("fifo"), 0600), 0);
    refuse_path(scratch_path("fifo"), "not a regular file");
    free(bytes);
}

static void test_writer_round_trip(void **state)
{
    const struct safetensors_spec specs[] = {
        {"x", DTYPE_BF16, 2, {2, 3}},
        {"a \"quoted\" n\xc3\xa4me", DTYPE_F32, 0, {0}},
        {"none", DTYPE_I64, 1, {0}},
        {"last", DTYPE_F16, 4, {1, 2, 1, 2}},
    };
    json_t *metadata = json_pack("{s:s}", "model", "tiny");
    struct buffer out = {0};
    struct error err = {0};
    struct safetensors *s;

    (void)state;
    assert_int_equal(safetensors_header(&out, specs, 4, metadata, &err), 0);
    assert_int_equal(out.size % 8, 0);
    buffer_append(&out, "0123456789abcdefABCDEFGH", 24);
    s = safetensors_open_memory("memory", out.data, out.size, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(s->count, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(safetensors_find(s, specs[i].name)->tensor.rank, specs[i].rank);
    assert_memory_equal(safetensors_find(s, "last")->tensor.data, "ABCDEFGH", 8);
    assert_true(json_equal(s->metadata, metadata));
    safetensors_close(s);
    buffer_clear(&out);
    json_decref(metadata);
}

static void test_writer_refuses(void **state)
{
    const struct safetensors_spec twice[] = {{"x", DTYPE_F32, 0, {0}}, {"x", DTYPE_F32, 0, {0}}};
    const struct safetensors_spec huge = {"x", DTYPE_I64, 2, {1ll << 40, 1ll << 40}};
    const struct safetensors_spec reserved = {"__metadata__", DTYPE_F32, 0, {0}};
    const struct safetensors_spec latin = {"\xe4", DTYPE_F32, 0, {0}};
    struct buffer out = {0};
    struct error err = {0};

    (void)state;
    assert_int_equal(safetensors_header(&out, twice, 2, NULL, &err), -1);
    assert_contains(err.text, "tensor 'x'");
    assert_int_equal(safetensors_header(&out, &huge, 1, NULL, NULL), -1);
    assert_int_equal(safetensors_header(&out, &reserved, 1, NULL, NULL), -1);
    assert_int_equal(safetensors_header(&out, &latin, 1, NULL, NULL), -1);
    assert_int_equal(out.size, 0);
    buffer_clear(&out);
}

/* Each file is read or refused with a reason; the sanitizers watch. */
static void test_mutations(void **state)
{
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"}," A ","
                         "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[24,32]}}";
    uint64_t random = 20260101;
    int taken = 0;

    (void)state;
    for (int i = 0; i < 2000; i++) {
        char text[1024];
        struct error err = {0};
        struct safetensors *s;
        unsigned char *bytes;
        size_t size;

        strcpy(text, header);
        text[mutate(text, strlen(text), &random)] = '\0';
        bytes = make_file(text, 32, &size);
        if (i % 4 == 0)
            bytes[next_random(&random) % 8] ^= (unsigned char)(1 << next_random(&random) % 8);
        s = safetensors_open_memory("mutant", bytes, size, &err);
        if (s) {
            for (int k = 0; k < s->count; k++)
                assert_ptr_equal(safetensors_find(s, s->entries[k].name), &s->entries[k]);
            taken++;
        } else {
            assert_int_equal(err.code, 400);
            assert_contains(err.text, "mutant: ");
        }
        safetensors_close(s);
        free(bytes);
    }
    assert_in_range(taken, 20, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),          cmocka_unit_test(test_empty_file_of_tensors),
        cmocka_unit_test(test_refuses),        cmocka_unit_test(test_refuses_header_lengths),
        cmocka_unit_test(test_paths),          cmocka_unit_test(test_writer_round_trip),
        cmocka_unit_test(test_writer_refuses), cmocka_unit_test(test_mutations),
    };

    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
