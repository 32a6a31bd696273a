/* engine.h - an opened model: everything that is immutable and shared by all requests. */
#ifndef SAMEBIT_ENGINE_H
#define SAMEBIT_ENGINE_H

#include "kernels/backend.h"
#include "server/engine/notices.h"
#include "server/engine/program.h"
#include "server/model/family.h"
#include "server/model/hf_config.h"
#include "server/tokenizer/tokenizer.h"
#include "server/model/weights.h"

struct engine_options {
    const char *folder;   /* Hugging Face folder, or an entry of the hub's cache */
    const char *families; /* configs/families */
    const char *device;   /* "cpu", "cuda:0" */
    const struct numerics *numerics;
    enum attention attention; /* where a request names none; ATTENTION_COUNT: sdpa, or eager under
                                 numerics that have no sdpa */
    enum tokenizer_ids tokenizer; /* whose ids */
    const char *isa;              /* NULL: the best of this CPU */
    int threads;                  /* 0: one per core */
    int torch_threads; /* torch.get_num_threads() of the machine whose bits are wanted: where
                          numerics->of_host, and only there; else 0 */
    const struct torch_host *torch_host; /* the rest of it, where numerics->of_caches, and only
                                            there; NULL: torch_host_studied() */
    const char *notice;   /* of whoever opens it, first among engine.notices; NULL: none */
    uint64_t reuse_bytes; /* of caches kept for runs that begin alike; 0: none are */
    /* Told how far opening has come (may be NULL): a word for what is being done, and bytes. */
    progress_fn *progress;
    void *user;
};

struct prefixes;

struct engine {
    char *folder, *name; /* where config.json is; hf_folder_name of it */
    char digest[65];     /* weights_digest */
    struct notices notices;
    struct hf_config *config;
    struct family *family[ATTENTION_COUNT];
    struct weights *weights;
    struct tokenizer *tokenizer; /* NULL: there is none that can be read; ids are served */
    char tokenizer_missing[512]; /* then: why, and how to make one */
    enum tokenizer_ids tokenizer_ids;
    struct backend *backend;
    struct parameters *parameters;
    struct program *program[ATTENTION_COUNT]; /* one for each attention, of the same parameters;
                                                 NULL: the numerics have no such attention */
    struct prefixes *prefixes;                /* NULL: runs share nothing */
    enum attention attention;                 /* where a request names none */
    int64_t vocab_size;                       /* rows of the embedding */
    int64_t max_positions;                    /* max_position_embeddings */
    struct engine *ideal;                     /* private: see engine_ideal() */
};

struct engine *engine_open(const struct engine_options *options, struct error *err);
void engine_close(struct engine *e);

/* The same model under numerics "ideal", on the CPU: opened at the first call, by any thread; closed
 * with e, whose checkpoint it reads.  NULL: 503, no memory. */
struct engine *engine_ideal(struct engine *e, struct error *err);
void engine_ideal_close(struct engine *ideal); /* for engine_close */

/* Sets the machine whose bits a request wants: torch_threads (0: it names none) instead of the
 * engine's.  Errors: 400 of param "torch_threads", where the numerics depend on none. */
int engine_torch(const struct engine *e, int64_t torch_threads, struct torch_host *out,
                 struct error *err);

/* The attention of that name, or a 400 of param "attention" that lists those served. */
int engine_attention(const struct engine *e, const char *name, enum attention *out,
                     struct error *err);

#endif
