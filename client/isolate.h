/* isolate.h - which steps are at fault by themselves, when each works on the dump's own inputs. */
#ifndef SAMEBIT_CLIENT_ISOLATE_H
#define SAMEBIT_CLIENT_ISOLATE_H

#include "client/hunt.h"
#include "client/judge.h"
#include "client/profile.h"

struct isolate_row {
    const char *name; /* "step_1/model.layers.0.self_attn.q_rope"; the side's */
    const char *op;   /* the catalogue's */
    const struct safetensors_entry *theirs;
    double unit; /* of rounding, the program's */
    int wide;    /* it holds F32 numbers in a program that computes in bf16 */
    int direct;  /* all that the step reads is the dump's own */
    struct judge judge;
    struct profile
        *profile;    /* of what differs from PyTorch's, where profiles are asked for; or NULL */
    double worst[2]; /* the dump's and PyTorch's element that are farthest apart */
};

struct isolation {
    struct client *client;
    const struct hunt *hunt;
    json_t *catalogue; /* of the request's attention */
    json_t *steps;     /* name -> the catalogue's row */
    json_t *held;      /* name without its call -> array of positions in theirs */
    json_t *request;
    int profiles;             /* whether rows get a profile */
    struct isolate_row *rows; /* in order of execution */
    int count;
    int totals[JUDGE_VERDICTS];
    int misfits; /* values of the model that could not be read or have another shape: not judged */
};

/* Runs every value of the dump that the daemon knows through both numerics.  The hunt is borrowed.
 * profiles: whether rows get a profile.
 * Errors: those of the daemon; 400 where the dump holds nothing to judge. */
int isolate_open(struct isolation *x, struct client *c, const struct hunt *h, int profiles,
                 struct error *err);
void isolate_close(struct isolation *x);

/* What a value is computed from where the dump lacks it, nearest first: an array of names, the value
 * itself the first.  base: without its call. */
json_t *isolate_path(const struct isolation *x, const char *base);

/* One value computed on the dump's inputs under `numerics` (NULL: PyTorch's), with formulas (may be
 * NULL) by name; more: names of further values that formulas read.  An unnamed file that holds it;
 * NULL: failed. */
struct safetensors *isolate_ask(const struct isolation *x, const json_t *values,
                                const char *numerics, const json_t *formulas, const json_t *more,
                                struct error *err);

/* The last elements of a value, as many as theirs has: the last row where the dump holds no more. */
struct tensor isolate_part(const struct tensor *ours, const struct tensor *theirs);

int isolate_print(const struct isolation *x, int all, struct error *err);
json_t *isolate_json(const struct isolation *x);

#endif
