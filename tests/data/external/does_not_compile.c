// SPDX-License-Identifier: GPL-2.0-only
/* A module that older kernels compiled. */
#include <linux/io.h>
#include <linux/module.h>

static int __init old_init(void)
{
	return ioremap_nocache(0x10000000, 4096) ? 0 : -ENOMEM;
}
module_init(old_init);

MODULE_LICENSE("GPL");
