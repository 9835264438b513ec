/* SPDX-License-Identifier: GPL-2.0-only */
/* What the tracepoints of mm/cma.c say, heard inside the kernel. */
#ifndef CMA_KUNIT_TRACE_H
#define CMA_KUNIT_TRACE_H

#include <linux/types.h>

enum cma_event_kind {
	CMA_START,
	CMA_RETRY,
	CMA_FINISH,
	CMA_RELEASE,
};

/**
 * struct cma_event - one event of one area
 * @kind: which tracepoint
 * @name: of the area; the allocator's own string
 * @pfn: first page frame; not of CMA_START
 * @count: pages
 * @align: order asked for; not of CMA_RELEASE
 * @error: of CMA_FINISH: 0 or a negative errno
 * @given: of CMA_FINISH: whether there are pages
 */
struct cma_event {
	enum cma_event_kind kind;
	const char *name;
	unsigned long pfn;
	unsigned long count;
	unsigned int align;
	int error;
	bool given;
};

/**
 * struct cma_totals - how many events there were since trace_start()
 * @starts: allocations asked for
 * @given: those that ended with pages
 * @refused: those that ended without
 * @retries: places that were busy
 * @releases: pages given back
 */
struct cma_totals {
	unsigned long starts;
	unsigned long given;
	unsigned long refused;
	unsigned long retries;
	unsigned long releases;
};

void trace_start(void);
void trace_stop(void);
bool trace_heard(void);

struct cma_totals trace_totals(void);
unsigned int trace_mark(void);
const struct cma_event *trace_event(unsigned int position);

#endif /* CMA_KUNIT_TRACE_H */
