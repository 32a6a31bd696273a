/* settings.c - see settings.h. */
#include "server/http/settings.h"

#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "kernels/base/json_file.h"

static const struct {
    const char *key;
    size_t offset;
    int64_t otherwise, least, most;
    enum { LIVE, START } when;
} numbers[] = {
#define SETTING(key, otherwise, least, most, when, bounds)                                         \
    {#key, offsetof(struct settings, key), otherwise, least, most, when},
#include "server/http/settings.def"
#undef SETTING
};

enum { NUMBERS = sizeof(numbers) / sizeof(numbers[0]) };

static _Atomic int64_t *number_at(const struct settings *s, int i)
{
    return (_Atomic int64_t *)(uintptr_t)((const char *)s + numbers[i].offset);
}

static int set_address(struct settings *s, const json_t *value, struct error *err)
{
    const char *text = json_string_value(value);

    if (!text || strlen(text) >= sizeof(s->address))
        return error_param(err, 400, "address",
                           "address: a string such as 127.0.0.1:8642 is expected");
    strcpy(s->address, text);
    return 0;
}

static int set_names(char names[GUARD_NAMES][256], const char *key, const json_t *list,
                     struct error *err)
{
    if (!json_is_array(list) || json_array_size(list) > GUARD_NAMES)
        return error_param(err, 400, key, "%s: a list of at most %d names is expected", key,
                           GUARD_NAMES);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));

        if (!name || !*name || strlen(name) >= 256)
            return error_param(err, 400, key, "%s[%zu]: a name is expected", key, i);
        strcpy(names[i], name);
    }
    return 0;
}

static int set_number(struct settings *s, const char *key, const json_t *value, struct error *err)
{
    int i = 0;

    while (i < NUMBERS && strcmp(numbers[i].key, key) != 0)
        i++;
    if (i == NUMBERS)
        return error_param(err, 400, key, "unknown key '%s'", key);
    if (!json_is_integer(value))
        return error_param(err, 400, key, "%s: a whole number is expected", key);
    if (json_integer_value(value) < numbers[i].least || json_integer_value(value) > numbers[i].most)
        return error_param(err, 400, key, "%s: %" PRId64 " to %" PRId64 " is expected", key,
                           numbers[i].least, numbers[i].most);
    *number_at(s, i) = json_integer_value(value);
    return 0;
}

static int set_all(struct settings *s, json_t *root, struct error *err)
{
    const char *key;
    json_t *value;

    if (!json_is_object(root))
        return error_set(err, 400, "an object is expected");
    json_object_foreach (root, key, value) {
        int rc;

        if (strcmp(key, "address") == 0)
            rc = set_address(s, value, err);
        else if (strcmp(key, "hosts") == 0)
            rc = set_names(s->hosts, key, value, err);
        else if (strcmp(key, "origins") == 0)
            rc = set_names(s->origins, key, value, err);
        else
            rc = set_number(s, key, value, err);

        if (rc)
            return -1;
    }
    return 0;
}

int settings_read(const char *path, struct settings *out, struct error *err)
{
    json_t *root;
    int rc;

    memset(out, 0, sizeof(*out));
    strcpy(out->address, "127.0.0.1:8642");
    for (int i = 0; i < NUMBERS; i++)
        *number_at(out, i) = numbers[i].otherwise;
    if (!path)
        return 0;
    root = json_file_read(NULL, path, JSON_FILE_NO_DUPLICATES, err);
    if (!root)
        return -1;
    rc = set_all(out, root, err);
    json_decref(root);
    return rc ? error_prefix(err, "%s: ", path) : 0;
}

const char *settings_number(const struct settings *s, int i, int64_t *value)
{
    if (i < 0 || i >= NUMBERS)
        return NULL;
    *value = *number_at(s, i);
    return numbers[i].key;
}

static void keep(char kept[512], const char *key)
{
    const size_t n = strlen(kept);

    snprintf(kept + n, 512 - n, "%s%s", n ? ", " : "", key);
}

void settings_change(struct settings *s, const struct settings *fresh, char kept[512])
{
    *kept = '\0';
    if (strcmp(s->address, fresh->address) != 0)
        keep(kept, "address");
    for (int i = 0; i < NUMBERS; i++) {
        const int64_t value = *number_at(fresh, i);

        if (numbers[i].when == LIVE)
            *number_at(s, i) = value;
        else if (*number_at(s, i) != value)
            keep(kept, numbers[i].key);
    }
}
