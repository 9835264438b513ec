// SPDX-License-Identifier: GPL-2.0-only
/*
 * A suite whose second case never ends.
 *
 * Expected verdicts: PASS, TIMEOUT, LOST.
 *
 * The case sleeps in TASK_IDLE, so it takes no processor time and the hung-task
 * detector leaves it alone. The detector does see insmod, which KUnit makes
 * wait in TASK_UNINTERRUPTIBLE (kunit_try_catch_run): a harness that waits for
 * longer than CONFIG_DEFAULT_HUNG_TASK_TIMEOUT reads of a hung task instead.
 */
#include <kunit/test.h>
#include <linux/module.h>
#include <linux/sched.h>

static void passes(struct kunit *test)
{
	KUNIT_SUCCEED(test);
}

static void never_ends(struct kunit *test)
{
	/*
	 * KUnit prints a case's result without a newline (kunit_log), so printk
	 * keeps the line open until the next message: without this one the
	 * result of passes() would not be seen either.
	 */
	kunit_info(test, "going to sleep for ever\n");
	for (;;)
		schedule_timeout_idle(HZ);
}

static void comes_after(struct kunit *test)
{
	KUNIT_SUCCEED(test);
}

static struct kunit_case broken_hang_cases[] = {
	KUNIT_CASE(passes),
	KUNIT_CASE(never_ends),
	KUNIT_CASE(comes_after),
	{}
};

static struct kunit_suite broken_hang_suite = {
	.name = "broken_hang",
	.test_cases = broken_hang_cases,
};

kunit_test_suite(broken_hang_suite);

MODULE_INFO(cma_harness, "shares_guest");
MODULE_DESCRIPTION("cma-harness: a case never ends");
MODULE_LICENSE("GPL");
