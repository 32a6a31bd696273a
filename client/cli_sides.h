/* cli_sides.h - what `samebit compare A B` compares: files, daemons, or one of each. */
#ifndef SAMEBIT_CLI_SIDES_H
#define SAMEBIT_CLI_SIDES_H

#include "client/cli.h"
#include "client/hunt.h"

struct cli_sides_options {
    const struct cli_ask *ask;
    const char *map; /* a file, or NULL */
};

/* What is opened: for each of A and B a file, or a client. */
struct cli_sides {
    struct client *client[2];
    struct safetensors *file[2];
    struct side *side[2];
    json_t *request; /* as asked of the daemons */
    json_t *map;
    struct hunt hunt;          /* where one is a file: how it was understood */
    const struct side *theirs; /* the dump's, one of side; or NULL */
};

/* Opens both; nothing of a run is asked for yet.  cli_sides_close() also after an error. */
int cli_sides_open(struct cli_sides *s, char **from, const struct cli_sides_options *o,
                   struct error *err);
void cli_sides_close(struct cli_sides *s);

/* Sets the sides to row `row` of the file's batch (0 where there is none), asked for and understood.
 * cli_sides_close_row() also after an error. */
int cli_sides_open_row(struct cli_sides *s, char **from, const struct cli_sides_options *o,
                       int64_t row, struct error *err);
void cli_sides_close_row(struct cli_sides *s);

/* Returns which of A and B is somebody's dump: of two files the one that samebit has not written. */
int cli_sides_dump(const struct cli_sides *s);

#endif
