/* tls.h - the certificate that the daemon shows, read again while it runs.
 *
 * One a process: the library asks for it without saying for whom. */
#ifndef SAMEBIT_TLS_H
#define SAMEBIT_TLS_H

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

#include "kernels/base/error.h"

/* PEM files: the certificate with those that vouch for it, and its key.  Called again it takes their
 * new content for connections that begin then.  -1: what was taken before stays.  Errors name the
 * file. */
int tls_load(const char *certificate, const char *key, struct error *err);

/* A gnutls_certificate_retrieve_function2. */
int tls_retrieve(gnutls_session_t session, const gnutls_datum_t *names, int name_count,
                 const gnutls_pk_algorithm_t *algorithms, int algorithm_count,
                 gnutls_pcert_st **chain, unsigned *count, gnutls_privkey_t *key);

#endif
