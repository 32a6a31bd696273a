/* hashes.c - see hashes.h. */
#include "server/http/hashes.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 32 * 1024 };

struct piece {
    struct piece *next;
    size_t size;
    unsigned char bytes[HASHES_PIECE];
};

struct value {
    EVP_MD_CTX *context;        /* made when first needed, and kept */
    struct piece *first, *last; /* brought and not hashed */
    int begun;                  /* a piece of it was queued */
    int ended;                  /* no more pieces come */
    int busy;                   /* a thread has it */
    int done;                   /* out is there */
    unsigned char out[HASHES_BYTES];
};

struct hashes {
    EVP_MD *sha256;
    pthread_mutex_t lock;
    pthread_cond_t work, done; /* for the threads; for the caller */
    pthread_t *threads;
    int most, started, stopping, failed;
    struct piece *free; /* was used, can be again */
    int pieces, pieces_most;
    struct piece *open; /* the caller's own: being filled */
    /* Values are counted; number n is value[n % HASHES_VALUES]. */
    int64_t taken, ended;
    struct value value[HASHES_VALUES];
};

static struct value *value_at(struct hashes *h, int64_t n)
{
    return &h->value[n % HASHES_VALUES];
}

/* ---- hashing: by whoever has the value ---- */

static int start(const struct hashes *h, struct value *v)
{
    if (!v->context)
        v->context = EVP_MD_CTX_new();
    return v->context && EVP_DigestInit_ex(v->context, h->sha256, NULL) ? 0 : -1;
}

static int finish(struct value *v)
{
    return EVP_DigestFinal_ex(v->context, v->out, NULL) ? 0 : -1;
}

static int hash(const struct value *v, const struct piece *p)
{
    return EVP_DigestUpdate(v->context, p->bytes, p->size) ? 0 : -1;
}

/* ---- the threads ---- */

/* The oldest value that has something to hash and no thread. */
static struct value *pick(struct hashes *h)
{
    for (int64_t n = h->taken; n <= h->ended && n < h->taken + HASHES_VALUES; n++) {
        struct value *v = value_at(h, n);

        if (!v->busy && v->first)
            return v;
    }
    return NULL;
}

/* With the lock held, but for the hashing itself. */
static void hash_next(struct hashes *h, struct value *v)
{
    struct piece *p = v->first;
    int failed;

    v->busy = 1;
    v->first = p->next;
    pthread_mutex_unlock(&h->lock);
    failed = hash(v, p);
    pthread_mutex_lock(&h->lock);
    v->busy = 0;
    p->next = h->free;
    h->free = p;
    if (v->ended && !v->first) {
        failed |= finish(v);
        v->done = 1;
    }
    h->failed |= failed;
    pthread_cond_signal(&h->done);
}

