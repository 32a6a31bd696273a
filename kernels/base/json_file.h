/* json_file.h - a JSON object read from a file that may be anything. */
#ifndef SAMEBIT_JSON_FILE_H
#define SAMEBIT_JSON_FILE_H

#include <jansson.h>

#include "kernels/base/error.h"

enum json_file_flags {
    JSON_FILE_OPTIONAL = 1,
    JSON_FILE_NO_DUPLICATES = 2,
    JSON_FILE_ANY = 8,    /* a list too */
    JSON_FILE_PYTHON = 4, /* as Python's json reads it, see json_python.h */
};

/* Returns the object in FOLDER/NAME (folder may be NULL); the caller owns it.  NULL with an error
 * (400) that names the path, the line and what is wrong, also for a folder, a list, or a file over
 * 100 MB; 500 where there is no memory.  NULL without an error for an optional file that is not there.  If a key comes twice the
 * last one counts, unless the flags refuse that.  err must not be NULL. */
json_t *json_file_read(const char *folder, const char *name, unsigned flags, struct error *err);

#endif
