/* decode_parts.h - what decode.c and decode_json.c share; nobody else includes it. */
#ifndef SAMEBIT_DECODE_PARTS_H
#define SAMEBIT_DECODE_PARTS_H

#include "server/tokenizer/decode.h"
#include "server/tokenizer/replace.h"

enum decoder_kind {
    DECODE_BYTE_LEVEL,
    DECODE_BYTE_FALLBACK,
    DECODE_FUSE,
    DECODE_STRIP,
    DECODE_REPLACE,
    DECODE_METASPACE,
    DECODE_WORD_PIECE,
    DECODE_SUFFIX,
    DECODE_SPACED
};

struct decoder_stage {
    enum decoder_kind kind;
    struct replace *replace; /* DECODE_REPLACE */
    char *text;              /* STRIP, METASPACE: the character; WORD_PIECE, SUFFIX: what it says */
    size_t text_size;
    size_t start, stop; /* STRIP: how many at the two ends */
    int flag;           /* METASPACE: the first token loses it; WORD_PIECE: cleanup */
};

struct decoder {
    struct decoder_stage *stages;
    int count;
};

#endif