static void *hash_values(void *user)
{
    struct hashes *h = user;
    struct value *v;

    pthread_mutex_lock(&h->lock);
    while (!h->stopping) {
        v = pick(h);
        if (v)
            hash_next(h, v);
        else
            pthread_cond_wait(&h->work, &h->lock);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

static int start_threads(struct hashes *h, struct error *err)
{
    for (; h->started < h->most; h->started++)
        if (pthread_create(&h->threads[h->started], NULL, hash_values, h))
            return h->started ? 0 : error_set(err, 503, "no thread for the digests");
    return 0;
}

/* ---- the caller ---- */

static int trouble(struct error *err)
{
    return error_set(err, 500, "SHA-256 failed in libcrypto");
}

/* A piece to fill: a new one, or one that was hashed. */
static int open_piece(struct hashes *h, struct error *err)
{
    pthread_mutex_lock(&h->lock);
    while (!h->free && h->pieces == h->pieces_most)
        pthread_cond_wait(&h->done, &h->lock);
    h->open = h->free;
    if (h->open)
        h->free = h->open->next;
    pthread_mutex_unlock(&h->lock);
    if (!h->open) {
        h->open = malloc(sizeof(*h->open));
        if (!h->open)
            return error_set(err, 500, "no memory for the digests");
        h->pieces++;
    }
    h->open->size = 0;
    return 0;
}

/* Gives the open piece, if any, to the threads. */
static int queue(struct hashes *h, int ended, struct error *err)
{
    struct value *v = value_at(h, h->ended);
    struct piece *p = h->open;

    if (start_threads(h, err))
        return -1;
    if (!v->begun && start(h, v))
        return trouble(err);
    h->open = NULL;
    p->next = NULL;
    pthread_mutex_lock(&h->lock);
    v->begun = 1;
    v->ended = ended;
    *(v->first ? &v->last->next : &v->first) = p;
    v->last = p;
    h->ended += ended;
    pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->lock);
    return 0;
}

int hashes_add(struct hashes *h, const void *bytes, size_t size, struct error *err)
{
    while (size) {
        size_t n;

        if (h->open && h->open->size == HASHES_PIECE && queue(h, 0, err))
            return -1;
        if (!h->open && open_piece(h, err))
            return -1;
        n = HASHES_PIECE - h->open->size < size ? HASHES_PIECE - h->open->size : size;
        memcpy(h->open->bytes + h->open->size, bytes, n);
        h->open->size += n;
        bytes = (const char *)bytes + n;
        size -= n;
    }
    return 0;
}

int hashes_end(struct hashes *h, struct error *err)
{
    struct value *v = value_at(h, h->ended);

    if (!h->open && open_piece(h, err))
        return -1;
    if (v->begun || h->open->size > SMALL)
        return queue(h, 1, err);
    if (start(h, v) || hash(v, h->open) || finish(v))
        return trouble(err);
    h->open->size = 0;
    pthread_mutex_lock(&h->lock);
    v->ended = v->done = 1;
    h->ended++;
    pthread_mutex_unlock(&h->lock);
    return 0;
}

int hashes_take(struct hashes *h, int wait, unsigned char out[HASHES_BYTES], struct error *err)
{
    struct value *v = value_at(h, h->taken);
    int rc = 0;

    pthread_mutex_lock(&h->lock);
    while (wait && h->taken < h->ended && !v->done)
        pthread_cond_wait(&h->done, &h->lock);
    if (h->failed) {
        rc = trouble(err);
    } else if (v->done) {
        memcpy(out, v->out, HASHES_BYTES);
        v->begun = v->ended = v->done = 0;
        h->taken++;
        rc = 1;
    }
    pthread_mutex_unlock(&h->lock);
    return rc;
}

/* ---- making and freeing ---- */

struct hashes *hashes_create(int threads, struct error *err)
{
    struct hashes *h = calloc(1, sizeof(*h));

    if (h) {
        pthread_mutex_init(&h->lock, NULL);
        pthread_cond_init(&h->work, NULL);
        pthread_cond_init(&h->done, NULL);
        h->most = threads;
        h->pieces_most = threads * HASHES_PIECES;
        h->threads = calloc((size_t)threads, sizeof(*h->threads));
        h->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    }
    if (h && h->threads && h->sha256)
        return h;
    error_set(err, 500, "no memory for the digests, or no SHA-256 in libcrypto");
    hashes_free(h);
    return NULL;
}

static void free_pieces(struct piece *p)
{
    while (p) {
        struct piece *next = p->next;

        free(p);
        p = next;
    }
}

void hashes_free(struct hashes *h)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    h->stopping = 1;
    pthread_cond_broadcast(&h->work);
    pthread_mutex_unlock(&h->lock);
    for (int i = 0; i < h->started; i++)
        pthread_join(h->threads[i], NULL);
    for (int i = 0; i < HASHES_VALUES; i++) {
        EVP_MD_CTX_free(h->value[i].context);
        free_pieces(h->value[i].first);
    }
    free_pieces(h->free);
    free(h->open);
    EVP_MD_free(h->sha256);
    pthread_cond_destroy(&h->work);
    pthread_cond_destroy(&h->done);
    pthread_mutex_destroy(&h->lock);
    free(h->threads);
    free(h);
}
