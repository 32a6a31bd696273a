/* negotiate.c - see negotiate.h. */
#include "server/http/negotiate.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *const types_binary[] = {TYPE_BINARY, "application/vnd.safetensors",
                                    "application/x-safetensors", NULL};

/* One "type/subtype;q=0.5" of a list. */
struct range {
    const char *type;
    size_t size;
    int quality; /* 0 to 1000; -1: malformed */
};

static const char *skip_space(const char *s)
{
    return s + strspn(s, " \t");
}

static int quality_parse(const char *s, size_t size)
{
    char text[8] = "";
    char *end;
    double q;

    if (size == 0 || size > 5 || strspn(s, "0123456789.") < size)
        return -1;
    memcpy(text, s, size);
    q = strtod(text, &end);
    return *end || q > 1 ? -1 : (int)(q * 1000 + 0.5);
}

static void parameter_read(struct range *r, const char *s, size_t size)
{
    while (size && (s[size - 1] == ' ' || s[size - 1] == '\t'))
        size--;
    if (size >= 2 && (s[0] == 'q' || s[0] == 'Q') && s[1] == '=')
        r->quality = quality_parse(s + 2, size - 2);
}

/* Reads the range at s and returns where the next one begins (at the NUL when there is none). */
static const char *range_read(const char *s, struct range *r)
{
    s = skip_space(s);
    r->type = s;
    r->size = strcspn(s, ";, \t");
    r->quality = 1000;
    if (!r->size)
        r->quality = 0; /* an empty element is allowed and says nothing */
    else if (!memchr(s, '/', r->size) && !(r->size == 1 && *s == '*'))
        r->quality = -1;
    s = skip_space(s + r->size);
    if (*s != ';' && *s != ',' && *s)
        r->quality = -1;
    while (*s && *s != ',') {
        size_t n;

        s = skip_space(s + (*s == ';'));
        n = strcspn(s, ";,");
        if (r->quality >= 0)
            parameter_read(r, s, n);
        s += n;
    }
    return *s ? s + 1 : s;
}

/* 3: the type itself, 2: "application/ *", 1: "* / *", 0: not of this range. */
static int range_fits(const struct range *r, const char *type)
{
    size_t major = strcspn(type, "/") + 1;

    if (r->size == strlen(type) && strncasecmp(r->type, type, r->size) == 0)
        return 3;
    if (r->size == major + 1 && r->type[major] == '*' && strncasecmp(r->type, type, major) == 0)
        return 2;
    return (r->size == 3 && memcmp(r->type, "*/*", 3) == 0) || (r->size == 1 && *r->type == '*');
}

int accept_quality(const char *accept, const char *type)
{
    int quality = 0, best = 0;
    struct range r;

    if (!*skip_space(accept))
        return 1000;
    while (*accept) {
        int fits;

        accept = range_read(accept, &r);
        fits = range_fits(&r, type);
        if (fits > best) {
            best = fits;
            quality = r.quality;
        }
    }
    return quality > 0 ? quality : 0;
}

const char *accept_best(const char *accept, const char *const types[])
{
    const char *found = NULL;
    int best = 0;

    for (int i = 0; types[i]; i++) {
        int quality = accept_quality(accept, types[i]);

        if (quality > best) {
            best = quality;
            found = types[i];
        }
    }
    return found;
}

int accept_check(const char *accept, struct error *err)
{
    struct range r;

    accept = skip_space(accept);
    while (*accept) {
        accept = range_read(accept, &r);
        if (r.quality < 0)
            return error_param(err, 400, "Accept", "Accept: '%.*s' is no media type with a quality",
                               (int)(r.size > 64 ? 64 : r.size), r.type);
    }
    return 0;
}

static int content_is(const char *content_type, const char *type)
{
    const char *s = skip_space(content_type);
    size_t n = strcspn(s, "; \t");

    return n == strlen(type) && strncasecmp(s, type, n) == 0;
}

int content_is_json(const char *content_type)
{
    return content_is(content_type, TYPE_JSON) ||
           content_is(content_type, "application/x-www-form-urlencoded");
}

int content_is_binary(const char *content_type)
{
    for (int i = 0; types_binary[i]; i++)
        if (content_is(content_type, types_binary[i]))
            return 1;
    return 0;
}
