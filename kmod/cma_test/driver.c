// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/cma_test: allocate and free contiguous DMA buffers from user space.
 *
 * The read/write interface is that of Barry Song's "mm: cma: add a simple kernel module as the
 * helper to test CMA", v4 (2012, never merged), and so are its log lines; their "dma:" is the real
 * address here, because a dma_addr_t has its own format where a pointer is hashed. The ioctls, and
 * the devices of further areas, are this module's own; cma_test_uapi.h describes it all.
 *
 * Everything a probe makes is device-managed, so that there is no remove callback: its return type
 * differs between the kernels this module serves.
 */

#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/platform_device.h>

#include "cma_test.h"

#define DRIVER_NAME "cma_test"

static void area_detach(void *dev)
{
	of_reserved_mem_device_release(dev);
}

/*
 * Let @dev allocate from the area that its device-tree node claims, if it claims one. Returns the
 * node the device is to be called after (the caller puts it), or an error.
 */
static struct device_node *area_attach(struct device *dev)
{
	struct device_node *area = of_parse_phandle(dev->of_node, "memory-region", 0);
	int ret = -ENODEV;

	if (!area)
		return of_node_get(dev->of_node);

	/* For a disabled area the call below returns 0, and would leave us in the default one. */
	if (of_device_is_available(area))
		ret = of_reserved_mem_device_init_by_idx(dev, dev->of_node, 0);
	if (!ret)
		ret = devm_add_action_or_reset(dev, area_detach, dev);
	if (!ret)
		return area;

	dev_err(dev, "cannot use the area %pOF: %d\n", area, ret);
	of_node_put(area);
	return ERR_PTR(ret);
}

/* "cma_test", or "cma_test-" and the area's name with its unit address, as debugfs has it. */
static const char *misc_name(struct device *dev)
{
	struct device_node *node;
	const char *name;

	if (!dev->of_node)
		return DRIVER_NAME;
	node = area_attach(dev);
	if (IS_ERR(node))
		return ERR_CAST(node);
	name = devm_kasprintf(dev, GFP_KERNEL, DRIVER_NAME "-%pOFP", node);
	of_node_put(node);
	return name ?: ERR_PTR(-ENOMEM);
}

/*
 * No file is open and no buffer is mapped: both hold a reference to the module, and
 * suppress_bind_attrs leaves its unloading as the only way to here.
 */
static void cma_test_unregister(void *data)
{
	struct cma_test *ct = data;

	if (ct->registered)
		misc_deregister(&ct->misc);
	cma_test_release_all(ct);
	mutex_destroy(&ct->lock);
}

static int cma_test_probe(struct platform_device *pdev)
{
	struct device *dev = &pdev->dev;
	struct cma_test *ct;
	int ret;

	ct = devm_kzalloc(dev, sizeof(*ct), GFP_KERNEL);
	if (!ct)
		return -ENOMEM;

	ret = dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(32));
	if (ret)
		return ret;

	ct->dev = dev;
	mutex_init(&ct->lock);
	INIT_LIST_HEAD(&ct->buffers);
	ct->misc.minor = MISC_DYNAMIC_MINOR;
	ct->misc.fops = &cma_test_fops;
	ct->misc.parent = dev;
	ct->misc.name = misc_name(dev);
	if (IS_ERR(ct->misc.name))
		return PTR_ERR(ct->misc.name);

	/* Before anybody can open it: afterwards nothing may fail any more. */
	ret = devm_add_action_or_reset(dev, cma_test_unregister, ct);
	if (ret)
		return ret;
	ret = misc_register(&ct->misc);
	if (ret)
		return ret;
	ct->registered = true;
	platform_set_drvdata(pdev, ct);
	dev_info(ct->misc.this_device, "registered.\n");
	return 0;
}

static const struct of_device_id cma_test_of_match[] = {
	{ .compatible = "cma-harness,cma-test" },
	{ }
};
MODULE_DEVICE_TABLE(of, cma_test_of_match);

static struct platform_driver cma_test_driver = {
	.probe = cma_test_probe,
	.driver = {
		.name = DRIVER_NAME,
		.of_match_table = cma_test_of_match,
		.suppress_bind_attrs = true,
	},
};

/* The device of the default area, which no node of the device tree describes. */
static struct platform_device *default_device;

static int __init cma_test_init(void)
{
	int ret = platform_driver_register(&cma_test_driver);

	if (ret)
		return ret;
	default_device = platform_device_register_simple(DRIVER_NAME, PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(default_device)) {
		ret = PTR_ERR(default_device);
	} else if (!platform_get_drvdata(default_device)) {
		/* Its probe failed, which registering does not tell. */
		platform_device_unregister(default_device);
		ret = -ENODEV;
	}
	if (ret)
		platform_driver_unregister(&cma_test_driver);
	return ret;
}
module_init(cma_test_init);

static void __exit cma_test_exit(void)
{
	platform_device_unregister(default_device);
	platform_driver_unregister(&cma_test_driver);
}
module_exit(cma_test_exit);

MODULE_DESCRIPTION("Allocate and free CMA buffers from user space");
MODULE_LICENSE("GPL");
