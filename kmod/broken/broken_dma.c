// SPDX-License-Identifier: GPL-2.0-only
/*
 * A suite whose second case unmaps what was never mapped for DMA.
 *
 * Expected verdicts: PASS, PASS; CRASH for the second where the kernel keeps
 * books of mappings (CONFIG_DMA_API_DEBUG).
 */
#include <kunit/test.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/platform_device.h>

#include "cma_compat.h"

static void passes(struct kunit *test)
{
	KUNIT_SUCCEED(test);
}

static void unmaps_what_was_not_mapped(struct kunit *test)
{
	struct platform_device *pdev;
	struct page *page;

	pdev = platform_device_register_simple("broken_dma", PLATFORM_DEVID_AUTO, NULL, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR(pdev));
	page = alloc_page(GFP_KERNEL);
	KUNIT_EXPECT_NOT_NULL(test, page);
	if (page) {
		dma_unmap_page(&pdev->dev, page_to_phys(page), PAGE_SIZE, DMA_TO_DEVICE);
		__free_page(page);
	}
	platform_device_unregister(pdev);
}

static struct kunit_case broken_dma_cases[] = {
	KUNIT_CASE(passes),
	KUNIT_CASE(unmaps_what_was_not_mapped),
	{}
};

static struct kunit_suite broken_dma_suite = {
	.name = "broken_dma",
	.test_cases = broken_dma_cases,
};

kunit_test_suite(broken_dma_suite);

MODULE_INFO(cma_harness, "shares_guest");
MODULE_DESCRIPTION("cma-harness: a case unmaps what it had not mapped");
MODULE_LICENSE("GPL");
