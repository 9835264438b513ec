// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the C library would do with NEON, without it.
 *
 * A process that has used VFP or NEON runs with both on, in the kernel too, and that is another
 * kernel to QEMU: each of its blocks is translated once with FPEXC.EN set and once without (TB
 * flag VFPEN, target/arm/helper.c), as other tasks run it. Of a fresh guest's work a quarter was
 * such second translations.
 */
#pragma GCC optimize("no-tree-loop-distribute-patterns")

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
	const unsigned char *source = from;
	unsigned char *target = to;

	while (size--)
		*target++ = *source++;
	return to;
}

void *memchr(const void *where, int wanted, size_t size)
{
	const unsigned char *at = where;

	for (; size; size--, at++)
		if (*at == (unsigned char)wanted)
			return (void *)at;
	return NULL;
}
