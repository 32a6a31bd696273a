/* unicode_form.h - the normalization forms of Unicode, as the `tokenizers` package has them. */
#ifndef SAMEBIT_UNICODE_FORM_H
#define SAMEBIT_UNICODE_FORM_H

#include <stddef.h>

#include "kernels/base/buffer.h"
#include "kernels/base/error.h"

/* The form of a name (NFC, NFD, NFKC, NFKD), or -1. */
int unicode_form_find(const char *name);

/* Appends the text in that form.  The text is UTF-8. */
int unicode_form_run(int form, const char *text, size_t size, struct buffer *out,
                     struct error *err);

#endif
