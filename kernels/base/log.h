/* log.h - one line per event on stderr. */
#ifndef SAMEBIT_LOG_H
#define SAMEBIT_LOG_H

/* Whether log_line says anything.  Called once, before the threads start; the default is silence.
 */
void log_enable(int verbose);

/* Writes one line, with the time before it, in a single write: lines of threads never mix.  Control
 * characters in it are shown as '?'. */
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
