/* test_corpora.c - every target with every file of its corpus, without a fuzzer. */
#include "tests/unit/scratch.h"

#include <dirent.h>

#include "tests/fuzz/targets.h"

static const struct named {
    const char *name;
    fuzz_target *run;
} targets[] = {
#define TARGET(name) {#name, fuzz_##name}
    TARGET(config),  TARGET(digests),     TARGET(encode),    TARGET(family), TARGET(glob),
    TARGET(head),    TARGET(inflate),     TARGET(npy),       TARGET(npz),    TARGET(receive),
    TARGET(request), TARGET(safetensors), TARGET(tokenizer), TARGET(tokens),
};

static int run_file(const struct named *t, const char *path)
{
    FILE *f = fopen(path, "r");
    unsigned char *bytes = malloc(1 << 20);
    size_t size;

    assert_non_null(f);
    assert_non_null(bytes);
    size = fread(bytes, 1, 1 << 20, f);
    fclose(f);
    t->run(bytes, size);
    free(bytes);
    return 1;
}

static void test_corpus(void **state)
{
    const struct named *t = *state;
    char folder[128], path[512];
    struct dirent *entry;
    int count = 0;
    DIR *d;

    snprintf(folder, sizeof(folder), "tests/fuzz/corpus/%s", t->name);
    d = opendir(folder);
    assert_non_null(d);
    while ((entry = readdir(d)))
        if (*entry->d_name != '.') {
            snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
            count += run_file(t, path);
        }
    closedir(d);
    t->run((const uint8_t *)"", 0);
    assert_in_range(count, 3, 100000);
}

int main(void)
{
    enum { COUNT = sizeof(targets) / sizeof(targets[0]) };
    struct CMUnitTest tests[COUNT];

    for (int i = 0; i < COUNT; i++)
        tests[i] = (struct CMUnitTest){.name = targets[i].name,
                                       .test_func = test_corpus,
                                       .initial_state = (void *)(uintptr_t)&targets[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
