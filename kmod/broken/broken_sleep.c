// SPDX-License-Identifier: GPL-2.0-only
/*
 * A suite whose second case may sleep while it holds a spinlock.
 *
 * Expected verdicts: PASS, PASS; CRASH for the second where the kernel minds
 * (CONFIG_DEBUG_ATOMIC_SLEEP).
 */
#include <kunit/test.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/spinlock.h>

static void passes(struct kunit *test)
{
	KUNIT_SUCCEED(test);
}

static DEFINE_SPINLOCK(broken_sleep_lock);

static void sleeps_in_atomic(struct kunit *test)
{
	spin_lock(&broken_sleep_lock);
	might_sleep();
	spin_unlock(&broken_sleep_lock);
}

static struct kunit_case broken_sleep_cases[] = {
	KUNIT_CASE(passes),
	KUNIT_CASE(sleeps_in_atomic),
	{}
};

static struct kunit_suite broken_sleep_suite = {
	.name = "broken_sleep",
	.test_cases = broken_sleep_cases,
};

kunit_test_suite(broken_sleep_suite);

MODULE_INFO(cma_harness, "shares_guest");
MODULE_DESCRIPTION("cma-harness: a case may sleep where it must not");
MODULE_LICENSE("GPL");
