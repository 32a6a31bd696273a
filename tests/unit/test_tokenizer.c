/* test_tokenizer.c - ids and texts against recorded ones, streams, and files that are wrong. */
#include "tests/unit/scratch.h"

#include <jansson.h>

#include "server/tokenizer/tokenizer.h"
#include "kernels/base/utf8.h"

#define CASES "tests/cases/tokenizer/"

static const char base[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,"
    "\"added_tokens\":[{\"id\":6,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,"
    "\"rstrip\":false,\"normalized\":false,\"special\":true}],"
    "\"normalizer\":{\"type\":\"NFC\"},"
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
    "\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],"
    "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[6],\"tokens\":[\"<s>\"]}}},"
    "\"decoder\":{\"type\":\"ByteLevel\"},"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"\\u0120\":4,"
    "\"abc\":5},\"merges\":[[\"a\",\"b\"],[\"ab\",\"c\"]]}}";

/* The base with one value replaced; path is KEY or KEY.KEY, value is JSON, NULL removes the key. */
static void write_with(const char *path, const char *value)
{
    json_t *root = json_loads(base, 0, NULL), *owner = root, *new;
    const char *dot = strchr(path, '.');
    char *text;

    assert_non_null(root);
    if (dot) {
        char first[32] = "";

        memcpy(first, path, (size_t)(dot - path));
        owner = json_object_get(root, first);
        path = dot + 1;
    }
    if (value) {
        new = json_loads(value, JSON_DECODE_ANY, NULL);
        assert_non_null(new);
        json_object_set_new(owner, path, new);
    } else {
        json_object_del(owner, path);
    }
    text = json_dumps(root, JSON_ENSURE_ASCII);
    scratch_write("tokenizer.json", text, strlen(text));
    free(text);
    json_decref(root);
}

static struct tokenizer *open_with(const char *path, const char *value)
{
    struct error err = {0};
    struct tokenizer *t;

    write_with(path, value);
    t = tokenizer_open(scratch, TOKENIZER_FILE, &err);
    if (!t)
        print_error("%s\n", err.text);
    assert_non_null(t);
    return t;
}

/* ---- recorded cases ---- */

static void check_ids(const char *name, const json_t *want, const int64_t *ids, size_t count)
{
    size_t i;

    if (count != json_array_size(want))
        fail_msg("%s: %zu ids, not %zu", name, count, json_array_size(want));
    for (i = 0; i < count; i++)
        if (ids[i] != json_integer_value(json_array_get(want, i)))
            fail_msg("%s: id %zu is %lld", name, i, (long long)ids[i]);
}

/* Decodes at once and id by id; both must be `text`, behind `before`. */
static void check_text(const struct tokenizer *t, const char *name, const int64_t *ids,
                       size_t count, int skip, const char *before, const char *text, size_t size)
{
    struct buffer all = {0}, streamed = {0};
    struct tokenizer_stream stream = {0};
    struct error err = {0};
    size_t i, head = strlen(before);

    assert_int_equal(tokenizer_decode(t, ids, count, skip, &all, &err), 0);
    for (i = 0; i < count; i++)
        assert_int_equal(tokenizer_stream_push(t, &stream, ids[i], skip, &streamed, &err), 0);
    assert_int_equal(tokenizer_stream_finish(&stream, &streamed, &err), 0);
    if (all.size != head + size || (head && memcmp(all.data, before, head)) ||
        (size && memcmp(all.data + head, text, size)))
        fail_msg("%s: decoded to \"%s\"", name, all.data ? all.data : "");
    if (streamed.size != all.size || (all.size && memcmp(streamed.data, all.data, all.size)))
        fail_msg("%s: streamed \"%s\"", name, streamed.data ? streamed.data : "");
    buffer_clear(&all);
    buffer_clear(&streamed);
}

static void check_row(const struct tokenizer *t, const json_t *row, const json_t *text)
{
    static const char *const keys[] = {"decoded", "skipped"};
    const char *name = json_string_value(json_object_get(row, "name"));
    const json_t *other, *want;
    const char *before;
    struct error err = {0};
    int64_t *ids = NULL;
    size_t count;
    int skip;

    assert_int_equal(tokenizer_encode(t, json_string_value(text), json_string_length(text), 1, &ids,
                                      &count, &err),
                     0);
    check_ids(name, json_object_get(row, "ids"), ids, count);
    for (skip = 0; skip < 2; skip++) {
        other = json_object_get(row, keys[skip]);
        want = json_is_string(other) ? other : text;
        before = json_string_value(json_object_get(other, "before"));
        check_text(t, name, ids, count, skip, before ? before : "", json_string_value(want),
                   json_string_length(want));
    }
    free(ids);
}

static void check_kind(const char *kind)
{
    json_t *corpus = json_load_file(CASES "corpus.json", JSON_ALLOW_NUL, NULL), *golden;
    struct error err = {0};
    struct tokenizer *t;
    char path[128];
    size_t i;

    snprintf(path, sizeof(path), CASES "%s/golden.json", kind);
    golden = json_load_file(path, JSON_ALLOW_NUL, NULL);
    snprintf(path, sizeof(path), CASES "%s", kind);
    t = tokenizer_open(path, TOKENIZER_FILE, &err);
    if (!t)
        fail_msg("%s", err.text);
    assert_true(json_array_size(golden) > 70);
    assert_int_equal(json_array_size(golden), json_array_size(corpus));
    for (i = 0; i < json_array_size(golden); i++)
        check_row(t, json_array_get(golden, i), json_object_get(json_array_get(corpus, i), "text"));
    tokenizer_close(t);
    json_decref(golden);
    json_decref(corpus);
}

static void test_qwen2(void **state)
{
    (void)state;
    check_kind("qwen2");
}

static void test_llama3(void **state)
{
    (void)state;
    check_kind("llama3");
}

static void test_gpt2(void **state)
{
    (void)state;
    check_kind("gpt2");
}

static void test_digits(void **state)
{
    (void)state;
    check_kind("digits");
}

static void test_tekken(void **state)
{
    (void)state;
    check_kind("tekken");
}

static void test_odd(void **state)
{
    (void)state;
    check_kind("odd");
}

/* ---- small things ---- */

static void test_small(void **state)
{
    struct tokenizer *t = open_with("version", "\"1.0\"");
    const int64_t want[] = {6, 5, 4, 3, 6, 0};
    struct error err = {0};
    int64_t *ids;
    size_t count;

    (void)state;
    assert_int_equal(tokenizer_vocab_size(t), 7);
    assert_int_equal(tokenizer_encode(t, "abc ab<s>a", 10, 1, &ids, &count, &err), 0);
    assert_int_equal(count, 6);
    assert_memory_equal(ids, want, sizeof(want));
    check_text(t, "small", ids, count, 1, "", "abc aba", 7);
    check_text(t, "small", ids, count, 0, "<s>", "abc ab<s>a", 10);
    free(ids);
    assert_int_equal(tokenizer_encode(t, "abc", 3, 0, &ids, &count, &err), 0);
    assert_int_equal(count, 1);
    free(ids);
    assert_int_equal(tokenizer_encode(t, "", 0, 0, &ids, &count, &err), 0);
    assert_int_equal(count, 0);
    free(ids);
    assert_string_equal(tokenizer_token(t, 4), "\xC4\xA0");
    assert_string_equal(tokenizer_token(t, 6), "<s>");
    assert_null(tokenizer_token(t, 7));
    assert_null(tokenizer_token(t, -1));
    assert_int_equal(tokenizer_id(t, "<s>"), 6);
    assert_int_equal(tokenizer_id(t, "abc"), 5);
    assert_int_equal(tokenizer_id(t, "x"), -1);
    tokenizer_close(t);
}

/* A negative id is refused; one that has no token decodes to nothing, as in the package. */
static void test_ids_without_token(void **state)
{
    static const int64_t ids[] = {7, 0, INT64_MAX, -1, INT64_MIN};
    struct tokenizer *t = open_with("version", "\"1.0\"");
    struct buffer out = {0};
    size_t i;

    (void)state;
    for (i = 0; i < 5; i++) {
        struct tokenizer_stream stream = {0};
        struct error err = {0}, streamed = {0};

        assert_int_equal(tokenizer_decode(t, &ids[i], 1, 0, &out, &err), ids[i] < 0 ? -1 : 0);
        assert_int_equal(err.code, ids[i] < 0 ? 400 : 0);
        assert_int_equal(tokenizer_stream_push(t, &stream, ids[i], 0, &out, &streamed),
                         ids[i] < 0 ? -1 : 0);
        assert_int_equal(streamed.code, err.code);
        tokenizer_stream_close(&stream);
    }
    assert_int_equal(out.size, 2); /* the token of id 0, twice */
    buffer_clear(&out);
    tokenizer_close(t);
}

static void test_not_utf8(void **state)
{
    static const struct {
        const char *text;
        size_t size, offset;
    } rows[] = {{"ab\xFF", 3, 2},          {"\x80", 1, 0},
                {"a\xC0\x80", 3, 1},       {"\xE2\x82", 2, 0},
                {"x\xED\xA0\x80", 4, 1},   {"\xF4\x90\x80\x80", 4, 0},
                {"a\0\xE0\x9F\xBF", 5, 2}, {"\xC3\xA9\xF0\x9F\x98", 5, 2}};
    struct tokenizer *t = open_with("version", "\"1.0\"");
    char says[32];
    size_t i, count;
    int64_t *ids;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct error err = {0};

        assert_int_equal(tokenizer_encode(t, rows[i].text, rows[i].size, 0, &ids, &count, &err),
                         -1);
        assert_int_equal(err.code, 400);
        snprintf(says, sizeof(says), "at byte %zu", rows[i].offset);
        assert_contains(err.text, says);
    }
    tokenizer_close(t);
}

