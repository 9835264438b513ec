// SPDX-License-Identifier: GPL-2.0-only
/*
 * A suite whose second case loses the only pointer to a piece of memory.
 *
 * Expected verdicts: PASS, PASS; where the kernel looks for leaks
 * (CONFIG_DEBUG_KMEMLEAK) the module's end is a FAIL that names the case.
 */
#include <kunit/test.h>
#include <linux/compiler.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "cma_compat.h"

static void passes(struct kunit *test)
{
	KUNIT_SUCCEED(test);
}

#define PIECES 10

static noinline void lose(struct kunit *test)
{
	int i;

	/*
	 * Several, since a stale copy of one pointer may stay in a register or
	 * on a stack, where kmemleak takes it for a reference. Not zero, so
	 * that kmemleak sees a checksum that has settled.
	 */
	for (i = 0; i < PIECES; i++) {
		void *piece = kmalloc(192, GFP_KERNEL);

		KUNIT_ASSERT_NOT_NULL(test, piece);
		memset(piece, 0x5a, 192);
	}
}

static void leaks(struct kunit *test)
{
	lose(test);
	/* Else the call is the function's last, and the trace skips it. */
	barrier();
}

static struct kunit_case broken_leak_cases[] = {
	KUNIT_CASE(passes),
	KUNIT_CASE(leaks),
	{}
};

static struct kunit_suite broken_leak_suite = {
	.name = "broken_leak",
	.test_cases = broken_leak_cases,
};

kunit_test_suite(broken_leak_suite);

MODULE_INFO(cma_harness, "shares_guest");
MODULE_DESCRIPTION("cma-harness: a case leaks memory");
MODULE_LICENSE("GPL");
