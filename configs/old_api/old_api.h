/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What modules for older kernels use and newer kernels lack, as far as a macro can give it back.
 * Included before a user's sources by `cma-harness test --module-compat`; nothing of ours uses it.
 */
#ifndef OLD_API_H
#define OLD_API_H

#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/version.h>

/* Gone in 3.7 (314e51b9851b). */
#ifndef VM_RESERVED
#define VM_RESERVED (VM_DONTEXPAND | VM_DONTDUMP)
#endif

/* Gone in 5.0 (dfd32cad146e): dma_alloc_coherent() has zeroed since. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 0, 0)
#define dma_zalloc_coherent dma_alloc_coherent
#endif

/*
 * Modules of 2012 allocate for no device at all, which ARM took for one that reaches all memory.
 * dma_alloc_attrs() of 5.10 and later looks into the device: give it such a one.
 */
static inline struct device *old_device(struct device *dev)
{
	static struct device any = { .coherent_dma_mask = DMA_BIT_MASK(32) };

	return dev ? dev : &any;
}

#define dma_alloc_coherent(dev, ...) (dma_alloc_coherent)(old_device(dev), __VA_ARGS__)
#define dma_free_coherent(dev, ...) (dma_free_coherent)(old_device(dev), __VA_ARGS__)

/* Renamed in 4.6 (f6e45661f9be). */
#define dma_alloc_writecombine(dev, ...) dma_alloc_wc(old_device(dev), __VA_ARGS__)
#define dma_free_writecombine(dev, ...) dma_free_wc(old_device(dev), __VA_ARGS__)
#define dma_mmap_writecombine(dev, ...) dma_mmap_wc(old_device(dev), __VA_ARGS__)

/* Gone in 5.6 (4bdc0d676a64). */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 6, 0)
#define ioremap_nocache ioremap
#endif

/* Read-only since 6.3 (bc292ab00f6c); __vm_flags is the same word. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
#define vm_flags __vm_flags
#endif

/* Without the owner since 6.4 (1aaba11da9aa): of one or two arguments the last is the name. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#define old_last(one, two, ...) two
#define old_name(first, ...) old_last(first, ##__VA_ARGS__, first)
#define class_create(...) class_create(old_name(__VA_ARGS__))
#endif

#endif