static void test_lossy(void **state)
{
#define R "\xEF\xBF\xBD"
    static const char *const rows[][2] = {
        {"abc", "abc"},
        {"Hello \xF0\x90\x80World", "Hello " R "World"},
        {"\xE2\x82", R},
        {"\xED\xA0\x80", R R R},
        {"\xC0\xAF", R R},
        {"\xF5\x80", R R},
        {"\xE2\x28\xA1", R "(" R},
        {"\xF0\x9F\x98\x80\xF0\x9F\xC3\xA9", "\xF0\x9F\x98\x80" R "\xC3\xA9"},
        {"\xF4\x90\x80\x80", R R R R},
    };
    struct buffer out;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        memset(&out, 0, sizeof(out));
        assert_int_equal(utf8_lossy(rows[i][0], strlen(rows[i][0]), 0, &out), 0);
        assert_string_equal(out.data, rows[i][1]);
        buffer_clear(&out);
    }
}

/* Whatever comes, what is given out so far is whole characters, and all of it is the decode. */
static void test_streams(void **state)
{
    struct error err = {0};
    struct tokenizer *t = tokenizer_open(CASES "qwen2", TOKENIZER_FILE, &err);
    int64_t ids[12], size;
    size_t count, i, bad;
    int round;

    (void)state;
    assert_non_null(t);
    size = tokenizer_vocab_size(t);
    srand(11);
    for (round = 0; round < 20000; round++) {
        struct buffer all = {0}, streamed = {0};
        struct tokenizer_stream stream = {0};

        count = (size_t)(rand() % 12);
        for (i = 0; i < count; i++) {
            ids[i] = rand() % (round % 2 ? size : 256);
            assert_int_equal(tokenizer_stream_push(t, &stream, ids[i], 0, &streamed, &err), 0);
            if (streamed.size)
                assert_int_equal(utf8_check(streamed.data, streamed.size, &bad), 0);
        }
        assert_int_equal(tokenizer_stream_finish(&stream, &streamed, &err), 0);
        assert_int_equal(tokenizer_decode(t, ids, count, 0, &all, &err), 0);
        assert_int_equal(all.size, streamed.size);
        if (all.size)
            assert_memory_equal(all.data, streamed.data, all.size);
        buffer_clear(&all);
        buffer_clear(&streamed);
    }
    tokenizer_close(t);
}

