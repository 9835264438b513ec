// SPDX-License-Identifier: GPL-2.0-only
/* A suite whose only case passes, but whose end warns: a defect that belongs to no case. */

#include <kunit/test.h>
#include <linux/module.h>

#include "cma_compat.h"

static void passes(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 2 + 2, 4);
}

static void __maybe_unused warns_at_the_end(struct kunit_suite *suite)
{
	WARN_ON(1);
}

static struct kunit_case broken_exit_cases[] = {
	KUNIT_CASE(passes),
	{}
};

static struct kunit_suite broken_exit_suite = {
	.name = "broken_exit",
#if HAS_SUITE_EXIT
	.suite_exit = warns_at_the_end,
#endif
	.test_cases = broken_exit_cases,
};

kunit_test_suite(broken_exit_suite);

MODULE_INFO(cma_harness, "shares_guest");
MODULE_DESCRIPTION("Broken on purpose: warns when its cases are over");
MODULE_LICENSE("GPL");
