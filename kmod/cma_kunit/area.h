/* SPDX-License-Identifier: GPL-2.0-only */
/* A CMA area as a module can see it: where it is, and which of its pages are allocated. */
#ifndef CMA_KUNIT_AREA_H
#define CMA_KUNIT_AREA_H

#include <linux/of.h>
#include <linux/types.h>

struct kunit;

#define AREA_NAME_MAX 64

/**
 * struct area - one CMA area
 * @name: as debugfs has it: the node's name with its unit address, or "reserved"
 * @node: its reserved-memory node, or NULL for an area made without one
 * @base_pfn: first page frame
 * @count: pages
 * @bitmap: the allocator's own, live: one bit a page, set while allocated. Not locked: read it
 *	while nobody allocates.
 */
struct area {
	char name[AREA_NAME_MAX];
	struct device_node *node;
	unsigned long base_pfn;
	unsigned long count;
	const unsigned long *bitmap;
};

int area_find_default(struct area *area);
int area_find_private(struct area *area, struct device_node **claimant);
void area_put(struct area *area);

unsigned long area_used(const struct area *area);
bool area_fits(const struct area *area, unsigned long pages);
unsigned long area_largest(const struct area *area);
unsigned long *area_snapshot(struct kunit *test, const struct area *area);
bool area_unchanged(const struct area *area, const unsigned long *snapshot);

/* Whether the page frame belongs to the area. */
static inline bool area_holds(const struct area *area, unsigned long pfn)
{
	return pfn >= area->base_pfn && pfn - area->base_pfn < area->count;
}

#endif /* CMA_KUNIT_AREA_H */
