// SPDX-License-Identifier: GPL-2.0-only
/*
 * A suite whose second case triggers a WARN_ON(). KUnit calls it "ok", since
 * no expectation failed.
 *
 * Expected verdicts: PASS, CRASH, PASS.
 */
#include <kunit/test.h>
#include <linux/bug.h>
#include <linux/compiler.h>
#include <linux/module.h>

static void passes(struct kunit *test)
{
	KUNIT_SUCCEED(test);
}

static void warns(struct kunit *test)
{
	WARN_ON(test);
	/* Else the call is the function's last, and the trace skips it. */
	barrier();
}

static void comes_after(struct kunit *test)
{
	KUNIT_SUCCEED(test);
}

static struct kunit_case broken_warn_cases[] = {
	KUNIT_CASE(passes),
	KUNIT_CASE(warns),
	KUNIT_CASE(comes_after),
	{}
};

static struct kunit_suite broken_warn_suite = {
	.name = "broken_warn",
	.test_cases = broken_warn_cases,
};

kunit_test_suite(broken_warn_suite);

MODULE_INFO(cma_harness, "shares_guest");
MODULE_DESCRIPTION("cma-harness: a case triggers a WARN_ON()");
MODULE_LICENSE("GPL");
