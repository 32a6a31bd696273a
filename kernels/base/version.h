/* version.h - what --version says and every reply states. */
#ifndef SAMEBIT_VERSION_H
#define SAMEBIT_VERSION_H

#define SAMEBIT_VERSION "0.1.0"

#endif
