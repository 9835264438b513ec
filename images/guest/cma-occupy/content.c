// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the pages hold: their index and seed, and words made of both and of the word's place, so
 * that a page which is somewhere else, older, shifted or torn is told from one that is right.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include "occupant.h"

#include <string.h>
#include <unistd.h>

#include "report.h"

#define WORDS (PAGE / sizeof(uint32_t))

/* One round of a multiplicative hash (the constant is 2^32 / golden ratio). */
static uint32_t mix(uint32_t value)
{
	value *= 0x9e3779b1;
	return value ^ value >> 15;
}

static uint32_t word(uint32_t seed, uint32_t index, uint32_t place)
{
	switch (place) {
	case 0:
		return index;
	case 1:
		return seed;
	default:
		return mix(mix(seed ^ index) + place);
	}
}

void page_fill(void *page, uint32_t seed, uint32_t index)
{
	uint32_t *words = page;

	for (uint32_t i = 0; i < WORDS; i++)
		words[i] = word(seed, index, i);
}

bool page_holds(const void *page, uint32_t seed, uint32_t index)
{
	const uint32_t *words = page;

	for (uint32_t i = 0; i < WORDS; i++)
		if (words[i] != word(seed, index, i))
			return false;
	return true;
}

static bool page_zero(const void *page)
{
	const uint32_t *words = page;

	for (uint32_t i = 0; i < WORDS; i++)
		if (words[i])
			return false;
	return true;
}

void pages_fill(const struct occupant *o)
{
	for (size_t i = 0; i < o->count; i++)
		page_fill(o->map + i * PAGE, o->seed, i);
}

void pages_write(const struct occupant *o, uint32_t seed)
{
	uint32_t page[WORDS];

	for (size_t i = 0; i < o->count; i++) {
		page_fill(page, seed, i);
		if (pwrite(o->fd, page, PAGE, (off_t)i * PAGE) != (ssize_t)PAGE)
			die("pwrite");
	}
}

/* A page as its holder sees it; @buffer is for one that is not mapped. */
static const void *page_of(const struct occupant *o, size_t index, void *buffer)
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
	uint32_t buffer[WORDS];

	for (size_t i = 0; i < o->count; i++)
		*(volatile const uint32_t *)page_of(o, i, buffer);
}

void contents_check(const struct occupant *o, struct contents *found)
{
	uint32_t buffer[WORDS];

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
