// SPDX-License-Identifier: GPL-2.0-only
/* The module of a pair that uses what the other one exports. */
#include <linux/module.h>
#include "lends.h"

static int __init borrows_init(void)
{
	pr_info("borrows: %d\n", lent());
	return 0;
}
module_init(borrows_init);

static void __exit borrows_exit(void)
{
}
module_exit(borrows_exit);

MODULE_DESCRIPTION("A module of the harness's own tests");
MODULE_LICENSE("GPL");
