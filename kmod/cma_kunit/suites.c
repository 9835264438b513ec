// SPDX-License-Identifier: GPL-2.0-only
/*
 * Three suites with the same cases, one for each kind of area: "cma_driver" allocates for a device
 * of the shared area, "cma_private" for one whose area lies in low memory, "cma_high" for one whose
 * area lies in high memory. "cma_areas" is about all areas at once.
 *
 * Each case gets a device of its own, and ends with an audit (audit.c).
 */

#include <linux/module.h>
#include <linux/version.h>

#include "buffers.h"
#include "cases.h"
#include "cma_compat.h"
#include "memory.h"

enum area_kind { SHARED, PRIVATE, HIGH };

static const char *const missing[] = {
	[SHARED] = "no area for devices that claim none, or CMA_DEBUGFS is off",
	[PRIVATE] = "no low-memory area with a cma-harness,cma-test node, or CMA_DEBUGFS is off",
	[HIGH] = "no high-memory area with a cma-harness,cma-test node, or CMA_DEBUGFS is off",
};

static bool is_of_kind(const struct area *area, enum area_kind kind)
{
	if (kind == SHARED)
		return area->shared;
	return !area->shared && area->claimant && area->high == (kind == HIGH);
}

static struct area *area_of_kind(struct areas *areas, enum area_kind kind)
{
	unsigned int i;

	for (i = 0; i < areas->count; i++)
		if (is_of_kind(&areas->area[i], kind))
			return &areas->area[i];
	return NULL;
}

/* A fixture without an area of its own. */
static struct fixture *fixture_make(struct kunit *test)
{
	struct fixture *fix = kunit_kzalloc(test, sizeof(*fix), GFP_KERNEL);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, fix);
	INIT_LIST_HEAD(&fix->buffers);
	INIT_LIST_HEAD(&fix->pins);
	INIT_LIST_HEAD(&fix->filler);
	INIT_LIST_HEAD(&fix->lent);
	test->priv = fix;
	if (areas_find(&fix->areas))
		kunit_skip(test, "this kernel's debugfs does not show areas in a way known here");
	audit_begin(test, &fix->audit, &fix->areas);
	return fix;
}

static int fixture_make_for(struct kunit *test, enum area_kind kind)
{
	struct fixture *fix = fixture_make(test);

	fix->area = area_of_kind(&fix->areas, kind);
	if (!fix->area)
		kunit_skip(test, "%s", missing[kind]);
	fix->before = fix->audit.bitmap[fix->area - fix->areas.area];
	fix->ready = !device_get(&fix->pdev, fix->area);
	return fix->ready ? 0 : -ENODEV;
}

static int cma_driver_init(struct kunit *test)
{
	return fixture_make_for(test, SHARED);
}

static int cma_private_init(struct kunit *test)
{
	return fixture_make_for(test, PRIVATE);
}

static int cma_high_init(struct kunit *test)
{
	return fixture_make_for(test, HIGH);
}

static int cma_areas_init(struct kunit *test)
{
	struct fixture *fix = fixture_make(test);

	if (!fix->areas.count)
		kunit_skip(test, "no area, or CMA_DEBUGFS is off");
	fix->ready = true;
	return shortage_begin(&fix->shortage);
}

/* Runs after a case however it ended, and after an init that skipped or failed half way. */
static void fixture_end(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned int i;

	if (!fix)
		return;
	buffer_put_all(test);
	pin_put_all(test);
	free_pages_of(&fix->lent);
	free_pages_of(&fix->filler);
	if (fix->shortage.owner)
		shortage_end(&fix->shortage);
	if (fix->ready)
		audit_end(test, &fix->audit, &fix->areas);
	if (fix->pdev)
		device_put(fix->pdev);
	for (i = 0; i < fix->areas.count; i++)
		if (fix->devices[i])
			device_put(fix->devices[i]);
	areas_put(&fix->areas);
}

/* Once for each suite: KUnit keeps a case's status and log in its entry. */
static struct kunit_case cma_driver_cases[] = CASES_OF_AN_AREA;
static struct kunit_case cma_private_cases[] = CASES_OF_AN_AREA;
static struct kunit_case cma_high_cases[] = CASES_OF_AN_AREA;
static struct kunit_case cma_areas_cases[] = CASES_OF_ALL_AREAS;

static struct kunit_suite cma_driver_suite = {
	.name = "cma_driver",
	.init = cma_driver_init,
	.exit = fixture_end,
	.test_cases = cma_driver_cases,
};

static struct kunit_suite cma_private_suite = {
	.name = "cma_private",
	.init = cma_private_init,
	.exit = fixture_end,
	.test_cases = cma_private_cases,
};

static struct kunit_suite cma_high_suite = {
	.name = "cma_high",
	.init = cma_high_init,
	.exit = fixture_end,
	.test_cases = cma_high_cases,
};

static struct kunit_suite cma_areas_suite = {
	.name = "cma_areas",
	.init = cma_areas_init,
	.exit = fixture_end,
	.test_cases = cma_areas_cases,
};

kunit_test_suites(&cma_driver_suite, &cma_private_suite, &cma_high_suite, &cma_areas_suite);

#if CMA_HAS_EVENTS
/* KUnit runs the suites when the module is live, which is after its init. */
static int __init cma_kunit_init(void)
{
	trace_start();
	return 0;
}

static void __exit cma_kunit_exit(void)
{
	trace_stop();
}

module_init(cma_kunit_init);
module_exit(cma_kunit_exit);
#endif

/* Each case is audited, here (audit.c) and from outside: what it leaves is told. */
MODULE_INFO(cma_harness, "shares_guest");
MODULE_DESCRIPTION("What CMA promises a driver");
MODULE_LICENSE("GPL");
