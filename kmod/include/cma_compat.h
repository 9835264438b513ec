/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one place where the modules know kernel versions, 5.10 to 7.3.
 *
 * What keeps this file short, by design of the modules:
 *  - no platform_driver.remove: its return type changed in 6.11 (0edb555a65d1, "platform: Make
 *    platform_driver::remove() return void"); device-managed actions do its work;
 *  - no file_operations.llseek = no_llseek: 6.12 took it out;
 *  - no suite_init in KUnit suites, no parameterised cases, no kunit actions: 5.10 has none;
 *  - debugfs layouts (cma-NAME in 5.10, ranges/0 since 6.15) are discovered, see area.c.
 */
#ifndef CMA_COMPAT_H
#define CMA_COMPAT_H

#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 14, 0)
/*
 * kunit_skip() came with 5.14 (6d2426b2f258, "kunit: Support skipped tests"). Before it, a case
 * that throws without a failed expectation ends, is cleaned up and counts as passed
 * (kunit_catch_run_case(): "It is the test case's business as to whether it failed or not"),
 * so the reason is all that can be kept: a diagnostic line with the word SKIP.
 */
#define kunit_skip(test, fmt, ...)					\
	do {								\
		kunit_info(test, "SKIP " fmt "\n", ##__VA_ARGS__);	\
		kunit_try_catch_throw(&(test)->try_catch);		\
	} while (0)
#endif

#endif /* CMA_COMPAT_H */
