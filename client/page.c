/* page.c - see page.h. */
#include "client/page.h"
#include "kernels/base/json_memory.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- values ---- */

static json_t *real(double v)
{
    char text[32];

    if (!isfinite(v))
        return json_string(isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity");
    snprintf(text, sizeof(text), "%.6g", v); /* what is read from a page needs no more */
    return fabs(v) < 1e15 && v == floor(v) ? json_integer((json_int_t)v)
                                           : json_real(strtod(text, NULL));
}

json_t *page_value(const char *name, const char *verdict, const char *word)
{
    return json_pack("{s:s,s:s,s:s,s:[]}", "name", name, "verdict", verdict, "word", word,
                     "numbers");
}

void page_number(json_t *value, const char *key, double v)
{
    json_array_append_new(json_object_get(value, "numbers"), json_pack("[s,o]", key, real(v)));
}

void page_text(json_t *value, const char *key, const char *text)
{
    json_array_append_new(json_object_get(value, "numbers"), json_pack("[s,s]", key, text));
}

void page_worst(json_t *value, const char *index, const char *a, const char *b)
{
    json_object_set_new(value, "worst", json_pack("{s:s,s:s,s:s}", "index", index, "a", a, "b", b));
}

static json_t *lines_json(const struct profile_line *l, int64_t count)
{
    json_t *list = json_array();

    for (int64_t i = 0; i < count; i++)
        json_array_append_new(list, json_pack("[I,I,o,o]", (json_int_t)l[i].elements,
                                              (json_int_t)l[i].differing, real(l[i].max_abs),
                                              real(l[i].distance)));
    return list;
}

void page_profile(json_t *value, const struct profile *p)
{
    json_t *bins = json_array();

    for (int i = 0; i < PROFILE_BINS; i++) {
        uint64_t from, to;

        profile_bin(i, &from, &to);
        if (p->histogram[i])
            json_array_append_new(bins, json_pack("[I,I,I]", (json_int_t)from, (json_int_t)to,
                                                  (json_int_t)p->histogram[i]));
    }
    json_object_set_new(value, "distance", real(p->distance));
    json_object_set_new(value, "ulp", json_string(dtype_name(p->ulp_dtype)));
    if (json_array_size(bins))
        json_object_set(value, "histogram", bins);
    json_decref(bins);
    if (p->position_count > 1)
        json_object_set_new(value, "positions", lines_json(p->positions, p->position_count));
    if (p->head_count > 1)
        json_object_set_new(value, "heads", lines_json(p->heads, p->head_count));
    if (p->nan_pairs)
        page_number(value, "NaN facing a number", (double)p->nan_pairs);
    if (p->growth.grows)
        page_text(value, "by position", "the error grows with it");
}

json_t *page_lines_take(char *text)
{
    json_t *lines = json_array();
    char *rest = text;

    for (char *line; text && (line = strsep(&rest, "\n")) != NULL;)
        if (*line)
            json_array_append_new(lines, json_string(line));
    free(text);
    return lines;
}

/* ---- the file ---- */

/* client/page.html as it is, so that a report needs no file of ours. */
__asm__(".section .rodata\n"
        ".global page_template\n"
        "page_template:\n"
        ".incbin \"client/page.html\"\n"
        ".byte 0\n"
        ".text\n");
extern const char page_template[] __attribute__((visibility("hidden")));

static const char PLACE[] = "@DATA@";

/* In an element whose text is not parsed only "</script" and "<!--" mean something; "&" does in XHTML. */
static void put_data(FILE *f, const char *json)
{
    for (; *json; json++)
        if (*json == '<' || *json == '>' || *json == '&')
            fprintf(f, "\\u%04x", (unsigned)*json);
        else
            fputc(*json, f);
}

static int put_page(FILE *f, const json_t *page)
{
    const char *place = strstr(page_template, PLACE);
    char *json = json_memory_text(page, JSON_COMPACT | JSON_REAL_PRECISION(6));

    if (!json)
        return -1;
    fwrite(page_template, 1, (size_t)(place - page_template), f);
    put_data(f, json);
    fputs(place + sizeof(PLACE) - 1, f);
    free(json);
    return ferror(f) ? -1 : 0;
}

int page_write(const char *path, const json_t *page, struct error *err)
{
    char *unfinished = NULL;
    FILE *f = NULL;
    int rc = -1, fd = -1;

    if (asprintf(&unfinished, "%s.XXXXXX", path) < 0)
        return error_set(err, 500, "out of memory");
    errno = 0;
    fd = mkostemp(unfinished, 0);
    f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (f)
        rc = put_page(f, page);
    if (f && fclose(f))
        rc = -1;
    if (fd >= 0)
        chmod(unfinished, 0644);
    if (rc == 0)
        rc = rename(unfinished, path);
    if (rc)
        error_set(err, 400, "cannot write %s: %s", path, errno ? strerror(errno) : "out of memory");
    if (rc && fd >= 0)
        unlink(unfinished);
    free(unfinished);
    return rc;
}
