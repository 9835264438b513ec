/* SPDX-License-Identifier: GPL-2.0-only */
/* What the kernel shows of its CMA areas at one moment, as cma-snapshot prints it. */
#ifndef SNAPSHOT_H
#define SNAPSHOT_H

#include <stdbool.h>

/* Print it; @pages: with the flags of every page of the areas. Ends the program on an error. */
void snapshot_print(bool pages);

/* Print it, of one reading, without letting go of the CPU once that has begun. */
void snapshot_print_at_once(void);

#endif
