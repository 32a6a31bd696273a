/* family_labels.h - what a family file says about its rows: source lines and aliases.
 *
 * A part of reading a family; see family.h for the result. */
#ifndef SAMEBIT_FAMILY_LABELS_H
#define SAMEBIT_FAMILY_LABELS_H

#include <jansson.h>

#include "server/model/family.h"

/* Returns the row of that name among the first `limit` of a section, or NULL. */
struct family_row *family_find_row(const struct family *f, enum family_section section, int limit,
                                   const char *name);
/* Sets *out to a copy of the string at `key`, which must be there. */
int family_read_text(const struct family *f, char **out, const json_t *root, const char *key,
                     struct error *err);

/* Called when the rows have been read.  family_read_mirror reads "mirror" into mirror_version,
 * mirror_file and the rows' lines; family_read_aliases reads "aliases", "layer_aliases" and
 * "modules" into their lists. */
int family_read_mirror(struct family *f, const json_t *root, struct error *err);
int family_read_aliases(struct family *f, const json_t *root, struct error *err);

#endif
