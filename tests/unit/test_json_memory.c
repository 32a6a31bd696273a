/* test_json_memory.c - each allocation of jansson refused in turn: 503, never "no valid JSON". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/base/json_memory.h"
#include "kernels/base/safetensors.h"
#include "server/http/json.h"

static int left; /* allocations before the one that is refused */

static void *allocate(size_t size)
{
    return left-- == 0 ? NULL : malloc(size);
}

static void test_objects(void **state)
{
    static const char text[] = "{\"tokens\":[1,2,3],\"values\":[\"logits\",\"\\u00e9\"],\"format\":"
                               "\"digest\",\"x\":{\"y\":1.5}}";
    json_t *root = NULL;
    int refused = 0;

    (void)state;
    for (int i = 0; i < 1000 && !root; i++) {
        struct error err = {0};

        left = i;
        root = json_object_read("body", text, strlen(text), &err);
        assert_int_equal(err.code, root ? 0 : 503);
        refused += !root;
    }
    left = -1;
    assert_non_null(root);
    assert_true(refused > 20);
    json_decref(root);
}

static void test_headers(void **state)
{
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                                 "\"__metadata__\":{\"k\":\"v\"}}";
    unsigned char bytes[8 + sizeof(header) - 1 + 8] = {sizeof(header) - 1};
    struct safetensors *s = NULL;
    int refused = 0;

    (void)state;
    memcpy(bytes + 8, header, sizeof(header) - 1);
    for (int i = 0; i < 1000 && !s; i++) {
        struct error err = {0};

        left = i;
        s = safetensors_open_memory("x", bytes, sizeof(bytes), &err);
        assert_true(s ? !err.code : err.code >= 500);
        refused += !s;
    }
    left = -1;
    assert_non_null(s);
    assert_true(refused > 10);
    safetensors_close(s);
}

static void test_what_is_wrong_stays_wrong(void **state)
{
    struct error err = {0};

    (void)state;
    left = -1;
    assert_null(json_object_read("body", "{\"a\":", 5, &err));
    assert_int_equal(err.code, 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_objects),
                                       cmocka_unit_test(test_headers),
                                       cmocka_unit_test(test_what_is_wrong_stays_wrong)};

    json_memory_watch(allocate);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
