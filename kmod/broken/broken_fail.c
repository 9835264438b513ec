// SPDX-License-Identifier: GPL-2.0-only
/*
 * A suite whose three cases end in the three ordinary ways.
 *
 * Expected verdicts: PASS, FAIL, SKIP.
 */
#include <kunit/test.h>
#include <linux/module.h>

static void passes(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 2 + 2, 4);
}

static void fails(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 2 + 2, 5);
}

static void skips(struct kunit *test)
{
	/* kunit_skip() came with v5.14 (6d2426b2f258); before, this passes. */
#ifdef kunit_skip
	kunit_skip(test, "skipped on purpose");
#endif
}

static struct kunit_case broken_fail_cases[] = {
	KUNIT_CASE(passes),
	KUNIT_CASE(fails),
	KUNIT_CASE(skips),
	{}
};

static struct kunit_suite broken_fail_suite = {
	.name = "broken_fail",
	.test_cases = broken_fail_cases,
};

kunit_test_suite(broken_fail_suite);

MODULE_DESCRIPTION("cma-harness: a case passes, a case fails, a case is skipped");
MODULE_LICENSE("GPL");
