// SPDX-License-Identifier: GPL-2.0-only
/* What became of each page, by the frame it had when it was taken. */
#define _GNU_SOURCE

#include "occupant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "pattern.h"

enum fate { KEPT, MOVED, BACK, ZERO, LOST, FATES };

static const char * const names[FATES] = { "kept", "moved", "back", "zero", "lost" };

struct page {
	uint64_t frame;
	enum fate fate;
};

static int by_frame(const void *one, const void *other)
{
	const struct page *a = one, *b = other;

	return (a->frame > b->frame) - (a->frame < b->frame);
}

/* @now is where it was before it was read, which brings back what is not in memory. */
static enum fate fate_of(const struct occupant *o, size_t index, uint64_t now)
{
	uint32_t buffer[PAGE_WORDS];
	const void *page = page_of(o, index, buffer);

	if (!page_holds(page, o->seed, index))
		return page_zero(page) ? ZERO : LOST;
	if (now == NO_FRAME)
		return BACK;
	return now == o->frames[index] ? KEPT : MOVED;
}

static void print_runs_of(const struct page *pages, size_t count, enum fate fate, FILE *to)
{
	const char *comma = "";

	fprintf(to, "\"%s\": [", names[fate]);
	for (size_t i = 0, length; i < count; i += length) {
		length = 1;
		if (pages[i].fate != fate)
			continue;
		while (i + length < count && pages[i + length].fate == fate &&
		       pages[i + length].frame == pages[i].frame + length)
			length++;
		fprintf(to, "%s[%" PRIu64 ", %zu]", comma, pages[i].frame, length);
		comma = ", ";
	}
	fputc(']', to);
}

/* Of the pages that lay in the area. */
int fates_print(const struct occupant *o, FILE *to)
{
	uint64_t *now = calloc(o->count + 1, sizeof(*now));
	struct page *pages = calloc(o->count + 1, sizeof(*pages));
	size_t count = 0;

	if (!now || !pages)
		return ENOMEM;
	place_now(o, now);
	for (size_t i = 0; i < o->count; i++)
		if (o->frames[i] != NO_FRAME && inside(o, o->frames[i]))
			pages[count++] = (struct page){ o->frames[i], fate_of(o, i, now[i]) };
	qsort(pages, count, sizeof(*pages), by_frame);
	for (enum fate fate = 0; fate < FATES; fate++) {
		fputs(fate ? ", " : "{", to);
		print_runs_of(pages, count, fate, to);
	}
	fputs("}\n", to);
	free(now);
	free(pages);
	return 0;
}
