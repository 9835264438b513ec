// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two KUnit suites with the same cases: "cma_driver" allocates for a device of the default area,
 * "cma_private" for one of the private area, where there is one.
 *
 * Each case gets a device of its own. It has no device-tree node, or the driver of the claimant's
 * node (cma_test) would bind to it; the area is handed to it by the claimant's node instead.
 */

#include <linux/module.h>
#include <linux/of_reserved_mem.h>
#include <linux/slab.h>

#include "buffers.h"
#include "cases.h"
#include "cma_compat.h"

/* The fixture's areas; a reason to skip in @reason, or NULL. */
static const char *areas_find(struct fixture *fix, bool private)
{
	struct area *own = private ? &fix->other : &fix->area;
	struct area *claimed = private ? &fix->area : &fix->other;
	int has_default = area_find_default(own);
	int has_private = area_find_private(claimed, &fix->claimant);

	if (has_default == -ENXIO || has_private == -ENXIO)
		return "this kernel's debugfs does not show areas in a way known here";
	if (private && has_private)
		return "no private area: no cma-harness,cma-test node, or CMA_DEBUGFS is off";
	if (!private && has_default)
		return "no default area, or CMA_DEBUGFS is off";
	return NULL;
}

static int device_make(struct fixture *fix, bool private)
{
	struct device *dev;
	int ret;

	fix->pdev = platform_device_register_simple("cma_kunit", PLATFORM_DEVID_AUTO, NULL, 0);
	if (IS_ERR(fix->pdev)) {
		ret = PTR_ERR(fix->pdev);
		fix->pdev = NULL;
		return ret;
	}
	dev = &fix->pdev->dev;
	ret = dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(32));
	if (ret || !private)
		return ret;
	return of_reserved_mem_device_init_by_idx(dev, fix->claimant, 0);
}

static int fixture_make(struct kunit *test, bool private)
{
	struct fixture *fix = kunit_kzalloc(test, sizeof(*fix), GFP_KERNEL);
	const char *missing;

	if (!fix)
		return -ENOMEM;
	INIT_LIST_HEAD(&fix->buffers);
	test->priv = fix;

	missing = areas_find(fix, private);
	if (missing)
		kunit_skip(test, "%s", missing);
	fix->before = area_snapshot(test, &fix->area);
	return device_make(fix, private);
}

static int cma_driver_init(struct kunit *test)
{
	return fixture_make(test, false);
}

static int cma_private_init(struct kunit *test)
{
	return fixture_make(test, true);
}

/* Runs after a case however it ended, and after an init that skipped or failed half way. */
static void fixture_end(struct kunit *test)
{
	struct fixture *fix = test->priv;

	if (!fix)
		return;
	if (fix->pdev) {
		buffer_put_all(test);
		of_reserved_mem_device_release(&fix->pdev->dev);
		platform_device_unregister(fix->pdev);
	}
	of_node_put(fix->claimant);
	area_put(&fix->other);
	area_put(&fix->area);
}

/* Twice the same: KUnit keeps a case's status and log in its entry. */
static struct kunit_case cma_driver_cases[] = {
	KUNIT_CASE(area_matches_the_tree),
	KUNIT_CASE(buffer_lies_in_its_area),
	KUNIT_CASE(buffer_is_contiguous),
	KUNIT_CASE(bitmap_marks_the_buffer),
	KUNIT_CASE(aligned_to_the_order),
	KUNIT_CASE(sizes_round_to_pages),
	KUNIT_CASE(zeroed_after_dirty),
	KUNIT_CASE(attributes_keep_the_area),
	KUNIT_CASE(nonblocking_leaves_the_area),
	KUNIT_CASE(live_buffers_do_not_overlap),
	KUNIT_CASE(largest_buffer),
	KUNIT_CASE(every_page_is_usable),
	KUNIT_CASE(exhaustion_is_clean),
	KUNIT_CASE(free_restores_the_bitmap),
	KUNIT_CASE(free_in_any_order),
	KUNIT_CASE(fits_as_the_bitmap_says),
	KUNIT_CASE(cycles_do_not_leak),
	KUNIT_CASE(other_area_is_untouched),
	KUNIT_CASE(free_counter_follows),
	KUNIT_CASE(concurrent_allocators),
	{ }
};

static struct kunit_case cma_private_cases[] = {
	KUNIT_CASE(area_matches_the_tree),
	KUNIT_CASE(buffer_lies_in_its_area),
	KUNIT_CASE(buffer_is_contiguous),
	KUNIT_CASE(bitmap_marks_the_buffer),
	KUNIT_CASE(aligned_to_the_order),
	KUNIT_CASE(sizes_round_to_pages),
	KUNIT_CASE(zeroed_after_dirty),
	KUNIT_CASE(attributes_keep_the_area),
	KUNIT_CASE(nonblocking_leaves_the_area),
	KUNIT_CASE(live_buffers_do_not_overlap),
	KUNIT_CASE(largest_buffer),
	KUNIT_CASE(every_page_is_usable),
	KUNIT_CASE(exhaustion_is_clean),
	KUNIT_CASE(free_restores_the_bitmap),
	KUNIT_CASE(free_in_any_order),
	KUNIT_CASE(fits_as_the_bitmap_says),
	KUNIT_CASE(cycles_do_not_leak),
	KUNIT_CASE(other_area_is_untouched),
	KUNIT_CASE(free_counter_follows),
	KUNIT_CASE(concurrent_allocators),
	{ }
};

static struct kunit_suite cma_driver_suite = {
	.name = "cma_driver",
	.init = cma_driver_init,
	.exit = fixture_end,
	.test_cases = cma_driver_cases,
};

static struct kunit_suite cma_private_suite = {
	.name = "cma_private",
	.init = cma_private_init,
	.exit = fixture_end,
	.test_cases = cma_private_cases,
};

kunit_test_suites(&cma_driver_suite, &cma_private_suite);

MODULE_DESCRIPTION("What CMA promises a driver");
MODULE_LICENSE("GPL");
