/* page.h - a report as one HTML file that needs nothing else: no network, no other file.
 *
 * The page is client/page.html, compiled in, with a JSON object in place of @DATA@:
 *
 *   command, sides: texts, summary, same, names: of the two that are compared, findings: sentences,
 *   legend: [[verdict, text]], notes: texts, values: as page_value() makes them
 *
 * Texts may hold anything: the page shows them as text, and they cannot end the element they are in. */
#ifndef SAMEBIT_PAGE_H
#define SAMEBIT_PAGE_H

#include <jansson.h>
#include <stdio.h>

#include "client/compare.h"
#include "client/hunt.h"
#include "client/isolate.h"

/* What compare, or isolate and diagnose, found.  Objects that the caller owns; NULL when memory is out.
 * hunt: how a dump was understood, theirs its side or NULL; found: what diagnose() returns, or NULL. */
json_t *page_of_compare(const struct compare *c, const struct side *a, const struct side *b,
                        const struct hunt *hunt, const struct side *theirs);
json_t *page_of_isolation(const struct isolation *x, const json_t *found);

/* Writes the page, whole or not at all.  Errors: 400 names the file. */
int page_write(const char *path, const json_t *page, struct error *err);

/* ---- for the makers of pages ---- */

/* {"name", "verdict": "equal", "rounding", "beyond" or "missing", "word": in words, "numbers": [[key, number
 * or text]]}. */
json_t *page_value(const char *name, const char *verdict, const char *word);
void page_number(json_t *value, const char *key, double number);
void page_text(json_t *value, const char *key, const char *text);
/* "distance", "histogram", "positions" and "heads". */
void page_profile(json_t *value, const struct profile *p);
void page_worst(json_t *value, const char *index, const char *a, const char *b);

/* The lines of a text, as an array of strings.  Takes the text. */
json_t *page_lines_take(char *text);

#endif
