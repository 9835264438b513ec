/* SPDX-License-Identifier: GPL-2.0-only */
/* What must be true of every area and zone when a case is over, whatever it was about. */
#ifndef CMA_KUNIT_AUDIT_H
#define CMA_KUNIT_AUDIT_H

#include <linux/list.h>

#include "area.h"
#include "trace.h"

/**
 * struct pin - pages that cannot be moved, as a driver that pins user memory leaves them
 * @node: in a list of pins
 * @pfn: first page frame
 * @pages: how many
 */
struct pin {
	struct list_head node;
	unsigned long pfn;
	unsigned long pages;
};

/**
 * struct cma_vm_events - the allocator's counters in /proc/vmstat
 * @given: cma_alloc_success
 * @refused: cma_alloc_fail
 */
struct cma_vm_events {
	unsigned long given;
	unsigned long refused;
};

/**
 * struct audit - what was true before a case
 * @bitmap: of each area
 * @events: the counters of /proc/vmstat
 * @totals: what the tracepoints had said
 */
struct audit {
	const unsigned long *bitmap[AREAS_MAX];
	struct cma_vm_events events;
	struct cma_totals totals;
};

struct cma_vm_events vm_events_read(struct kunit *test);
void audit_begin(struct kunit *test, struct audit *audit, const struct areas *areas);
void audit_end(struct kunit *test, const struct audit *audit, const struct areas *areas);
void audit_pages(struct kunit *test, const struct areas *areas, const struct list_head *pins);

#endif /* CMA_KUNIT_AUDIT_H */
