/* SPDX-License-Identifier: GPL-2.0-only */
/* A CMA area as a module can see it: where it is, and which of its pages are allocated. */
#ifndef CMA_KUNIT_AREA_H
#define CMA_KUNIT_AREA_H

#include <linux/of.h>
#include <linux/types.h>

struct kunit;

#define AREA_NAME_MAX 64
#define AREAS_MAX (CONFIG_CMA_AREAS + 1)

/**
 * struct area - one CMA area
 * @name: as debugfs has it: the node's name with its unit address, or "reserved"
 * @node: its reserved-memory node, or NULL for an area made without one
 * @claimant: the "cma-harness,cma-test" node whose memory-region it is, or NULL. It is what
 *	of_reserved_mem_device_init_by_idx() wants.
 * @shared: whether it is the area of devices that claim none
 * @high: whether its pages are high memory. An area lies in one zone (cma_activate_area()).
 * @base_pfn: first page frame
 * @count: pages
 * @bitmap: the allocator's own, live: one bit a page, set while allocated. Not locked: read it
 *	while nobody allocates.
 */
struct area {
	char name[AREA_NAME_MAX];
	struct device_node *node;
	struct device_node *claimant;
	bool shared;
	bool high;
	unsigned long base_pfn;
	unsigned long count;
	const unsigned long *bitmap;
};

/**
 * struct areas - all areas of the machine
 * @area: the areas
 * @count: how many there are
 */
struct areas {
	struct area area[AREAS_MAX];
	unsigned int count;
};

int areas_find(struct areas *areas);
void areas_put(struct areas *areas);

unsigned int area_align_order(unsigned long pages);
unsigned long area_place(const struct area *area, unsigned long pages, unsigned long from);
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
