/* files.h - a model folder's tokenizer files as one document with the layout of tokenizer.json. */
#ifndef SAMEBIT_TOKENIZER_FILES_H
#define SAMEBIT_TOKENIZER_FILES_H

#include <jansson.h>

#include "kernels/base/error.h"

struct tokenizer_files {
    json_t *file;  /* FOLDER/tokenizer.json with the added tokens that stand only in
                     tokenizer_config.json; NULL: there is no tokenizer.json */
    json_t *autos; /* what AutoTokenizer.from_pretrained(FOLDER) of transformers 5.18 builds; it may
                      be `file` itself; NULL: not known here */
    char unknown[320]; /* why `autos` is NULL */
};

/* Reads the folder.  At least one of the two is set.  Errors: 400 that says what is missing and how
 * to make it, or names the file at fault and the place in it. */
int tokenizer_files_read(const char *folder, struct tokenizer_files *out, struct error *err);
void tokenizer_files_clear(struct tokenizer_files *f);

#endif
