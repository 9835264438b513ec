// SPDX-License-Identifier: GPL-2.0-only
/*
 * The file operations of a cma_test device: read, write, ioctl and mmap as cma_test_uapi.h
 * describes them.
 *
 * mmap() runs under the caller's mmap_lock and takes cma_test.lock, so nothing may touch user
 * memory, which can fault and take mmap_lock, while it holds cma_test.lock. Allocations and frees
 * run outside of it too, to let them race inside the kernel under test.
 */

#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "cma_test.h"

static struct cma_test *to_cma_test(struct file *file)
{
	return container_of(file->private_data, struct cma_test, misc);
}

static ssize_t cma_test_read(struct file *file, char __user *user, size_t count, loff_t *pos)
{
	struct cma_test *ct = to_cma_test(file);
	struct cma_test_buffer *buf;

	mutex_lock(&ct->lock);
	buf = list_first_entry_or_null(&ct->buffers, struct cma_test_buffer, node);
	buf = cma_test_take(ct, buf, EIDRM);
	mutex_unlock(&ct->lock);
	if (IS_ERR(buf))
		return PTR_ERR(buf);

	cma_test_release(ct, buf);
	dev_info(ct->misc.this_device, "free: CM virt: %p dma: %pad size:%zuK\n",
		 buf->virt, &buf->dma, buf->size / SZ_1K);
	kfree(buf);
	return 0;
}

/* Parse a number of KiB; 0 and the number of bytes in @size, or the errno of the interface. */
static int parse_kib(const char __user *user, size_t count, size_t *size)
{
	unsigned long kib;
	int ret = kstrtoul_from_user(user, count, 0, &kib);

	if (ret)
		return ret;
	if (!kib)
		return -EINVAL;
	if (kib > SIZE_MAX / SZ_1K)
		return -EOVERFLOW;
	*size = kib * SZ_1K;
	return 0;
}

static ssize_t cma_test_write(struct file *file, const char __user *user, size_t count, loff_t *pos)
{
	struct cma_test *ct = to_cma_test(file);
	struct cma_test_buffer *buf;
	u64 took_ns;
	int ret;

	buf = kzalloc(sizeof(*buf), GFP_KERNEL);
	if (!buf)
		return -ENOMEM;

	ret = parse_kib(user, count, &buf->size);
	if (ret)
		goto err_free;

	ret = cma_test_acquire(ct, buf, 0, GFP_KERNEL, &took_ns);
	if (ret) {
		dev_err(ct->misc.this_device, "no mem in CMA area\n");
		goto err_free;
	}

	/* Logged before it is public: from then on another process may free it. */
	dev_info(ct->misc.this_device, "alloc: virt: %p dma: %pad size: %zuK\n",
		 buf->virt, &buf->dma, buf->size / SZ_1K);
	buf->handle = cma_test_next_handle(ct);
	cma_test_publish(ct, buf);
	return count;

err_free:
	kfree(buf);
	return ret;
}

static long ioctl_version(struct cma_test *ct, void __user *arg)
{
	struct cma_test_version out = {
		.abi = CMA_TEST_ABI,
		.page_size = PAGE_SIZE,
		.natural_align = PAGE_SIZE << CONFIG_CMA_ALIGNMENT,
	};

	mutex_lock(&ct->lock);
	out.live = ct->live;
	mutex_unlock(&ct->lock);
	return copy_to_user(arg, &out, sizeof(out)) ? -EFAULT : 0;
}

static int alloc_args_check(const struct cma_test_alloc *args)
{
	if (args->reserved || !args->size || (args->attrs & ~CMA_TEST_ATTR_ALL))
		return -EINVAL;
	if (args->gfp != CMA_TEST_GFP_KERNEL && args->gfp != CMA_TEST_GFP_NOWAIT)
		return -EINVAL;
	/* First of the two: is_power_of_2() would see the low half only. */
	if (args->size > SIZE_MAX || args->align > SIZE_MAX)
		return -EOVERFLOW;
	if (args->align && !is_power_of_2(args->align))
		return -EINVAL;
	return 0;
}

static long ioctl_alloc(struct cma_test *ct, void __user *arg)
{
	struct cma_test_alloc args;
	struct cma_test_buffer *buf;
	long ret;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	ret = alloc_args_check(&args);
	if (ret)
		return ret;

	buf = kzalloc(sizeof(*buf), GFP_KERNEL);
	if (!buf)
		return -ENOMEM;
	buf->size = args.size;
	buf->attrs = args.attrs;

	ret = cma_test_acquire(ct, buf, args.align,
			       args.gfp == CMA_TEST_GFP_NOWAIT ? GFP_NOWAIT : GFP_KERNEL,
			       &args.took_ns);
	if (ret)
		goto err_free;

	buf->handle = cma_test_next_handle(ct);
	args.handle = buf->handle;
	args.dma_address = buf->dma + buf->skip;
	if (copy_to_user(arg, &args, sizeof(args))) {
		ret = -EFAULT;
		goto err_release;
	}
	cma_test_publish(ct, buf);
	return 0;

err_release:
	cma_test_release(ct, buf);
err_free:
	kfree(buf);
	return ret;
}

