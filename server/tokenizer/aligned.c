/* aligned.c - see aligned.h. */
#include "server/tokenizer/aligned.h"

struct aligned aligned_begin(struct buffer *out, size_t zero)
{
    return (struct aligned){.out = out, .from = out->size, .zero = zero};
}

void aligned_put(struct aligned *a, const char *bytes, size_t size, size_t at)
{
    buffer_append(a->out, bytes, size);
    if (at < a->zero)
        a->zero_out = a->out->size - a->from;
}

void aligned_copy(struct aligned *a, const char *text, size_t at, size_t size)
{
    size_t first = at < a->zero ? a->zero - at : 0;

    if (first > size)
        first = size;
    if (first)
        aligned_put(a, text + at, first, at);
    buffer_append(a->out, text + at + first, size - first);
}
