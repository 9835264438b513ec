/* SPDX-License-Identifier: GPL-2.0-only */
/* How the programs of images/guest/ end, and how they read numbers. */
#ifndef REPORT_H
#define REPORT_H

#include <stdint.h>

enum { EXIT_OK, EXIT_ERRNO, EXIT_USAGE, EXIT_DIFFERS };

/* Each ends the program after a line "PROGRAM: WHAT: ..." on standard error. */
_Noreturn void usage_error(const char *what, const char *detail);
_Noreturn void die(const char *what);
_Noreturn void die_of(int error, const char *what);

/* "ENOSPC" and the like. */
const char *errno_name(int error);

/* A decimal, 0x hexadecimal or 0 octal number; K, M and G behind it are powers of 1024. */
uint64_t number(const char *text, uint64_t max);

#endif
