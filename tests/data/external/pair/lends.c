// SPDX-License-Identifier: GPL-2.0-only
/* The module of a pair that the other one needs. */
#include <linux/module.h>
#include "lends.h"

int lent(void)
{
	return 42;
}
EXPORT_SYMBOL_GPL(lent);

MODULE_DESCRIPTION("A module of the harness's own tests");
MODULE_LICENSE("GPL");
