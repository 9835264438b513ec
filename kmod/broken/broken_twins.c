// SPDX-License-Identifier: GPL-2.0-only
/* Two cases of one name, the second of which fails. */

#include <kunit/test.h>
#include <linux/module.h>

static void twin(struct kunit *test)
{
	static int calls;

	KUNIT_EXPECT_EQ(test, calls++, 0);
}

static struct kunit_case broken_twins_cases[] = {
	KUNIT_CASE(twin),
	KUNIT_CASE(twin),
	{}
};

static struct kunit_suite broken_twins_suite = {
	.name = "broken_twins",
	.test_cases = broken_twins_cases,
};

kunit_test_suite(broken_twins_suite);

MODULE_DESCRIPTION("Broken on purpose: the second of two cases of one name fails");
MODULE_LICENSE("GPL");