static void test_unknown_characters(void **state)
{
    struct tokenizer *t = open_with("pre_tokenizer", "null");
    struct error err = {0};
    int64_t *ids;
    size_t count;

    (void)state;
    assert_int_equal(tokenizer_encode(t, "a\xC3\xA9z\xE6\xBC\xA2z", 8, 0, &ids, &count, &err), 0);
    assert_int_equal(count, 1); /* without an unknown token they vanish */
    free(ids);
    tokenizer_close(t);
    t = open_with("model.unk_token", "\"nobody\"");
    assert_int_equal(tokenizer_encode(t, "ax", 2, 0, &ids, &count, &err), -1);
    assert_int_equal(err.code, 400);
    assert_contains(err.text, "U+0078");
    tokenizer_close(t);
}

static void test_matcher_limit(void **state)
{
    struct tokenizer *t =
        open_with("pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:a|a|[ab])+"
                                   "[cd]\"},\"behavior\":\"Isolated\",\"invert\":false}");
    struct error err = {0};
    char text[400];
    int64_t *ids;
    size_t count;

    (void)state;
    memset(text, 'a', sizeof(text));
    assert_int_equal(tokenizer_encode(t, text, sizeof(text), 0, &ids, &count, &err), -1);
    assert_int_equal(err.code, 500);
    assert_contains(err.text, "limit");
    tokenizer_close(t);
}

