/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What user space may ask of /dev/cma_test and /dev/cma_test-AREA.
 *
 * Each device allocates with the DMA API, which takes the pages from one CMA area: /dev/cma_test
 * from the default area, /dev/cma_test-AREA from the reserved-memory node AREA (with its unit
 * address) which a node
 *
 *	cma-test { compatible = "cma-harness,cma-test"; memory-region = <&area>; };
 *
 * claims. One claimant per area. Without memory-region, the node's own name stands for AREA and
 * buffers come from the default area.
 *
 * Buffers belong to the device, not to the file that made them: they live until they are freed or
 * the module goes, which frees them all. Two interfaces work on the same buffers:
 *
 * 1. Barry Song's, v4 (2012):
 *	write()	one number of KiB in base 0 ("1024", "0x400") allocates a buffer; returns the
 *		bytes written. EINVAL: zero or not a number. ERANGE: no unsigned long.
 *		EOVERFLOW: more than SIZE_MAX / 1024. ENOMEM: no memory for the bookkeeping.
 *		ENOSPC: the allocation failed. EFAULT: bad pointer.
 *	read()	frees the oldest buffer, whichever interface made it; returns 0, stores nothing.
 *		EIDRM: there is none. EBUSY: it is mapped (it stays the oldest).
 *
 * 2. The ioctls below. On every error nothing was allocated or freed. Reserved fields that are
 *    not zero, unknown attribute bits and unknown GFP values are EINVAL; an unknown ioctl is
 *    ENOTTY.
 *
 * mmap(MAP_SHARED) at offset handle * PAGE_SIZE maps a buffer from its (aligned) start, up to its
 * size rounded to pages. A 32-bit program needs _FILE_OFFSET_BITS=64. ENOENT: no such handle.
 * EINVAL: private, or too long. A mapped buffer cannot be freed: EBUSY until the last mapping,
 * forked or split ones too, is gone.
 */
#ifndef CMA_TEST_UAPI_H
#define CMA_TEST_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define CMA_TEST_ABI 1

/* Attributes of an allocation; bits of our own, because the kernel's DMA_ATTR_* are no ABI. */
#define CMA_TEST_ATTR_WRITE_COMBINE	0x1	/* DMA_ATTR_WRITE_COMBINE */
#define CMA_TEST_ATTR_NO_KERNEL_MAPPING	0x2	/* DMA_ATTR_NO_KERNEL_MAPPING; see below */
#define CMA_TEST_ATTR_FORCE_CONTIGUOUS	0x4	/* DMA_ATTR_FORCE_CONTIGUOUS */
#define CMA_TEST_ATTR_NO_WARN		0x8	/* DMA_ATTR_NO_WARN and __GFP_NOWARN */
#define CMA_TEST_ATTR_ALL		0xf

/*
 * With NO_KERNEL_MAPPING dma-direct may go elsewhere than the area: for one page of the default
 * area, and for any size when the area is full. Such a buffer is not zeroed (6.12).
 */

/* Handles are 1 to this, used in turn: an mmap() offset is below 4 GiB on 32-bit ARM. */
#define CMA_TEST_HANDLES	0xfffff

/* How the allocator may wait. ARM serves NOWAIT from the atomic pool, never from CMA itself. */
#define CMA_TEST_GFP_KERNEL	0
#define CMA_TEST_GFP_NOWAIT	1

/**
 * struct cma_test_version - what this device is
 * @abi: out, CMA_TEST_ABI of the module
 * @page_size: out, bytes
 * @natural_align: out, bytes; the largest alignment dma_alloc_attrs() gives by itself,
 *	PAGE_SIZE << CONFIG_CMA_ALIGNMENT
 * @live: out, buffers alive now
 */
struct cma_test_version {
	__u32 abi;
	__u32 page_size;
	__u64 natural_align;
	__u32 live;
	__u32 reserved;
};

/**
 * struct cma_test_alloc - allocate a buffer
 * @size: in, bytes, not zero
 * @align: in, bytes, zero or a power of two. The DMA API has no such argument. A buffer comes
 *	aligned to its size rounded up to a power of two, at most natural_align: up to there the
 *	alignment is checked (EIO when the kernel did not keep it). Beyond, the device takes up to
 *	@align bytes more and hands out the aligned part; LIST shows what it took.
 * @dma_address: out, of the first aligned byte
 * @took_ns: out, nanoseconds inside dma_alloc_attrs()
 * @attrs: in, CMA_TEST_ATTR_*
 * @gfp: in, CMA_TEST_GFP_*
 * @handle: out, never zero
 *
 * EOVERFLOW: @size or @align does not fit in a size_t. ENOSPC and ENOMEM: as for write().
 */
struct cma_test_alloc {
	__u64 size;
	__u64 align;
	__u64 dma_address;
	__u64 took_ns;
	__u32 attrs;
	__u32 gfp;
	__u32 handle;
	__u32 reserved;
};

/**
 * struct cma_test_free - free a buffer
 * @took_ns: out, nanoseconds inside dma_free_attrs()
 * @handle: in
 *
 * ENOENT: no such handle. EBUSY: the buffer is mapped. When the result cannot be stored (EFAULT)
 * the buffer is freed all the same.
 */
struct cma_test_free {
	__u64 took_ns;
	__u32 handle;
	__u32 reserved;
};

/**
 * struct cma_test_info - one live buffer
 * @dma_address: of its first aligned byte
 * @size: bytes asked for; a write()'s number * 1024
 * @allocated: bytes taken from the DMA API, which rounds them up to pages
 * @handle: its name
 * @attrs: CMA_TEST_ATTR_*
 * @mappings: user mappings alive
 */
struct cma_test_info {
	__u64 dma_address;
	__u64 size;
	__u64 allocated;
	__u32 handle;
	__u32 attrs;
	__u32 mappings;
	__u32 reserved;
};

/**
 * struct cma_test_list - the live buffers, oldest first
 * @buffers: in, address of an array of struct cma_test_info
 * @count: in, how many fit; out, how many were stored
 * @total: out, how many are alive
 */
struct cma_test_list {
	__u64 buffers;
	__u32 count;
	__u32 total;
};

#define CMA_TEST_IOC_VERSION	_IOR('C', 0xc0, struct cma_test_version)
#define CMA_TEST_IOC_ALLOC	_IOWR('C', 0xc1, struct cma_test_alloc)
#define CMA_TEST_IOC_FREE	_IOWR('C', 0xc2, struct cma_test_free)
#define CMA_TEST_IOC_LIST	_IOWR('C', 0xc3, struct cma_test_list)

#endif /* CMA_TEST_UAPI_H */
