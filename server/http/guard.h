/* guard.h - who may ask.
 *
 * Where there are tokens, every request but /health needs one ("Authorization: Bearer ...").  Where
 * there are none, only this machine can ask, and the danger is a web page in a browser on it: a
 * request that names another site as its Origin is refused, and one whose Host is a name that
 * anybody may have pointed at this machine (a name with a dot in it that is not listed). */
#ifndef SAMEBIT_GUARD_H
#define SAMEBIT_GUARD_H

#include "kernels/base/error.h"
#include "server/http/head.h"

struct guard;

enum { GUARD_NAMES = 16 };

struct guard_rules {
    const char *tokens;             /* a file, or NULL: none are needed */
    int open;                       /* --insecure: names are not looked at */
    int local;                      /* a unix socket: nor there */
    char hosts[GUARD_NAMES][256];   /* names of this machine; "" ends them */
    char origins[GUARD_NAMES][256]; /* "https://lab.example": pages that may ask; "" ends them */
};

struct guard *guard_create(const struct guard_rules *rules, struct error *err);
void guard_free(struct guard *g);
/* Reads the file of tokens again.  -1: it has a fault, and the old ones go on being taken. */
int guard_reload(struct guard *g, struct error *err);
/* Other names of this machine, other pages. */
void guard_names(struct guard *g, char hosts[GUARD_NAMES][256], char origins[GUARD_NAMES][256]);

/* Whether any request needs a token. */
int guard_has_tokens(const struct guard *g);
/* 0, or -1 with 401 or 403.  authorization: the header, "" for none.  *who: the token's name, or ""
 *. */
int guard_check(struct guard *g, const struct head *h, const char *path, const char *authorization,
                char who[64], struct error *err);
/* Whether pages of the origin may read replies. */
int guard_shares(struct guard *g, const char *origin);

#endif