/* ---- files that are wrong ---- */

static const struct {
    const char *path, *value, *says;
} wrong[] = {
    {"model", NULL, "\"model\" is missing"},
    {"model", "[]", "\"model\" is missing or not an object"},
    {"model.type", "\"WordPiece\"", "\"WordPiece\" is not supported, only BPE and Unigram"},
    {"model.type", "\"Unigram\"", "\"vocab\" is not a list"},
    {"model.vocab", "[]", "\"vocab\" is not an object"},
    {"model.vocab", NULL, "\"vocab\" is not an object"},
    {"model.vocab", "{\"a\":-1}", "the id of \"a\""},
    {"model.vocab", "{\"a\":1.5}", "the id of \"a\""},
    {"model.vocab", "{\"a\":\"1\"}", "the id of \"a\""},
    {"model.vocab", "{\"a\":99999999999}", "the id of \"a\""},
    {"model.vocab", "{\"a\":1,\"b\":1}", "id 1 of \"b\" is also the id of \"a\""},
    {"model.merges", "{}", "\"merges\" is not a list"},
    {"model.merges", "[\"a\"]", "\"merges\"[0] is not two tokens"},
    {"model.merges", "[\"a b\",\"a b c\"]", "\"merges\"[1] is not two tokens"},
    {"model.merges", "[[\"a\",\"b\",\"c\"]]", "\"merges\"[0] is no pair"},
    {"model.merges", "[[\"a\",1]]", "\"merges\"[0] is no pair"},
    {"model.merges", "[7]", "\"merges\"[0] is no pair"},
    {"model.merges", "[[\"x\",\"b\"]]", "\"merges\"[0]: \"x\" is not in the vocabulary"},
    {"model.merges", "[[\"a\",\"y\"]]", "\"y\" is not in the vocabulary"},
    {"model.merges", "[[\"c\",\"a\"]]", "\"ca\" is not in the vocabulary"},
    {"model.dropout", "0.1", "\"dropout\" makes ids random"},
    {"model.unk_token", "5", "\"unk_token\" is not a string"},
    {"normalizer", "{\"type\":\"BertNormalizer\"}", "normalizer: \"BertNormalizer\""},
    {"normalizer", "{\"type\":\"Sequence\"}", "\"normalizers\" is no list"},
    {"normalizer", "{\"type\":\"Prepend\"}", "\"prepend\" is not a string"},
    {"normalizer", "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(a\"},\"content\":\"\"}",
     "normalizer: pattern"},
    {"normalizer", "3", "normalizer: no \"type\""},
    {"pre_tokenizer", "{\"type\":\"ByteLevel\"}", "\"add_prefix_space\""},
    {"pre_tokenizer", "{\"type\":\"Digits\"}", "\"individual_digits\""},
    {"pre_tokenizer", "{\"type\":\"Split\"}", "\"pattern\" is neither"},
    {"pre_tokenizer",
     "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"isolated\"}",
     "behavior \"isolated\""},
    {"pre_tokenizer", "{\"type\":\"Sequence\"}", "\"pretokenizers\" is no list"},
    {"post_processor", "{\"type\":\"TemplateProcessing\"}", "\"single\" is not a list"},
    {"post_processor",
     "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\"}}]}",
     "\"single\"[0]"},
    {"post_processor",
     "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],"
     "\"special_tokens\":{}}",
     "no \"ids\" for \"x\""},
    {"post_processor",
     "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],"
     "\"special_tokens\":{\"x\":{\"ids\":[7]}}}",
     "id 7 is no token's"},
    {"decoder", "{\"type\":\"Sequence\"}", "\"decoders\" is not a list"},
    {"decoder", "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"CTC\"}]}",
     "decoder: \"CTC\" is not supported"},
    {"model.continuing_subword_prefix", "1", "\"continuing_subword_prefix\" is not a string"},
    {"normalizer", "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"x\"}",
     "an empty string"},
    {"normalizer", "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"*\"}", "is not base64"},
    {"normalizer", "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}", "no table"},
    {"pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"ab\"}", "is not one character"},
    {"pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}",
     "not always, first or never"},
    {"pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":false}",
     "\"add_prefix_space\" is false"},
    {"pre_tokenizer", "{\"type\":\"Punctuation\",\"behavior\":5}", "behavior \"(none)\""},
    {"pre_tokenizer", "{\"type\":\"CharDelimiterSplit\"}", "\"delimiter\" is not one character"},
    {"pre_tokenizer", "{\"type\":\"FixedLength\",\"length\":0}", "\"length\" is not 1 or more"},
    {"pre_tokenizer", "{\"type\":\"UnicodeScripts\"}", "\"UnicodeScripts\" is not supported"},
    {"decoder", "{\"type\":\"Strip\",\"content\":\"\",\"start\":1,\"stop\":0}",
     "not one character"},
    {"decoder", "{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":0}", "not a count"},
    {"decoder", "{\"type\":\"Metaspace\"}", "\"replacement\" is not a string"},
    {"decoder", "{\"type\":\"WordPiece\"}", "\"prefix\" is not a string"},
    {"post_processor", "{\"type\":\"RobertaProcessing\",\"cls\":[\"a\"]}", "\"cls\" is no"},
    {"added_tokens", "{}", "\"added_tokens\" is not a list"},
    {"added_tokens", "[1]", "added_tokens[0]: \"content\""},
    {"added_tokens", "[{\"content\":\"x\",\"id\":6}]", "added_tokens[0]: \"single_word\""},
};

