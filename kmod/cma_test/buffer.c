// SPDX-License-Identifier: GPL-2.0-only
/* The buffers of a cma_test device: taken from the DMA API, listed, found and given back. */

#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/slab.h>

#include "cma_test.h"

/* The alignment, in bytes, that dma_alloc_from_contiguous() gives a buffer of @size bytes. */
static size_t natural_align(size_t size)
{
	return PAGE_SIZE << min_t(unsigned int, get_order(size), CONFIG_CMA_ALIGNMENT);
}

static unsigned long dma_attrs_of(u32 attrs)
{
	unsigned long dma_attrs = 0;

	if (attrs & CMA_TEST_ATTR_WRITE_COMBINE)
		dma_attrs |= DMA_ATTR_WRITE_COMBINE;
	if (attrs & CMA_TEST_ATTR_NO_KERNEL_MAPPING)
		dma_attrs |= DMA_ATTR_NO_KERNEL_MAPPING;
	if (attrs & CMA_TEST_ATTR_FORCE_CONTIGUOUS)
		dma_attrs |= DMA_ATTR_FORCE_CONTIGUOUS;
	if (attrs & CMA_TEST_ATTR_NO_WARN)
		dma_attrs |= DMA_ATTR_NO_WARN;
	return dma_attrs;
}

struct cma_test_buffer *cma_test_find(struct cma_test *ct, u32 handle)
{
	struct cma_test_buffer *buf;

	lockdep_assert_held(&ct->lock);
	list_for_each_entry(buf, &ct->buffers, node)
		if (buf->handle == handle)
			return buf;
	return NULL;
}

/* Give the memory back; returns the nanoseconds the DMA API took for it. */
u64 cma_test_release(struct cma_test *ct, struct cma_test_buffer *buf)
{
	ktime_t start = ktime_get();

	dma_free_attrs(ct->dev, buf->allocated, buf->virt, buf->dma, buf->dma_attrs);
	return ktime_to_ns(ktime_sub(ktime_get(), start));
}

/*
 * Fill in @buf, whose size and attrs are set, with memory aligned to @align bytes. The result is
 * not yet in the list. Returns 0, -ENOSPC, or -EIO when the kernel broke its alignment promise.
 */
int cma_test_acquire(struct cma_test *ct, struct cma_test_buffer *buf, size_t align, gfp_t gfp,
		     u64 *took_ns)
{
	size_t extra = align > natural_align(buf->size) ? align - PAGE_SIZE : 0;
	ktime_t start;

	/* The DMA API rounds up to pages and does not look whether that wraps to zero. */
	if (check_add_overflow(buf->size, extra, &buf->allocated) ||
	    PAGE_ALIGN(buf->allocated) < buf->allocated)
		return -ENOSPC;

	/* ARM's own dma_alloc looks at the GFP flag only; dma-direct (ARM: 6.0) at both. */
	if (buf->attrs & CMA_TEST_ATTR_NO_WARN)
		gfp |= __GFP_NOWARN;
	buf->dma_attrs = dma_attrs_of(buf->attrs);

	start = ktime_get();
	buf->virt = dma_alloc_attrs(ct->dev, buf->allocated, &buf->dma, gfp, buf->dma_attrs);
	*took_ns = ktime_to_ns(ktime_sub(ktime_get(), start));
	if (!buf->virt)
		return -ENOSPC;

	buf->skip = align ? ALIGN(buf->dma, align) - buf->dma : 0;
	if (buf->skip > extra) {
		cma_test_release(ct, buf);
		return -EIO;
	}
	return 0;
}

/*
 * Reserve a handle: not zero, not that of a live buffer, and small enough for mmap(), whose offset
 * is the handle times the page size and must stay below 4 GiB here (file_mmap_ok()).
 */
u32 cma_test_next_handle(struct cma_test *ct)
{
	u32 handle;

	mutex_lock(&ct->lock);
	do {
		ct->last_handle = ct->last_handle % CMA_TEST_HANDLES + 1;
		handle = ct->last_handle;
	} while (cma_test_find(ct, handle));
	mutex_unlock(&ct->lock);
	return handle;
}

void cma_test_publish(struct cma_test *ct, struct cma_test_buffer *buf)
{
	mutex_lock(&ct->lock);
	list_add_tail(&buf->node, &ct->buffers);
	ct->live++;
	mutex_unlock(&ct->lock);
}

/* Take @buf (may be NULL: -@missing) out of the list unless it is mapped. */
struct cma_test_buffer *cma_test_take(struct cma_test *ct, struct cma_test_buffer *buf,
				      int missing)
{
	lockdep_assert_held(&ct->lock);
	if (!buf)
		return ERR_PTR(-missing);
	if (atomic_read(&buf->mappings))
		return ERR_PTR(-EBUSY);
	list_del(&buf->node);
	ct->live--;
	return buf;
}

/* Free every buffer. The caller knows that nobody can reach the device any more. */
void cma_test_release_all(struct cma_test *ct)
{
	struct cma_test_buffer *buf, *next;

	list_for_each_entry_safe(buf, next, &ct->buffers, node) {
		list_del(&buf->node);
		cma_test_release(ct, buf);
		kfree(buf);
	}
	ct->live = 0;
}
