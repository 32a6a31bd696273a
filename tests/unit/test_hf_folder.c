/* test_hf_folder.c - entries of the hub's cache. */
#include "tests/unit/scratch.h"

#include "server/model/hf_folder.h"

static void folder(const char *name)
{
    assert_int_equal(mkdir(scratch_path(name), 0700), 0);
}

static void assert_resolves(const char *from, const char *to)
{
    char given[4096];
    struct error err = {0};
    char *path;

    snprintf(given, sizeof(given), "%s", scratch_path(from));
    path = hf_folder_resolve(given, &err);
    if (!path)
        fail_msg("%s: %s", from, err.text);
    assert_string_equal(path, scratch_path(to));
    free(path);
}

static void assert_name(const char *path, const char *name)
{
    char *found = hf_folder_name(scratch_path(path));

    assert_non_null(found);
    assert_string_equal(found, name);
    free(found);
}

#define ENTRY "models--Org--Some-Model"

static void test_cache_entry(void **state)
{
    struct error err = {0};

    (void)state;
    folder(ENTRY);
    assert_resolves(ENTRY, ENTRY); /* nothing of a cache in it: opening says what is missing */
    folder(ENTRY "/snapshots");
    assert_null(hf_folder_resolve(scratch_path(ENTRY), &err));
    assert_contains(err.text, "with 0 snapshots and no refs/main");
    folder(ENTRY "/snapshots/aaaa");
    assert_resolves(ENTRY, ENTRY "/snapshots/aaaa");
    folder(ENTRY "/snapshots/bbbb");
    memset(&err, 0, sizeof(err));
    assert_null(hf_folder_resolve(scratch_path(ENTRY), &err));
    assert_contains(err.text, "with 2 snapshots and no refs/main");
    folder(ENTRY "/refs");
    scratch_text(ENTRY "/refs/main", "bbbb\n");
    assert_resolves(ENTRY, ENTRY "/snapshots/bbbb");
    scratch_text(ENTRY "/refs/main", "../../elsewhere");
    assert_null(hf_folder_resolve(scratch_path(ENTRY), NULL));
    scratch_text(ENTRY "/config.json", "{}");
    assert_resolves(ENTRY, ENTRY);
}

static void test_names(void **state)
{
    (void)state;
    assert_name(ENTRY "/snapshots/aaaa", "Org/Some-Model");
    assert_name(ENTRY "/snapshots/aaaa/", "Org/Some-Model");
    assert_name(ENTRY, ENTRY);
    folder("plain");
    folder("plain/snapshots");
    folder("plain/snapshots/x");
    assert_name("plain/snapshots/x", "x");
    assert_name("plain/.", "plain");
    assert_name("not-there", scratch_path("not-there"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cache_entry),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
