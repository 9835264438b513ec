// SPDX-License-Identifier: GPL-2.0-only
/*
 * A module as people wrote them in 2012: a misc device that allocates when it is written to and
 * frees when it is read, messages instead of results. It misbehaves as its parameter says.
 *
 * Written to and not read, it keeps its buffer when it is unloaded.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

#define SIZE SZ_64K

static char *how = "";
module_param(how, charp, 0444);
MODULE_PARM_DESC(how, "init-fails, -warns, -oopses, -hangs; leaks; exit-oopses, -hangs");

static struct device *dev;
static void *buffer;
static dma_addr_t dma;

static bool is(const char *what)
{
	return !strcmp(how, what);
}

static int take(void)
{
	if (!buffer)
		buffer = dma_alloc_coherent(dev, SIZE, &dma, GFP_KERNEL);
	return buffer ? 0 : -ENOMEM;
}

static ssize_t old_read(struct file *file, char __user *buf, size_t count, loff_t *ppos)
{
	if (!buffer)
		return -EIDRM;
	dma_free_coherent(dev, SIZE, buffer, dma);
	buffer = NULL;
	return 0;
}

static ssize_t old_write(struct file *file, const char __user *buf, size_t count, loff_t *ppos)
{
	return take() ?: count;
}

static const struct file_operations old_fops = {
	.owner = THIS_MODULE,
	.read = old_read,
	.write = old_write,
};

static struct miscdevice old = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "old_style",
	.fops = &old_fops,
};

static noinline void fault(void)
{
	*(volatile int *)8 = 1;
}

static int __init old_init(void)
{
	int ret = misc_register(&old);

	if (ret)
		return ret;
	dev = old.this_device;
	dev->coherent_dma_mask = DMA_BIT_MASK(32);
	pr_info("misbehaves: registered, how='%s'\n", how);
	WARN_ON(is("init-warns"));
	if (is("init-oopses"))
		fault();
	while (is("init-hangs"))
		msleep(100);
	if (is("leaks") || is("init-fails"))
		ret = take();
	if (is("init-fails")) {
		misc_deregister(&old);
		return -ENODEV;
	}
	return ret;
}
module_init(old_init);

static void __exit old_exit(void)
{
	misc_deregister(&old);
	pr_info("misbehaves: gone\n");
	if (is("exit-oopses"))
		fault();
	while (is("exit-hangs"))
		msleep(100);
}
module_exit(old_exit);

MODULE_DESCRIPTION("A module of the harness's own tests");
MODULE_LICENSE("GPL");