static void refuse(const char *says)
{
    struct error err = {0};
    struct tokenizer *t = tokenizer_open(scratch, TOKENIZER_FILE, &err);

    assert_null(t);
    assert_int_equal(err.code, 400);
    assert_contains(err.text, says);
    assert_contains(err.text, "tokenizer.json");
    assert_contains(err.text, scratch);
}

static void test_wrong_values(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        write_with(wrong[i].path, wrong[i].value);
        refuse(wrong[i].says);
    }
}

static void refuse_added(const char *content, int id, int normalized, const char *says)
{
    char list[400];

    snprintf(list, sizeof(list),
             "[{\"id\":6,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":"
             "false,\"normalized\":false,\"special\":true},{\"id\":%d,\"content\":\"%s\","
             "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":%s,"
             "\"special\":true}]",
             id, content, normalized ? "true" : "false");
    write_with("added_tokens", list);
    refuse(says);
}

static void test_wrong_added_tokens(void **state)
{
    (void)state;
    refuse_added("<t>", -1, 0, "\"id\" is not an integer");
}

static void test_wrong_patterns(void **state)
{
    static const char *const patterns[][2] = {
        {"\\\\w+", "this escape"},
        {"\\\\bx", "this escape"},
        {"(?i)x", "this kind of group"},
        {"\\\\1", "this escape"},
        {"[a[bc]]", "a set inside"},
        {"[a&&b]", "a set inside"},
        {"\\\\p{Greek}", "\\p{} name"},
        {"(a", "unclosed"},
        {"a)", "unopened"},
        {"*a", "repeat of nothing"},
        {"a**", "repeat of a repeat"},
        {"[a", "unclosed or empty"},
        {"(?i:ss)", "fold into one"},
        {"(?i:\\u00e9)", "beyond ASCII"},
        {"a{2}?", "{n}?"},
        {"\\\\h", "this escape"},
        {"[z-a]", "this range"},
        {"\\\\", "this escape"},
        {"(?<=a+)b", "lookbehind"},
        {"[\\u3040-\\u309f]|\\\\p{L}+", "newer than"},
    };
    char json[200];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        snprintf(json, sizeof(json),
                 "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},\"behavior\":\"Isolated\","
                 "\"invert\":false}",
                 patterns[i][0]);
        write_with("pre_tokenizer", json);
        refuse(patterns[i][1]);
    }
}

