// SPDX-License-Identifier: GPL-2.0-only
/*
 * A driver as they were in 2012, which no supported kernel takes as it is: buffers for no device
 * at all, interfaces that are gone or renamed, a class with an owner, a remove() with a result.
 */
#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/platform_device.h>

static struct class *old_class;
static dma_addr_t zeroed_at, combined_at;
static void *zeroed, *combined;

static int old_remove(struct platform_device *pdev)
{
	return 0;
}

static struct platform_driver old_driver = {
	.remove = old_remove,
	.driver = { .name = "of-2012" },
};

static int __init old_init(void)
{
	int error = platform_driver_register(&old_driver);

	if (error)
		return error;
	old_class = class_create(THIS_MODULE, "of-2012");
	zeroed = dma_zalloc_coherent(NULL, SZ_64K, &zeroed_at, GFP_KERNEL);
	combined = dma_alloc_writecombine(NULL, SZ_64K, &combined_at, GFP_KERNEL);
	pr_info("of_2012: %pad %pad %d %x\n", &zeroed_at, &combined_at,
		zeroed && combined && !IS_ERR(old_class), (unsigned int)VM_RESERVED);
	return 0;
}
module_init(old_init);

static void __exit old_exit(void)
{
	if (combined)
		dma_free_writecombine(NULL, SZ_64K, combined, combined_at);
	if (zeroed)
		dma_free_coherent(NULL, SZ_64K, zeroed, zeroed_at);
	class_destroy(old_class);
	platform_driver_unregister(&old_driver);
}
module_exit(old_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Uses what kernels had in 2012");
