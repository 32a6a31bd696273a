/* json_memory.h - jansson where memory is short.
 *
 * Where it has none while it reads a text, it says that the text is wrong, or drops a byte of a name or a
 * number and goes on, or ends the process.  A text that it
 * writes then lacks a part.  So JSON is read by json_memory_read and written by json_memory_text, and nowhere
 * by jansson's own json_load* and json_dumps. */
#ifndef SAMEBIT_JSON_MEMORY_H
#define SAMEBIT_JSON_MEMORY_H

#include <jansson.h>
#include <stddef.h>

/* From now on jansson takes its memory from allocate, as malloc; it is given back by free.  Once, before
 * threads are started and JSON is read. */
void json_memory_watch(void *(*allocate)(size_t size));

/* As json_loadb; fault may be NULL.  Also NULL where memory was refused meanwhile; then json_memory_failed()
 * is true, and fault->text says so.  For as long as it reads, 16 times the text is reserved, and not touched
 * unless memory is refused. */
json_t *json_memory_read(const char *text, size_t size, size_t flags, json_error_t *fault);

/* As json_dumps: the caller frees it.  NULL where memory was refused meanwhile: jansson leaves a part out then. */
char *json_memory_text(const json_t *value, size_t flags);

/* Returns whether this thread was refused memory since it asked last. */
int json_memory_failed(void);

#endif
