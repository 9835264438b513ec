// SPDX-License-Identifier: GPL-2.0-only
/*
 * A suite whose second case reads what it has freed.
 *
 * Expected verdicts: PASS, PASS; CRASH for the second where the kernel checks
 * every access (CONFIG_KASAN).
 */
#include <kunit/test.h>
#include <linux/compiler.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "cma_compat.h"

static void passes(struct kunit *test)
{
	KUNIT_SUCCEED(test);
}

static void reads_freed_memory(struct kunit *test)
{
	int *freed = kzalloc(192, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, freed);
	kfree(freed);
	/* Else the compiler knows what was freed, and warns. */
	OPTIMIZER_HIDE_VAR(freed);
	kunit_info(test, "read %d\n", READ_ONCE(*freed));
}

static struct kunit_case broken_uaf_cases[] = {
	KUNIT_CASE(passes),
	KUNIT_CASE(reads_freed_memory),
	{}
};

static struct kunit_suite broken_uaf_suite = {
	.name = "broken_uaf",
	.test_cases = broken_uaf_cases,
};

kunit_test_suite(broken_uaf_suite);

MODULE_INFO(cma_harness, "shares_guest");
MODULE_DESCRIPTION("cma-harness: a case reads freed memory");
MODULE_LICENSE("GPL");
