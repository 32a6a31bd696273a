/* engine.h - an opened model: everything that is immutable and shared by all requests. */
#ifndef SAMEBIT_ENGINE_H
#define SAMEBIT_ENGINE_H

#include "kernels/backend.h"
#include "server/engine/program.h"
#include "server/model/family.h"
#include "server/model/hf_config.h"
#include "server/model/tokenizer.h"
#include "server/model/weights.h"

struct engine_options {
    const char *folder;   /* Hugging Face folder */
    const char *families; /* configs/families */
    const char *device;   /* "cpu" */
    enum numerics numerics;
    enum attention attention; /* where a request names none */
    const char *isa;          /* NULL: the best of this CPU */
    int threads;              /* 0: one per core */
    /* Told how far opening has come (may be NULL): a word for what is being done, and bytes. */
    progress_fn *progress;
    void *user;
};

struct engine {
    char *folder, *name; /* name: the folder's last component */
    char digest[65];     /* weights_digest */
    struct hf_config *config;
    struct family *family[ATTENTION_COUNT];
    struct weights *weights;
    struct tokenizer *tokenizer;
    struct backend *backend;
    struct parameters *parameters;
    struct program *program[ATTENTION_COUNT]; /* one for each attention, of the same parameters */
    enum attention attention;                 /* where a request names none */
    int64_t vocab_size;                       /* rows of the embedding */
    int64_t max_positions;                    /* max_position_embeddings */
};

struct engine *engine_open(const struct engine_options *options, struct error *err);
void engine_close(struct engine *e);

#endif
