// SPDX-License-Identifier: GPL-2.0-only
/* A module without an exit function: the kernel never unloads it. */
#include <linux/module.h>

static int __init stays_init(void)
{
	pr_info("stays: for good\n");
	return 0;
}
module_init(stays_init);

MODULE_DESCRIPTION("A module of the harness's own tests");
MODULE_LICENSE("GPL");
