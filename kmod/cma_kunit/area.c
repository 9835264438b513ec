// SPDX-License-Identifier: GPL-2.0-only
/*
 * Finding CMA areas and their bitmaps from inside a module.
 *
 * struct cma is private to mm/ and nothing that reads it is exported. What is left is debugfs.
 * Its files cannot be read from the kernel (4d03e3cc5982, 5.10: "fs: don't allow kernel reads and
 * writes without iter ops"), but debugfs_lookup() is exported, and the inode keeps the pointer
 * that the file was made with (mm/cma_debug.c): base_pfn and count an unsigned long each, bitmap
 * a struct debugfs_u32_array (since 5.9, a2b992c828f7). That is the allocator's memory itself, so
 * it also shows what happens between two instructions of a test.
 */

#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/dcache.h>
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/string.h>

#include "area.h"

/* The directory of an area in debugfs; ERR_PTR or NULL when there is none. The caller puts it. */
static struct dentry *area_directory(const char *name)
{
	struct dentry *root = debugfs_lookup("cma", NULL);
	struct dentry *dir;
	char old_name[AREA_NAME_MAX + 4];

	if (IS_ERR_OR_NULL(root))
		return root;
	dir = debugfs_lookup(name, root);
	if (!dir) {
		/* 5.10 has a prefix, 6.1 has none. */
		snprintf(old_name, sizeof(old_name), "cma-%s", name);
		dir = debugfs_lookup(old_name, root);
	}
	dput(root);
	return dir;
}

/* What the file was made with, or NULL. The area outlives us: CMA areas are never taken down. */
static void *file_data(const char *name, struct dentry *dir)
{
	struct dentry *file = debugfs_lookup(name, dir);
	void *data;

	if (IS_ERR_OR_NULL(file))
		return NULL;
	data = d_inode(file)->i_private;
	dput(file);
	return data;
}

/*
 * The directory with base_pfn and bitmap. Since 6.15 (c009da4258f9, "mm, cma: support multiple
 * contiguous ranges, if requested") these are symbolic links into ranges/0; the areas of a device
 * tree have one range.
 */
static struct dentry *range_directory(struct dentry *dir)
{
	struct dentry *ranges = debugfs_lookup("ranges", dir);
	struct dentry *first;

	if (IS_ERR_OR_NULL(ranges))
		return dget(dir);
	first = debugfs_lookup("0", ranges);
	dput(ranges);
	return first;
}

static int area_read(struct area *area, struct dentry *dir)
{
	const unsigned int *order_per_bit = file_data("order_per_bit", dir);
	const unsigned long *count = file_data("count", dir);
	const struct debugfs_u32_array *bitmap;
	const unsigned long *base_pfn;
	struct dentry *range = range_directory(dir);

	if (IS_ERR_OR_NULL(range))
		return -ENXIO;
	base_pfn = file_data("base_pfn", range);
	bitmap = file_data("bitmap", range);
	dput(range);

	if (!order_per_bit || *order_per_bit || !count || !base_pfn || !bitmap)
		return -ENXIO;
	if (bitmap->n_elements != DIV_ROUND_UP(*count, 32))
		return -ENXIO;
	area->base_pfn = *base_pfn;
	area->count = *count;
	area->bitmap = (const unsigned long *)bitmap->array;
	return 0;
}

/*
 * Fill in an area by its name. -ENOENT: debugfs has no such area, or there is no debugfs.
 * -ENXIO: this kernel's debugfs files are not those described above.
 */
static int area_find(struct area *area, const char *name)
{
	struct dentry *dir = area_directory(name);
	int ret;

	if (IS_ERR_OR_NULL(dir))
		return -ENOENT;
	strscpy(area->name, name, sizeof(area->name));
	ret = area_read(area, dir);
	dput(dir);
	return ret;
}

/* As area_find(), for a reserved-memory node, to which the area takes a reference. */
static int area_find_node(struct area *area, struct device_node *node)
{
	int ret = area_find(area, kbasename(node->full_name));

	if (!ret)
		area->node = of_node_get(node);
	return ret;
}

static struct device_node *default_node(void)
{
	struct device_node *root = of_find_node_by_path("/reserved-memory");
	struct device_node *node;

	for_each_available_child_of_node(root, node)
		if (of_property_read_bool(node, "linux,cma-default"))
			break;
	of_node_put(root);
	return node;
}

/*
 * The area of devices that claim none: the "linux,cma-default" node's. Without it, or when cma=
 * on the command line overrides it, the one the kernel made itself, which is called "reserved".
 */
int area_find_default(struct area *area)
{
	struct device_node *node = default_node();
	int ret = node ? area_find_node(area, node) : -ENOENT;

	of_node_put(node);
	return ret == -ENOENT ? area_find(area, "reserved") : ret;
}

/*
 * The area that a "cma-harness,cma-test" node claims. Its claimant, to which the caller gets a
 * reference, is what of_reserved_mem_device_init_by_idx() wants. -ENOENT when there is none.
 */
int area_find_private(struct area *area, struct device_node **claimant)
{
	struct device_node *user = of_find_compatible_node(NULL, NULL, "cma-harness,cma-test");
	struct device_node *node = of_parse_phandle(user, "memory-region", 0);
	int ret = node ? area_find_node(area, node) : -ENOENT;

	of_node_put(node);
	if (ret)
		of_node_put(user);
	else
		*claimant = user;
	return ret;
}

void area_put(struct area *area)
{
	of_node_put(area->node);
	area->node = NULL;
}

/* Pages allocated now. */
unsigned long area_used(const struct area *area)
{
	return bitmap_weight(area->bitmap, area->count);
}

/*
 * Whether a buffer of so many pages has a place: enough free pages in a row, the first aligned, as
 * a page frame, to the buffer's order up to CONFIG_CMA_ALIGNMENT (dma_alloc_from_contiguous()).
 */
bool area_fits(const struct area *area, unsigned long pages)
{
	unsigned int order = min_t(unsigned int, get_order(pages << PAGE_SHIFT),
				   CONFIG_CMA_ALIGNMENT);
	unsigned long mask = (1UL << order) - 1;

	if (pages > area->count)
		return false;
	return bitmap_find_next_zero_area_off((unsigned long *)area->bitmap, area->count, 0, pages,
					      mask, area->base_pfn & mask) < area->count;
}

/* Pages of the largest buffer that has a place now; what fits is monotonic in its size. */
unsigned long area_largest(const struct area *area)
{
	unsigned long fits = 0, fails = area->count + 1;

	while (fails - fits > 1) {
		unsigned long middle = fits + (fails - fits) / 2;

		if (area_fits(area, middle))
			fits = middle;
		else
			fails = middle;
	}
	return fits;
}

/* A copy of the bitmap, for area_unchanged() and to mark in. It lives as long as the case. */
unsigned long *area_snapshot(struct kunit *test, const struct area *area)
{
	size_t bytes = BITS_TO_LONGS(area->count) * sizeof(long);
	unsigned long *copy = kunit_kmalloc(test, bytes, GFP_KERNEL);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, copy);
	bitmap_copy(copy, area->bitmap, area->count);
	return copy;
}

bool area_unchanged(const struct area *area, const unsigned long *snapshot)
{
	return bitmap_equal(area->bitmap, snapshot, area->count);
}
