/* guard.c - see guard.h. */
#include "server/http/guard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { TOKENS = 256, LEAST = 16 /* characters of a token */ };

/* What is kept of a token is its digest: equal digests are compared in constant time. */
struct token {
    char name[64];
    unsigned char digest[SHA256_DIGEST_LENGTH];
};

struct list {
    int count;
    struct token at[TOKENS];
};

struct guard {
    struct guard_rules rules;
    pthread_rwlock_t lock;
    struct list *tokens; /* NULL: none are needed */
};

/* ---- the file ---- */

static void digest_of(const char *text, size_t n, unsigned char out[SHA256_DIGEST_LENGTH])
{
    SHA256((const unsigned char *)text, n, out);
}

/* "NAME TOKEN"; empty lines and those that begin with # say nothing. */
static int read_token(struct list *l, char *line, const char *path, int number, struct error *err)
{
    char *save = NULL, *name = strtok_r(line, " \t\r\n", &save), *token, *more;

    if (!name || *name == '#')
        return 0;
    token = strtok_r(NULL, " \t\r\n", &save);
    more = strtok_r(NULL, " \t\r\n", &save);
    if (!token || more)
        return error_set(err, 400, "%s, line %d: NAME TOKEN is expected", path, number);
    if (strlen(name) >= sizeof(l->at[0].name))
        return error_set(err, 400, "%s, line %d: the name is longer than %zu bytes", path, number,
                         sizeof(l->at[0].name) - 1);
    if (strlen(token) < LEAST)
        return error_set(err, 400, "%s, line %d: the token of '%s' has fewer than %d characters",
                         path, number, name, LEAST);
    if (l->count == TOKENS)
        return error_set(err, 400, "%s: more than %d tokens", path, TOKENS);
    strcpy(l->at[l->count].name, name);
    digest_of(token, strlen(token), l->at[l->count++].digest);
    return 0;
}

static int read_tokens(struct list *l, FILE *f, const char *path, struct error *err)
{
    char line[1024];
    struct stat st;
    int rc = 0, number = 0;

    if (fstat(fileno(f), &st))
        return error_set(err, 400, "%s: %s", path, strerror(errno));
    if (st.st_mode & (S_IROTH | S_IWOTH | S_IWGRP))
        return error_set(err, 400, "%s: others can read or write it; chmod 600 it", path);
    while (!rc && fgets(line, sizeof(line), f)) {
        number++;
        if (!strchr(line, '\n') && !feof(f))
            rc = error_set(err, 400, "%s, line %d: too long", path, number);
        else
            rc = read_token(l, line, path, number, err);
    }
    OPENSSL_cleanse(line, sizeof(line));
    if (!rc && !l->count)
        rc = error_set(err, 400, "%s: no token in it", path);
    return rc;
}

int guard_reload(struct guard *g, struct error *err)
{
    const char *path = g->rules.tokens;
    struct list *l;
    FILE *f;
    int rc;

    if (!path)
        return 0;
    l = calloc(1, sizeof(*l));
    f = fopen(path, "re");
    if (!l || !f) {
        rc = error_set(err, l ? 400 : 500, "%s: %s", path, strerror(errno));
    } else {
        setvbuf(f, NULL, _IONBF, 0); /* so that no copy of the file stays in a buffer */
        rc = read_tokens(l, f, path, err);
    }
    if (f)
        fclose(f);
    if (!rc) {
        struct list *old;

        pthread_rwlock_wrlock(&g->lock);
        old = g->tokens;
        g->tokens = l;
        pthread_rwlock_unlock(&g->lock);
        l = old;
    }
    free(l);
    return rc;
}

struct guard *guard_create(const struct guard_rules *rules, struct error *err)
{
    struct guard *g = calloc(1, sizeof(*g));

    if (!g) {
        error_set(err, 500, "no memory for the tokens");
        return NULL;
    }
    g->rules = *rules;
    pthread_rwlock_init(&g->lock, NULL);
    if (!guard_reload(g, err))
        return g;
    guard_free(g);
    return NULL;
}

void guard_free(struct guard *g)
{
    if (!g)
        return;
    pthread_rwlock_destroy(&g->lock);
    free(g->tokens);
    free(g);
}

int guard_has_tokens(const struct guard *g)
{
    return g->rules.tokens != NULL;
}

