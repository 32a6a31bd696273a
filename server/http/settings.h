/* settings.h - configs/server.json: where to listen, and the limits (settings.def).
 *
 * Every key may be left out; one that is not known, or of a wrong type or size, is an error that
 * names file and key. */
#ifndef SAMEBIT_SETTINGS_H
#define SAMEBIT_SETTINGS_H

#include <stdint.h>

#include "kernels/base/error.h"
#include "server/http/guard.h"

struct settings {
    char address[128]; /* "127.0.0.1:8642", "[::1]:0"; port 0: any free one */
#define SETTING(key, otherwise, least, most, bounds) int64_t key;
#include "server/http/settings.def"
#undef SETTING
    char hosts[GUARD_NAMES][256]; /* names of this machine; see guard.h */
    char origins[GUARD_NAMES][256];
};

/* path NULL: all defaults. */
int settings_read(const char *path, struct settings *out, struct error *err);

/* The numbers in the order of settings.def.  Returns the key of number i and sets *value, or NULL
 * where there are no more. */
const char *settings_number(const struct settings *s, int i, int64_t *value);

#endif
