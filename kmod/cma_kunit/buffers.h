/* SPDX-License-Identifier: GPL-2.0-only */
/* What every case works with: a device, the area it allocates from, buffers and pins. */
#ifndef CMA_KUNIT_BUFFERS_H
#define CMA_KUNIT_BUFFERS_H

#include <kunit/test.h>
#include <linux/dma-mapping.h>
#include <linux/list.h>
#include <linux/pfn.h>
#include <linux/platform_device.h>

#include "area.h"
#include "audit.h"
#include "memory.h"

/* Every allocation that may fail on purpose: no message, and no warning from the page allocator. */
#define GFP_QUIET (GFP_KERNEL | __GFP_NOWARN)

/* A measurement, as a diagnostic line "# name: value unit". */
#define metric(test, name, value, unit)					\
	kunit_log(KERN_INFO, test, KUNIT_SUBTEST_INDENT "# %s: %llu %s\n",	\
		  name, (unsigned long long)(value), unit)

/**
 * struct fixture - the state of one case
 * @areas: all areas
 * @area: the one under test; NULL in the suite that is about all of them
 * @before: the bitmap of @area when the case began
 * @pdev: a device that allocates from @area
 * @devices: one for each area, where a case needs them
 * @buffers: live buffers, the latest first
 * @pins: pinned ranges, the latest first
 * @filler: pages of the page allocator, to fill memory with
 * @lent: movable pages of the page allocator
 * @shortage: while the two lists may hold all of memory
 * @audit: what was true when the case began
 * @ready: whether the case could begin
 */
struct fixture {
	struct areas areas;
	struct area *area;
	const unsigned long *before;
	struct platform_device *pdev;
	struct platform_device *devices[AREAS_MAX];
	struct list_head buffers;
	struct list_head pins;
	struct list_head filler;
	struct list_head lent;
	struct shortage shortage;
	struct audit audit;
	bool ready;
};

/**
 * struct buffer - one live DMA buffer
 * @node: in fixture.buffers
 * @cpu: its kernel address
 * @dma: its bus address
 * @size: bytes asked for
 * @attrs: DMA_ATTR_*
 */
struct buffer {
	struct list_head node;
	void *cpu;
	dma_addr_t dma;
	size_t size;
	unsigned long attrs;
};

int device_get(struct platform_device **pdev, const struct area *area);
void device_put(struct platform_device *pdev);

struct buffer *buffer_get_attrs(struct kunit *test, size_t size, gfp_t gfp, unsigned long attrs);
struct buffer *buffer_get(struct kunit *test, size_t size);
void buffer_put(struct kunit *test, struct buffer *buf);
void buffer_put_all(struct kunit *test);
unsigned long buffer_fill_area(struct kunit *test);
unsigned long buffer_pfn(struct kunit *test, const struct buffer *buf);
unsigned long buffer_first_outside(struct kunit *test, const struct buffer *buf);
unsigned long buffer_first_stray(struct kunit *test, const struct buffer *buf);

struct pin *pin_get(struct kunit *test, unsigned long pfn, unsigned long pages);
void pin_put(struct pin *pin);
void pin_put_all(struct kunit *test);

void frames_fill(unsigned long pfn, unsigned long pages, u8 value);
unsigned long frames_unlike(unsigned long pfn, unsigned long pages, u8 value);

static inline unsigned long buffer_pages(const struct buffer *buf)
{
	return PAGE_ALIGN(buf->size) >> PAGE_SHIFT;
}

#endif /* CMA_KUNIT_BUFFERS_H */
