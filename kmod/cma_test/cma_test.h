/* SPDX-License-Identifier: GPL-2.0-only */
/* What the three files of cma_test share: buffer.c, chardev.c and driver.c. */
#ifndef CMA_TEST_H
#define CMA_TEST_H

#include <linux/atomic.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mutex.h>
#include <linux/types.h>

#include "cma_test_uapi.h"

/**
 * struct cma_test - one device node in /dev and the area behind it
 * @misc: the device node
 * @dev: the platform device the buffers are allocated for
 * @lock: see below
 * @buffers: live buffers, oldest first
 * @live: how many
 * @last_handle: the handle given out last
 */
struct cma_test {
	struct miscdevice misc;
	bool registered;
	struct device *dev;
	/* Guards all that follows, and keeps a buffer that was found alive. */
	struct mutex lock;
	struct list_head buffers;
	u32 live;
	u32 last_handle;
};

/**
 * struct cma_test_buffer - one allocation
 * @node: in cma_test.buffers
 * @mappings: user mappings; rises from zero only under cma_test.lock
 * @handle: its name in ioctls and mmap offsets
 * @attrs: CMA_TEST_ATTR_*
 * @dma_attrs: the same as the DMA API has them
 * @size: bytes asked for
 * @allocated: bytes the DMA API was asked for
 * @skip: bytes from @dma to the first aligned one
 * @virt: what dma_alloc_attrs() returned
 * @dma: the DMA address of the first byte
 */
struct cma_test_buffer {
	struct list_head node;
	atomic_t mappings;
	u32 handle;
	u32 attrs;
	unsigned long dma_attrs;
	size_t size;
	size_t allocated;
	size_t skip;
	void *virt;
	dma_addr_t dma;
};

extern const struct file_operations cma_test_fops;

int cma_test_acquire(struct cma_test *ct, struct cma_test_buffer *buf, size_t align, gfp_t gfp,
		     u64 *took_ns);
u64 cma_test_release(struct cma_test *ct, struct cma_test_buffer *buf);
u32 cma_test_next_handle(struct cma_test *ct);
void cma_test_publish(struct cma_test *ct, struct cma_test_buffer *buf);
struct cma_test_buffer *cma_test_find(struct cma_test *ct, u32 handle);
struct cma_test_buffer *cma_test_take(struct cma_test *ct, struct cma_test_buffer *buf,
				      int missing);
void cma_test_release_all(struct cma_test *ct);

#endif /* CMA_TEST_H */
