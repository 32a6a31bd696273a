/* torch_host.h - struct torch_host as text: "l1=48K,l2=2M,l2_ways=16,amx_fp16=0".
 *
 * The same words in options, replies and files, so that what one says another can be told. */
#ifndef SAMEBIT_TORCH_HOST_H
#define SAMEBIT_TORCH_HOST_H

#include "kernels/base/error.h"
#include "kernels/numerics.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TORCH_THREADS_MOST = 256, TORCH_HOST_TEXT = 96 };

/* Sets what the text names and leaves the rest; sizes in bytes, K (1,024) or M.  l2_sets follows from
 * l2 and l2_ways.  threads are not part of it.  Errors: 400, of param "torch-host". */
int torch_host_read(const char *text, struct torch_host *host, struct error *err);

/* All of it, but for the threads. */
void torch_host_print(const struct torch_host *host, char text[TORCH_HOST_TEXT]);

/* Whether these caches and this amx_fp16 are those of torch_host_studied(). */
int torch_host_is_studied(const struct torch_host *host);

#ifdef __cplusplus
}
#endif

#endif
