/* tls.c - see tls.h. */
#include "server/http/tls.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { CHAIN = 8 };

/* A handshake may still use the one before: they are kept, a few KiB for each reading. */
struct pair {
    gnutls_pcert_st chain[CHAIN];
    unsigned count;
    gnutls_privkey_t key;
    struct pair *before; /* the one that it replaces: connections may still use it */
};

static _Atomic(struct pair *) current;

static int fail(const char *path, int code, struct error *err)
{
    return error_set(err, 400, "%s: %s", path,
                     code == GNUTLS_E_FILE_ERROR ? "cannot be read" : gnutls_strerror(code));
}

static int read_key(struct pair *p, const char *path, struct error *err)
{
    gnutls_datum_t text = {0};
    int code = gnutls_load_file(path, &text);

    if (code >= 0)
        code = gnutls_privkey_init(&p->key);
    if (code >= 0)
        code = gnutls_privkey_import_x509_raw(p->key, &text, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (text.data)
        memset(text.data, 0, text.size);
    gnutls_free(text.data);
    return code < 0 ? fail(path, code, err) : 0;
}

static int read_chain(struct pair *p, const char *path, struct error *err)
{
    gnutls_datum_t text = {0};
    int code = gnutls_load_file(path, &text);

    p->count = CHAIN;
    if (code >= 0)
        code =
            gnutls_pcert_list_import_x509_raw(p->chain, &p->count, &text, GNUTLS_X509_FMT_PEM, 0);
    if (code < 0)
        p->count = 0;
    gnutls_free(text.data);
    return code < 0 ? fail(path, code, err) : 0;
}

/* Whether the key is the certificate's. */
static int check_pair(struct pair *p, const char *path, struct error *err)
{
    gnutls_pubkey_t own;
    unsigned char of_key[64], of_certificate[64];
    size_t m = sizeof(of_key), n = sizeof(of_certificate);
    int same = 0;

    if (gnutls_pubkey_init(&own) < 0)
        return error_set(err, 500, "%s: no memory", path);
    if (gnutls_pubkey_import_privkey(own, p->key, 0, 0) >= 0 &&
        gnutls_pubkey_get_key_id(own, 0, of_key, &m) >= 0 &&
        gnutls_pubkey_get_key_id(p->chain[0].pubkey, 0, of_certificate, &n) >= 0)
        same = m == n && memcmp(of_key, of_certificate, m) == 0;
    gnutls_pubkey_deinit(own);
    return same ? 0 : error_set(err, 400, "%s: not the key of the certificate", path);
}

static void pair_free(struct pair *p)
{
    for (unsigned i = 0; i < p->count; i++)
        gnutls_pcert_deinit(&p->chain[i]);
    if (p->key)
        gnutls_privkey_deinit(p->key);
    free(p);
}

int tls_load(const char *certificate, const char *key, struct error *err)
{
    struct pair *p = calloc(1, sizeof(*p));

    if (!p)
        return error_set(err, 500, "%s: no memory", certificate);
    if (read_chain(p, certificate, err) || read_key(p, key, err) || check_pair(p, key, err)) {
        pair_free(p);
        return -1;
    }
    p->before = atomic_load(&current);
    atomic_store(&current, p);
    return 0;
}

int tls_retrieve(gnutls_session_t session, const gnutls_datum_t *names, int name_count,
                 const gnutls_pk_algorithm_t *algorithms, int algorithm_count,
                 gnutls_pcert_st **chain, unsigned *count, gnutls_privkey_t *key)
{
    struct pair *p = atomic_load(&current);

    (void)session, (void)names, (void)name_count, (void)algorithms, (void)algorithm_count;
    if (!p)
        return -1;
    *chain = p->chain;
    *count = p->count;
    *key = p->key;
    return 0;
}
