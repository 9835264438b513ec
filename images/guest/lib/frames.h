/* SPDX-License-Identifier: GPL-2.0-only */
/* Page frames: which one is behind an address, and what the kernel says of it. Needs root. */
#ifndef FRAMES_H
#define FRAMES_H

#include <stddef.h>
#include <stdint.h>

#define PAGE 4096UL
#define NO_FRAME UINT64_MAX	/* nothing there, or swapped out */

/* The frames behind @count pages at @start, of this process; mapped pages only. */
void frames_of(const void *start, size_t count, uint64_t *pfns);

/* What /proc/kpageflags says of @count frames from @first; bits are KPF_*. */
void frames_flags(uint64_t first, size_t count, uint64_t *flags);

#endif
