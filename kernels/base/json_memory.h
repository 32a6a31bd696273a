/* json_memory.h - whether jansson had no memory.
 *
 * Where it has none while it reads a text, it says that the text is wrong. */
#ifndef SAMEBIT_JSON_MEMORY_H
#define SAMEBIT_JSON_MEMORY_H

#include <stddef.h>

/* From now on jansson takes its memory from allocate, as malloc; it is given back by free.  Once, before
 * threads are started and JSON is read. */
void json_memory_watch(void *(*allocate)(size_t size));

/* Returns whether this thread was refused memory since it asked last. */
int json_memory_failed(void);

#endif
