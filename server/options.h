/* options.h - samebitd's command line. */
#ifndef SAMEBIT_OPTIONS_H
#define SAMEBIT_OPTIONS_H

#include <stdio.h>

#include "kernels/base/error.h"
#include "server/engine/engine.h"

struct options {
    struct engine_options engine;
    const char *config;            /* a file, or NULL: all defaults */
    const char *listen;            /* NULL: the configuration's */
    const char *tokens;            /* the file of who may ask; NULL: nobody is asked for one */
    const char *certificate, *key; /* of TLS; both or none */
    int insecure;
    int verbose;
    int help, version;
    int which_numerics;           /* asks what PyTorch computes on this machine; needs no model */
    const char *python;           /* whose torch is asked too; NULL: none */
    const char *probe;            /* what it is asked with: configs/probe_torch.py */
    int host_numerics;            /* --numerics host */
    struct torch_host torch_host; /* what engine.torch_host points to */
    char notice[512];             /* what engine.notice points to */
    /* What config, families and probe point to by default. */
    char config_found[4096], families_found[4096], probe_found[4096];
};

/* Borrows from argv; engine.numerics is NULL where none is named (choose.h).  Errors name the option.  What is not given is looked up: configs/ in the
 * working directory, then beside the folders that the program lies in. */
int options_parse(int argc, char **argv, struct options *out, struct error *err);

/* What --help says. */
void options_help(FILE *to);

#endif
