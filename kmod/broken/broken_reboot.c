// SPDX-License-Identifier: GPL-2.0-only
/*
 * A suite whose second case restarts the machine: the guest is gone, and no
 * fault is on its console.
 *
 * Expected verdicts: PASS, LOST, LOST.
 */
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/reboot.h>

static void passes(struct kunit *test)
{
	KUNIT_SUCCEED(test);
}

static void restarts(struct kunit *test)
{
	/*
	 * KUnit prints a case's result without a newline (kunit_log), so printk
	 * keeps the line open until the next message: this one lets it out.
	 */
	kunit_info(test, "going to restart\n");
	/* Long enough for the serial port to send it. */
	msleep(100);
	emergency_restart();
}

static void comes_after(struct kunit *test)
{
	KUNIT_SUCCEED(test);
}

static struct kunit_case broken_reboot_cases[] = {
	KUNIT_CASE(passes),
	KUNIT_CASE(restarts),
	KUNIT_CASE(comes_after),
	{}
};

static struct kunit_suite broken_reboot_suite = {
	.name = "broken_reboot",
	.test_cases = broken_reboot_cases,
};

kunit_test_suite(broken_reboot_suite);

MODULE_INFO(cma_harness, "shares_guest");
MODULE_DESCRIPTION("cma-harness: a case restarts the machine");
MODULE_LICENSE("GPL");
