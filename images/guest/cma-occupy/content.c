// SPDX-License-Identifier: GPL-2.0-only
/* Filling the pages that are held, and looking whether they still hold it. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include "occupant.h"

#include <unistd.h>

#include "pattern.h"
#include "report.h"

void pages_fill(const struct occupant *o, uint32_t seed)
{
	for (size_t i = 0; i < o->count; i++)
		page_fill(o->map + i * PAGE, seed, i);
}

void pages_write(const struct occupant *o, uint32_t seed)
{
	uint32_t page[PAGE_WORDS];

	for (size_t i = 0; i < o->count; i++) {
		page_fill(page, seed, i);
		if (pwrite(o->fd, page, PAGE, (off_t)i * PAGE) != (ssize_t)PAGE)
			die("pwrite");
	}
}

/* A page as its holder sees it; @buffer is for one that is not mapped. */
const void *page_of(const struct occupant *o, size_t index, void *buffer)
{
	if (o->map)
		return o->map + index * PAGE;
	if (pread(o->fd, buffer, PAGE, (off_t)index * PAGE) != (ssize_t)PAGE)
		die("pread");
	return buffer;
}

/* Bring each page in by reading it. */
void pages_touch(const struct occupant *o)
{
	uint32_t buffer[PAGE_WORDS];

	for (size_t i = 0; i < o->count; i++)
		*(volatile const uint32_t *)page_of(o, i, buffer);
}

void contents_check(const struct occupant *o, struct contents *found)
{
	uint32_t buffer[PAGE_WORDS];

	*found = (struct contents){ .first = -1, .holds = -1 };
	for (size_t i = 0; i < o->count; i++) {
		const uint32_t *page = page_of(o, i, buffer);

		if (page_holds(page, o->seed, i))
			continue;
		if (page_zero(page))
			found->zero++;
		else
			found->bad++;
		if (found->first >= 0)
			continue;
		found->first = i;
		if (page_holds(page, o->seed, page[0]))
			found->holds = page[0];
	}
}
