/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one place where the modules know kernel versions, 5.10 to 7.3.
 *
 * What keeps this file short, by design of the modules:
 *  - no platform_driver.remove: its return type changed in 6.11 (0edb555a65d1, "platform: Make
 *    platform_driver::remove() return void"); device-managed actions do its work;
 *  - no file_operations.llseek = no_llseek: 6.12 took it out;
 *  - no suite_init in KUnit suites, no parameterised cases, no kunit actions: 5.10 has none;
 *  - a string that KUNIT_EXPECT_STREQ() is given is a pointer: 5.10 copies it with typeof();
 *  - debugfs layouts (cma-NAME in 5.10, ranges/0 since 6.15) are discovered, see area.c.
 */
#ifndef CMA_COMPAT_H
#define CMA_COMPAT_H

#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 14, 0)
/*
 * kunit_skip() came with 5.14 (6d2426b2f258, "kunit: Support skipped tests"). Before it, a case
 * that throws without a failed expectation ends, is cleaned up and counts as passed
 * (kunit_catch_run_case(): "It is the test case's business as to whether it failed or not"),
 * so the reason is all that can be kept: a diagnostic line, "kunit_skip: " and the reason. The
 * harness makes a SKIP of a passed case with such a line (harness/module_run.py).
 */
#define kunit_skip(test, fmt, ...)					\
	do {								\
		kunit_info(test, "kunit_skip: " fmt "\n", ##__VA_ARGS__); \
		kunit_try_catch_throw(&(test)->try_catch);		\
	} while (0)
#endif

/*
 * Take the pages of a range, or fail with -EBUSY. A range of a CMA area asks as cma_alloc() does;
 * any other as everybody else. What tells the two apart was a migratetype; flags took its place
 * with the type acr_flags_t, which 6.12 does not have and 6.17 does.
 */
#ifdef ACR_FLAGS_CMA
#define contig_get(start, end, cma, gfp)						\
	alloc_contig_range(start, end, (cma) ? ACR_FLAGS_CMA : ACR_FLAGS_NONE, gfp)
#else
#define contig_get(start, end, cma, gfp)						\
	alloc_contig_range(start, end, (cma) ? MIGRATE_CMA : MIGRATE_MOVABLE, gfp)
#endif

/* KUNIT_EXPECT_NOT_NULL() and KUNIT_ASSERT_NOT_NULL() are macros that 5.10 does not have. */
#ifndef KUNIT_ASSERT_NOT_NULL
#define KUNIT_ASSERT_NOT_NULL(test, pointer) KUNIT_ASSERT_TRUE(test, !!(pointer))
#define KUNIT_EXPECT_NOT_NULL(test, pointer) KUNIT_EXPECT_TRUE(test, !!(pointer))
#endif

/* A suite has a function for its end since 5.19. */
#define HAS_SUITE_EXIT (LINUX_VERSION_CODE >= KERNEL_VERSION(5, 19, 0))

/* These macros were those of mm/compaction.c before 6.1. */
#ifndef pageblock_align
#define pageblock_start_pfn(pfn) ALIGN_DOWN(pfn, pageblock_nr_pages)
#define pageblock_end_pfn(pfn) ALIGN((pfn) + 1, pageblock_nr_pages)
#define pageblock_align(pfn) ALIGN(pfn, pageblock_nr_pages)
#endif

/* A folio is known by its head page; before 5.16 there was only that. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 16, 0)
struct folio;
#define page_folio(page) ((struct folio *)compound_head(page))
#define folio_pfn(folio) page_to_pfn((struct page *)(folio))
#define folio_order(folio) compound_order((struct page *)(folio))
#endif

/* kmap_local_page() came with 5.11 (f3ba3c710ac5, "mm/highmem: Provide kmap_local*"). */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
#define kmap_local_page(page) kmap_atomic(page)
#define kunmap_local(address) kunmap_atomic(address)
#endif

/*
 * 6.12's tracepoints of mm/cma.c are those that newer kernels have; 6.1 has no result in
 * cma_alloc_finish, 5.10 has cma_alloc and cma_release only.
 */
#define CMA_HAS_EVENTS (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0))

/*
 * What cma_alloc_start says of the area, between the count and the alignment: nothing before 6.18
 * ("mm/cma: add 'available count' and 'total count' to trace_cma_alloc_start", August 2025).
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0)
#define CMA_START_OF_AREA unsigned long available, unsigned long total,
#else
#define CMA_START_OF_AREA
#endif

/*
 * The vm events CMA_ALLOC_SUCCESS and CMA_ALLOC_FAIL came with 5.13 (bbb269206f3c, "mm: vmstat: add
 * cma statistics").
 */
#define CMA_HAS_VM_EVENTS (LINUX_VERSION_CODE >= KERNEL_VERSION(5, 13, 0))

/*
 * A buffer without an address in the kernel was the area's, or nobody's, as long as ARM had
 * dma_map_ops of its own; dma_direct_alloc(), which it uses since 6.0, has the page allocator to
 * fall back to.
 */
#define DMA_FALLS_BACK (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 0, 0))

/*
 * 7.3.4 faults in t32_emulate_push() when a kprobe hits a wide push ("kernel execution of memory"
 * at the instruction's slot), with which free_contig_frozen_range() begins. 6.12 does not.
 */
#define KPROBES_FAULT								\
	(IS_ENABLED(CONFIG_THUMB2_KERNEL) && LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0))

/*
 * A request larger than the area returns early in 6.12's __cma_alloc(): it is not counted as a
 * failure and has no cma_alloc_finish. 6.1's cma_alloc() counts it, and so do newer ones.
 */
#define CMA_IGNORES_OVERSIZE							\
	(LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0) &&			\
	 LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0))

/*
 * A cpu's lists of free pages can be looked at under their lock, interrupts on, since 6.2
 * (574907741599, "mm/page_alloc: leave IRQs enabled for per-cpu page allocations").
 */
#define PCP_HAS_LOCK (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0))

#endif /* CMA_COMPAT_H */
