// SPDX-License-Identifier: GPL-2.0-only
/*
 * A suite whose second case reads through a null pointer, two static calls
 * deep: the report has to name inner_read(), not the case.
 *
 * Expected verdicts: PASS, CRASH, then LOST where the kernel panics on an oops
 * (CONFIG_PANIC_ON_OOPS); without that KUnit goes on and the third passes.
 */
#include <kunit/test.h>
#include <linux/compiler.h>
#include <linux/module.h>

static noinline int inner_read(struct kunit *test, const int *address)
{
	int value = READ_ONCE(*address);

	kunit_info(test, "never printed: %d\n", value);
	return value + 1;
}

static noinline int outer_read(struct kunit *test, const int *address)
{
	/* What is done with the value keeps this from being a tail call. */
	return inner_read(test, address) * 3;
}

static void passes(struct kunit *test)
{
	KUNIT_SUCCEED(test);
}

static void dereferences_null(struct kunit *test)
{
	const int *address = NULL;

	/* Else the compiler knows the pointer and puts a trap in its place. */
	OPTIMIZER_HIDE_VAR(address);
	KUNIT_EXPECT_EQ(test, outer_read(test, address), 0);
}

static void comes_after(struct kunit *test)
{
	KUNIT_SUCCEED(test);
}

static struct kunit_case broken_oops_cases[] = {
	KUNIT_CASE(passes),
	KUNIT_CASE(dereferences_null),
	KUNIT_CASE(comes_after),
	{}
};

static struct kunit_suite broken_oops_suite = {
	.name = "broken_oops",
	.test_cases = broken_oops_cases,
};

kunit_test_suite(broken_oops_suite);

MODULE_INFO(cma_harness, "shares_guest");
MODULE_DESCRIPTION("cma-harness: a case dereferences a null pointer");
MODULE_LICENSE("GPL");
