/* exchange.h - a request and its reply, from the first line to the last byte: its head is judged, its
 * body taken, its handler asked on a thread of answers.h, and its reply sent (response.h).
 *
 * The connection sleeps while its handler works, and while a reply's stream has nothing for it. */
#ifndef SAMEBIT_EXCHANGE_H
#define SAMEBIT_EXCHANGE_H

#include <microhttpd.h>
#include <stdatomic.h>

#include "server/http/answers.h"
#include "server/http/guard.h"
#include "server/http/guest.h"
#include "server/http/request.h"

/* What all exchanges of a daemon share; what is pointed to is borrowed. */
struct exchanges {
    struct server *server;
    struct guest_places places;
    struct guard *guard;
    struct answers *answers;
    atomic_int begun;    /* and not completed */
    atomic_int asking;   /* of these, with the threads that answer */
    atomic_int stopping; /* 1: what comes is 503 */
    atomic_llong held;   /* bytes of bodies and replies */
};

/* For MHD_start_daemon, with the exchanges as `user`: an MHD_AccessHandlerCallback. */
enum MHD_Result exchange_on_request(void *user, struct MHD_Connection *connection, const char *path,
                                    const char *method, const char *version, const char *bytes,
                                    size_t *size, void **request);
/* An MHD_RequestCompletedCallback: logs the exchange, and frees it. */
void exchange_on_completed(void *user, struct MHD_Connection *connection, void **request,
                           enum MHD_RequestTerminationCode how);

#endif
