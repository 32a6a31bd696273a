/* routes.h - the route table. */
#ifndef SAMEBIT_ROUTES_H
#define SAMEBIT_ROUTES_H

#include "server/http/request.h"

/* Returns 0 when a route has this method and path; else -1 with 404, or with 405 and reply->allow. */
int routes_check(const char *method, const char *path, struct reply *reply, struct error *err);

/* Returns whether a path is answered at once, however busy the server is: /health. */
int routes_is_quick(const char *path);

/* Answers a request, whatever it is: an error too is a reply. */
void routes_answer(const struct request *r, struct reply *reply);

/* The handlers, each in the file of its name. */
handler_fn health_get;
handler_fn model_get;
handler_fn values_get;
handler_fn tokenize_post;
handler_fn detokenize_post;
handler_fn trace_post;
handler_fn hypotheses_get;
handler_fn isolate_post; /* in trace.c */
handler_fn logits_post;
handler_fn generate_post;

#endif
