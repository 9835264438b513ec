// SPDX-License-Identifier: GPL-2.0-only
/*
 * A suite whose second case takes two locks in both orders, one after the
 * other: nothing hangs, but with a second thread it could.
 *
 * Expected verdicts: PASS, PASS; CRASH for the second where the kernel proves
 * its locking (CONFIG_PROVE_LOCKING).
 */
#include <kunit/test.h>
#include <linux/module.h>
#include <linux/mutex.h>

static void passes(struct kunit *test)
{
	KUNIT_SUCCEED(test);
}

static DEFINE_MUTEX(broken_lockdep_a);
static DEFINE_MUTEX(broken_lockdep_b);

static void locks_in_both_orders(struct kunit *test)
{
	mutex_lock(&broken_lockdep_a);
	mutex_lock(&broken_lockdep_b);
	mutex_unlock(&broken_lockdep_b);
	mutex_unlock(&broken_lockdep_a);

	mutex_lock(&broken_lockdep_b);
	mutex_lock(&broken_lockdep_a);
	mutex_unlock(&broken_lockdep_a);
	mutex_unlock(&broken_lockdep_b);
}

static struct kunit_case broken_lockdep_cases[] = {
	KUNIT_CASE(passes),
	KUNIT_CASE(locks_in_both_orders),
	{}
};

static struct kunit_suite broken_lockdep_suite = {
	.name = "broken_lockdep",
	.test_cases = broken_lockdep_cases,
};

kunit_test_suite(broken_lockdep_suite);

MODULE_INFO(cma_harness, "shares_guest");
MODULE_DESCRIPTION("cma-harness: a case takes two locks in both orders");
MODULE_LICENSE("GPL");