/* ---- tokens ---- */

/* All are looked at, whichever it is: the time tells nothing. */
static int find_token(const struct list *l, const char *text, char who[64])
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    int found = 0;

    digest_of(text, strlen(text), digest);
    for (int i = 0; i < l->count; i++)
        if (CRYPTO_memcmp(digest, l->at[i].digest, sizeof(digest)) == 0) {
            strcpy(who, l->at[i].name);
            found = 1;
        }
    return found;
}

static int check_token(struct guard *g, const char *authorization, char who[64], struct error *err)
{
    const char *text = authorization;
    int found;

    if (strncasecmp(text, "Bearer ", 7) != 0)
        return error_param(err, 401, "Authorization",
                           "a token is needed here: Authorization: Bearer TOKEN");
    text += 7;
    text += strspn(text, " ");
    pthread_rwlock_rdlock(&g->lock);
    found = find_token(g->tokens, text, who);
    pthread_rwlock_unlock(&g->lock);
    return found ? 0 : error_param(err, 401, "Authorization", "the token is not known here");
}

/* ---- names ---- */

void guard_names(struct guard *g, char hosts[GUARD_NAMES][256], char origins[GUARD_NAMES][256])
{
    pthread_rwlock_wrlock(&g->lock);
    memcpy(g->rules.hosts, hosts, sizeof(g->rules.hosts));
    memcpy(g->rules.origins, origins, sizeof(g->rules.origins));
    pthread_rwlock_unlock(&g->lock);
}

/* names: of g's rules. */
static int is_listed(struct guard *g, char names[GUARD_NAMES][256], const char *name, size_t n)
{
    int found = 0;

    pthread_rwlock_rdlock(&g->lock);
    for (int i = 0; i < GUARD_NAMES && *names[i]; i++)
        found |= strlen(names[i]) == n && strncasecmp(names[i], name, n) == 0;
    pthread_rwlock_unlock(&g->lock);
    return found;
}

static int is_address(const char *name, size_t n)
{
    struct in6_addr any;
    char text[INET6_ADDRSTRLEN];

    if (n >= sizeof(text))
        return 0;
    memcpy(text, name, n);
    text[n] = '\0';
    return inet_pton(AF_INET, text, &any) == 1 || inet_pton(AF_INET6, text, &any) == 1;
}

/* The name of "name:8642", "[::1]:8642". */
static size_t without_port(const char **host)
{
    const char *end = **host == '[' ? strchr(*host, ']') : NULL;

    if (end)
        return (size_t)(end - ++*host);
    return strcspn(*host, ":");
}

static int ends_with(const char *name, size_t n, const char *end)
{
    return n >= strlen(end) && strncasecmp(name + n - strlen(end), end, strlen(end)) == 0;
}

/* Nobody else can make a name without a dot, or an address, lead here. */
static int check_host(struct guard *g, const char *host, struct error *err)
{
    const char *name = host;
    const size_t n = without_port(&name);

    if (!memchr(name, '.', n) || is_address(name, n) || ends_with(name, n, ".localhost") ||
        is_listed(g, g->rules.hosts, name, n))
        return 0;
    return error_param(
        err, 403, "Host",
        "Host '%.100s' is not a name of this machine (\"hosts\" of the configuration)", host);
}

static int check_origin(struct guard *g, const char *origin, const char *host, struct error *err)
{
    const char *rest = strstr(origin, "://");

    if (guard_shares(g, origin) || (rest && *host && strcasecmp(rest + 3, host) == 0))
        return 0;
    return error_param(err, 403, "Origin",
                       "Origin '%.100s' may not ask here (\"origins\" of the configuration)",
                       origin);
}

int guard_shares(struct guard *g, const char *origin)
{
    return *origin && is_listed(g, g->rules.origins, origin, strlen(origin));
}

int guard_check(struct guard *g, const struct head *h, const char *path, const char *authorization,
                char who[64], struct error *err)
{
    *who = '\0';
    if (g->rules.tokens)
        return strcmp(path, "/health") == 0 ? 0 : check_token(g, authorization, who, err);
    if (g->rules.open)
        return 0;
    if (!g->rules.local && h->hosts && check_host(g, h->host, err))
        return -1;
    return *h->origin ? check_origin(g, h->origin, h->host, err) : 0;
}
