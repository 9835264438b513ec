// SPDX-License-Identifier: GPL-2.0-only
/* Devices, buffers and pins of a case: taken, looked at, and given back whatever happens. */

#include <linux/dma-direct.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/of_reserved_mem.h>
#include <linux/pfn.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "buffers.h"
#include "cma_compat.h"

/*
 * A device that allocates from the area. It has no device-tree node, or the driver of the
 * claimant's node (cma_test) would bind to it; the area is handed to it by the claimant's node
 * instead.
 */
int device_get(struct platform_device **pdev, const struct area *area)
{
	struct platform_device *new;
	int ret;

	new = platform_device_register_simple("cma_kunit", PLATFORM_DEVID_AUTO, NULL, 0);
	if (IS_ERR(new))
		return PTR_ERR(new);
	ret = dma_coerce_mask_and_coherent(&new->dev, DMA_BIT_MASK(32));
	if (!ret && !area->shared)
		ret = of_reserved_mem_device_init_by_idx(&new->dev, area->claimant, 0);
	if (ret)
		platform_device_unregister(new);
	else
		*pdev = new;
	return ret;
}

void device_put(struct platform_device *pdev)
{
	of_reserved_mem_device_release(&pdev->dev);
	platform_device_unregister(pdev);
}

/* Allocate @size bytes; NULL when the DMA API has none. */
struct buffer *buffer_get_attrs(struct kunit *test, size_t size, gfp_t gfp, unsigned long attrs)
{
	struct fixture *fix = test->priv;
	struct buffer *buf = kzalloc(sizeof(*buf), GFP_KERNEL);

	KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, buf, "no memory for the test");
	buf->size = size;
	buf->attrs = attrs;
	buf->cpu = dma_alloc_attrs(&fix->pdev->dev, size, &buf->dma, gfp, attrs);
	if (!buf->cpu) {
		kfree(buf);
		return NULL;
	}
	list_add(&buf->node, &fix->buffers);
	return buf;
}

struct buffer *buffer_get(struct kunit *test, size_t size)
{
	return buffer_get_attrs(test, size, GFP_QUIET, 0);
}

void buffer_put(struct kunit *test, struct buffer *buf)
{
	struct fixture *fix = test->priv;

	list_del(&buf->node);
	dma_free_attrs(&fix->pdev->dev, buf->size, buf->cpu, buf->dma, buf->attrs);
	kfree(buf);
}

void buffer_put_all(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct buffer *buf, *next;

	list_for_each_entry_safe(buf, next, &fix->buffers, node)
		buffer_put(test, buf);
}

/*
 * Allocate until not one more page can be had, in buffers of 1 << @order pages, then of each lower
 * order. Returns the pages taken.
 */
static unsigned long buffer_fill_area_by(struct kunit *test, int order)
{
	unsigned long taken = 0;

	for (; order >= 0; order--)
		while (buffer_get(test, PAGE_SIZE << order))
			taken += 1UL << order;
	return taken;
}

/* Allocate until not one more page can be had, from the largest order the area can hold. */
unsigned long buffer_fill_area(struct kunit *test)
{
	struct fixture *fix = test->priv;

	return buffer_fill_area_by(test, get_order(fix->area->count << PAGE_SHIFT));
}

/* The first page frame of the buffer, from its bus address. */
unsigned long buffer_pfn(struct kunit *test, const struct buffer *buf)
{
	struct fixture *fix = test->priv;

	return PHYS_PFN(dma_to_phys(&fix->pdev->dev, buf->dma));
}

/* The index of the first page that is not one of the area's, or the number of pages. */
unsigned long buffer_first_outside(struct kunit *test, const struct buffer *buf)
{
	struct fixture *fix = test->priv;
	unsigned long pfn = buffer_pfn(test, buf);
	unsigned long i = 0;

	while (i < buffer_pages(buf) && area_holds(fix->area, pfn + i))
		i++;
	return i;
}

/*
 * The index of the first page whose kernel address does not lead to the page frame that the bus
 * address promises, or the number of pages. A buffer in high memory has a mapping of its own, made
 * page by page; one in low memory is used through the kernel's linear map, which proves that the
 * two addresses belong together but cannot prove more.
 */
unsigned long buffer_first_stray(struct kunit *test, const struct buffer *buf)
{
	unsigned long first = buffer_pfn(test, buf);
	unsigned long i;

	for (i = 0; i < buffer_pages(buf); i++) {
		void *page = buf->cpu + i * PAGE_SIZE;
		unsigned long pfn = is_vmalloc_addr(page) ? vmalloc_to_pfn(page)
							  : page_to_pfn(virt_to_page(page));

		if (pfn != first + i)
			break;
	}
	return i;
}

/*
 * Take pages away by their page frames, past the area's bitmap: to the allocator they are pages
 * that somebody uses and that cannot be migrated. It fails the case if they are not free.
 */
struct pin *pin_get(struct kunit *test, unsigned long pfn, unsigned long pages)
{
	struct fixture *fix = test->priv;
	struct pin *pin = kzalloc(sizeof(*pin), GFP_KERNEL);
	int ret;

	KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, pin, "no memory for the test");
	ret = contig_get(pfn, pfn + pages, true, GFP_QUIET);
	if (ret)
		kfree(pin);
	KUNIT_ASSERT_EQ_MSG(test, ret, 0, "%lu free pages from %#lx on", pages, pfn);
	pin->pfn = pfn;
	pin->pages = pages;
	list_add(&pin->node, &fix->pins);
	return pin;
}

void pin_put(struct pin *pin)
{
	free_contig_range(pin->pfn, pin->pages);
	list_del(&pin->node);
	kfree(pin);
}

void pin_put_all(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct pin *pin, *next;

	list_for_each_entry_safe(pin, next, &fix->pins, node)
		pin_put(pin);
}

/* Write @value to every byte of the pages, by their page frames and not by a buffer's address. */
void frames_fill(unsigned long pfn, unsigned long pages, u8 value)
{
	for (; pages; pages--, pfn++) {
		void *page = kmap_local_page(pfn_to_page(pfn));

		memset(page, value, PAGE_SIZE);
		kunmap_local(page);
	}
}

/* The pages of which a byte is not @value, by their page frames. */
unsigned long frames_unlike(unsigned long pfn, unsigned long pages, u8 value)
{
	unsigned long unlike = 0;

	for (; pages; pages--, pfn++) {
		void *page = kmap_local_page(pfn_to_page(pfn));

		unlike += !!memchr_inv(page, value, PAGE_SIZE);
		kunmap_local(page);
	}
	return unlike;
}
