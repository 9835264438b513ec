/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Making memory short everywhere but in one area, so that movable pages go there.
 *
 * The page allocator takes movable pages from CMA before anything else while CMA has over half of
 * a zone's free memory (__rmqueue() in mm/page_alloc.c), and else when there is nothing left. So
 * what does not belong to CMA is taken by buffers of the system dma-buf heap, whose pages are never
 * movable and therefore never from CMA, and the free pages of the other areas by their debugfs
 * files. Both are fast: nothing is copied, and pages are zeroed once.
 */
#ifndef SHORTAGE_H
#define SHORTAGE_H

#include <stddef.h>
#include <stdint.h>

#include "areas.h"

/*
 * Leave @margin bytes of free low memory outside CMA, and of CMA nothing but @keep (NULL: no area is
 * taken). Of high memory at most small pieces are left, which movable pages are taken from behind
 * CMA. Ends the program, letting go of all, when that cannot be.
 */
void shortage_begin(const struct area *areas, size_t count, const struct area *keep,
		    uint64_t margin);

/* Give all of it back; without a shortage nothing happens. */
void shortage_end(void);

/* In a child that was forked meanwhile: what it inherited is not to outlive the shortage. */
void shortage_disown(void);

#endif
