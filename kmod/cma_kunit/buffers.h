/* SPDX-License-Identifier: GPL-2.0-only */
/* What every case works with: a device, the area it allocates from, and buffers. */
#ifndef CMA_KUNIT_BUFFERS_H
#define CMA_KUNIT_BUFFERS_H

#include <kunit/test.h>
#include <linux/dma-mapping.h>
#include <linux/list.h>
#include <linux/platform_device.h>

#include "area.h"

/* Every allocation that may fail on purpose: no message, and no warning from the page allocator. */
#define GFP_QUIET (GFP_KERNEL | __GFP_NOWARN)

/* A measurement, as a diagnostic line "# name: value unit". */
#define metric(test, name, value, unit)					\
	kunit_log(KERN_INFO, test, KUNIT_SUBTEST_INDENT "# %s: %llu %s\n",	\
		  name, (unsigned long long)(value), unit)

/**
 * struct fixture - the state of one case
 * @pdev: a device that allocates from @area
 * @area: the area under test
 * @other: an area that @pdev must never touch; its count is 0 when the board has none
 * @claimant: the device-tree node that claims the private area, or NULL in the default suite
 * @before: the area's bitmap when the case began
 * @buffers: live buffers, the latest first
 */
struct fixture {
	struct platform_device *pdev;
	struct area area;
	struct area other;
	struct device_node *claimant;
	unsigned long *before;
	struct list_head buffers;
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

struct buffer *buffer_get_attrs(struct kunit *test, size_t size, gfp_t gfp, unsigned long attrs);
struct buffer *buffer_get(struct kunit *test, size_t size);
void buffer_put(struct kunit *test, struct buffer *buf);
void buffer_put_all(struct kunit *test);
unsigned long buffer_fill_area(struct kunit *test);
unsigned long buffer_pfn(struct kunit *test, const struct buffer *buf);
unsigned long buffer_first_outside(struct kunit *test, const struct buffer *buf);
unsigned long buffer_first_stray(struct kunit *test, const struct buffer *buf);

static inline unsigned long buffer_pages(const struct buffer *buf)
{
	return PAGE_ALIGN(buf->size) >> PAGE_SHIFT;
}

#endif /* CMA_KUNIT_BUFFERS_H */