static void test_wrong_files(void **state)
{
    static const char *const files[] = {"",   "{",        "[]",     "null",
                                        "{}", "{\"a\":1", "\xFF{}", "{\"a\":1,\"a\":2}"};
    struct error err = {0};
    size_t i;

    (void)state;
    assert_null(tokenizer_open("/nonexistent", TOKENIZER_FILE, &err));
    assert_contains(err.text, "/nonexistent has no tokenizer.json");
    for (i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        scratch_write("tokenizer.json", files[i], strlen(files[i]));
        refuse("");
    }
    for (i = 0; i < sizeof(base) - 1; i += 3) {
        scratch_write("tokenizer.json", base, i);
        refuse("");
    }
}

/* One byte of the file changed: it opens, or it says why not. */
static void test_changed_bytes(void **state)
{
    char copy[sizeof(base)];
    int64_t *ids = NULL;
    size_t count;
    int round;

    (void)state;
    srand(5);
    for (round = 0; round < 3000; round++) {
        struct error err = {0};
        struct tokenizer *t;

        memcpy(copy, base, sizeof(base));
        copy[rand() % (int)(sizeof(base) - 1)] = (char)(rand() % 256);
        scratch_write("tokenizer.json", copy, sizeof(base) - 1);
        t = tokenizer_open(scratch, TOKENIZER_FILE, &err);
        if (!t) {
            assert_true(err.code && err.text[0]);
            continue;
        }
        if (!tokenizer_encode(t, "abc <s> cab\xC3\xA9", 13, 1, &ids, &count, &err))
            free(ids);
        tokenizer_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_qwen2),
        cmocka_unit_test(test_llama3),
        cmocka_unit_test(test_gpt2),
        cmocka_unit_test(test_digits),
        cmocka_unit_test(test_tekken),
        cmocka_unit_test(test_odd),
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_ids_without_token),
        cmocka_unit_test(test_not_utf8),
        cmocka_unit_test(test_lossy),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_unknown_characters),
        cmocka_unit_test(test_matcher_limit),
        cmocka_unit_test(test_wrong_values),
        cmocka_unit_test(test_wrong_added_tokens),
        cmocka_unit_test(test_wrong_patterns),
        cmocka_unit_test(test_wrong_files),
        cmocka_unit_test(test_changed_bytes),
    };

    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
