// SPDX-License-Identifier: GPL-2.0-only
/* A module that prints KTAP without KUnit: its cases are not known before it runs. */
#include <linux/module.h>

static bool fails;
module_param(fails, bool, 0444);

static int __init prints_init(void)
{
	pr_info("KTAP version 1\n");
	pr_info("1..2\n");
	pr_info("ok 1 allocates\n");
	pr_info("%s 2 frees\n", fails ? "not ok" : "ok");
	return 0;
}
module_init(prints_init);

static void __exit prints_exit(void)
{
}
module_exit(prints_exit);

MODULE_DESCRIPTION("A module of the harness's own tests");
MODULE_LICENSE("GPL");
