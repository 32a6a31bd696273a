/* settings.h - configs/server.json: where to listen, and the limits (settings.def).
 *
 * Every key may be left out; one that is not known, or of a wrong type or size, is an error that
 * names file and key. */
#ifndef SAMEBIT_SETTINGS_H
#define SAMEBIT_SETTINGS_H

#include <stdatomic.h>
#include <stdint.h>

#include "kernels/base/error.h"
#include "server/http/guard.h"

struct settings {
    char address[128]; /* "127.0.0.1:8642", "[::1]:0"; port 0: any free one */
#define SETTING(key, otherwise, least, most, when, bounds) _Atomic int64_t key;
#include "server/http/settings.def"
#undef SETTING
    char hosts[GUARD_NAMES][256]; /* names of this machine; see guard.h */
    char origins[GUARD_NAMES][256];
};

/* path NULL: all defaults. */
int settings_read(const char *path, struct settings *out, struct error *err);

/* What may change while the daemon serves becomes as in `fresh`: the numbers that are LIVE; any thread
 * may read them meanwhile.  Appends to `kept` the keys that differ but stay, the address among them, with
 * commas between; kept has 512 bytes. */
void settings_change(struct settings *s, const struct settings *fresh, char kept[512]);

/* The numbers in the order of settings.def.  Returns the key of number i and sets *value, or NULL
 * where there are no more. */
const char *settings_number(const struct settings *s, int i, int64_t *value);

#endif