static long ioctl_free(struct cma_test *ct, void __user *arg)
{
	struct cma_test_free args;
	struct cma_test_buffer *buf;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	if (args.reserved)
		return -EINVAL;

	mutex_lock(&ct->lock);
	buf = cma_test_take(ct, cma_test_find(ct, args.handle), ENOENT);
	mutex_unlock(&ct->lock);
	if (IS_ERR(buf))
		return PTR_ERR(buf);

	args.took_ns = cma_test_release(ct, buf);
	kfree(buf);
	return copy_to_user(arg, &args, sizeof(args)) ? -EFAULT : 0;
}

static void buffer_describe(struct cma_test_buffer *buf, struct cma_test_info *info)
{
	*info = (struct cma_test_info){
		.dma_address = buf->dma + buf->skip,
		.size = buf->size,
		.allocated = PAGE_ALIGN(buf->allocated),
		.handle = buf->handle,
		.attrs = buf->attrs,
		.mappings = atomic_read(&buf->mappings),
	};
}

static long ioctl_list(struct cma_test *ct, void __user *arg)
{
	struct cma_test_buffer *buf;
	struct cma_test_info *infos;
	struct cma_test_list args;
	u32 room, stored = 0;
	long ret = 0;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;

	/* A snapshot, since user memory must not be touched under the lock. */
	room = min(args.count, READ_ONCE(ct->live));
	infos = kvcalloc(room, sizeof(*infos), GFP_KERNEL);
	if (!infos)
		return -ENOMEM;
	mutex_lock(&ct->lock);
	list_for_each_entry(buf, &ct->buffers, node) {
		if (stored == room)
			break;
		buffer_describe(buf, &infos[stored++]);
	}
	args.total = ct->live;
	mutex_unlock(&ct->lock);

	args.count = stored;
	if (copy_to_user(u64_to_user_ptr(args.buffers), infos, stored * sizeof(*infos)) ||
	    copy_to_user(arg, &args, sizeof(args)))
		ret = -EFAULT;
	kvfree(infos);
	return ret;
}

static long cma_test_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct cma_test *ct = to_cma_test(file);
	void __user *user = (void __user *)arg;

	switch (cmd) {
	case CMA_TEST_IOC_VERSION:
		return ioctl_version(ct, user);
	case CMA_TEST_IOC_ALLOC:
		return ioctl_alloc(ct, user);
	case CMA_TEST_IOC_FREE:
		return ioctl_free(ct, user);
	case CMA_TEST_IOC_LIST:
		return ioctl_list(ct, user);
	default:
		return -ENOTTY;
	}
}

/* A mapping was copied by fork() or split in two. */
static void cma_test_vm_open(struct vm_area_struct *vma)
{
	struct cma_test_buffer *buf = vma->vm_private_data;

	atomic_inc(&buf->mappings);
}

/* No lock is held: a buffer with a mapping is not freed, and this ends the buffer's use here. */
static void cma_test_vm_close(struct vm_area_struct *vma)
{
	struct cma_test_buffer *buf = vma->vm_private_data;

	atomic_dec(&buf->mappings);
}

static const struct vm_operations_struct cma_test_vm_ops = {
	.open = cma_test_vm_open,
	.close = cma_test_vm_close,
};

static int buffer_map(struct cma_test *ct, struct cma_test_buffer *buf, struct vm_area_struct *vma)
{
	int ret;

	if (!buf)
		return -ENOENT;
	if (vma->vm_end - vma->vm_start > PAGE_ALIGN(buf->size))
		return -EINVAL;

	/* For the DMA API the offset counts from the start of what it allocated. */
	vma->vm_pgoff = buf->skip >> PAGE_SHIFT;
	ret = dma_mmap_attrs(ct->dev, vma, buf->virt, buf->dma, buf->allocated, buf->dma_attrs);
	if (ret)
		return ret;

	vma->vm_private_data = buf;
	vma->vm_ops = &cma_test_vm_ops;
	atomic_inc(&buf->mappings);
	return 0;
}

static int cma_test_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct cma_test *ct = to_cma_test(file);
	int ret;

	/* A private mapping of device memory would be a copy on the first write. */
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;

	mutex_lock(&ct->lock);
	ret = buffer_map(ct, cma_test_find(ct, vma->vm_pgoff), vma);
	mutex_unlock(&ct->lock);
	return ret;
}

const struct file_operations cma_test_fops = {
	.owner = THIS_MODULE,
	.read = cma_test_read,
	.write = cma_test_write,
	.unlocked_ioctl = cma_test_ioctl,
	.mmap = cma_test_mmap,
};
