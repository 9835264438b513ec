// SPDX-License-Identifier: GPL-2.0-only
/* A module that wants what the kernel does not export, not to it, or not at all. */
#include <linux/cma.h>
#include <linux/kallsyms.h>
#include <linux/module.h>

extern void no_kernel_has_this(void);
extern int hid_add_device(void *device);

static int __init asks_init(void)
{
	no_kernel_has_this();
	hid_add_device(NULL);
	return kallsyms_lookup_name("cma_areas") && cma_alloc(NULL, 1, 0, false);
}
module_init(asks_init);

static void __exit asks_exit(void)
{
}
module_exit(asks_exit);

MODULE_DESCRIPTION("A module of the harness's own tests");
MODULE_LICENSE("GPL");
