// SPDX-License-Identifier: GPL-2.0-only
/*
 * A suite whose second case writes to a page that it has freed, and allocates
 * until it has the page again.
 *
 * Expected verdicts: PASS, PASS; CRASH for the second where freed pages are
 * poisoned (CONFIG_PAGE_POISONING and page_poison=1).
 */
#include <kunit/test.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/preempt.h>

#include "cma_compat.h"

static void passes(struct kunit *test)
{
	KUNIT_SUCCEED(test);
}

/* The write is KASAN's to find as well, and it would be the first to. */
static noinline __no_sanitize_address void scribble(struct page *page)
{
	*(u32 *)page_address(page) = 0x12345678;
}

static void writes_to_a_freed_page(struct kunit *test)
{
	struct page *page, *again;

	page = alloc_page(GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, page);
	/* The page that a cpu freed last is the one that it gives out first. */
	preempt_disable();
	__free_page(page);
	scribble(page);
	again = alloc_page(GFP_NOWAIT);
	preempt_enable();
	KUNIT_EXPECT_PTR_EQ(test, page, again);
	if (again)
		__free_page(again);
}

static struct kunit_case broken_poison_cases[] = {
	KUNIT_CASE(passes),
	KUNIT_CASE(writes_to_a_freed_page),
	{}
};

static struct kunit_suite broken_poison_suite = {
	.name = "broken_poison",
	.test_cases = broken_poison_cases,
};

kunit_test_suite(broken_poison_suite);

MODULE_INFO(cma_harness, "shares_guest");
MODULE_DESCRIPTION("cma-harness: a case writes to a freed page");
MODULE_LICENSE("GPL");
