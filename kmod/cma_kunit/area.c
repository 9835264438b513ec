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
	char old_name[16];

	if (IS_ERR_OR_NULL(root))
		return root;
	dir = debugfs_lookup(name, root);
	if (!dir) {
		/* 5.10 has a prefix and cuts what is longer, 6.1 does neither. */
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
 * Fill in an area by its name. -ENOENT: debugfs has no such area, or there is no debugfs, or
 * the area has no pages, since it could not be activated. -ENXIO: this kernel's debugfs files are
 * not those described above.
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
	if (!ret && !area->count)
		return -ENOENT;
	if (!ret)
		area->high = PageHighMem(pfn_to_page(area->base_pfn));
	return ret;
}

/* The "cma-harness,cma-test" node that claims a reserved-memory node, with a reference; or NULL. */
static struct device_node *claimant_of(const struct device_node *node)
{
	struct device_node *user, *region;

	for_each_compatible_node(user, NULL, "cma-harness,cma-test") {
		region = of_parse_phandle(user, "memory-region", 0);
		of_node_put(region);
		if (region == node)
			return user;
	}
	return NULL;
}

/* Fill in an area by its reserved-memory node, to which it takes a reference. */
static int area_find_node(struct area *area, struct device_node *node)
{
	int ret = area_find(area, kbasename(node->full_name));

	if (ret)
		return ret;
	area->node = of_node_get(node);
	area->claimant = claimant_of(node);
	area->shared = of_property_read_bool(node, "linux,cma-default");
	return 0;
}

/* Whether a node of /reserved-memory makes the area of devices that claim none. */
static bool any_shared(const struct areas *areas)
{
	unsigned int i;

	for (i = 0; i < areas->count; i++)
		if (areas->area[i].shared)
			return true;
	return false;
}

/*
 * Find every area: those of the device tree, and "reserved", which the kernel makes itself without
 * a "linux,cma-default" node or when cma= on the command line overrides it. It is the shared one
 * when no node is. -ENXIO: this kernel's debugfs files are not those described above.
 */
int areas_find(struct areas *areas)
{
	struct device_node *root = of_find_node_by_path("/reserved-memory");
	struct device_node *node;
	bool unknown = false;
	int ret;

	for_each_available_child_of_node(root, node) {
		if (areas->count == AREAS_MAX - 1)
			continue;
		ret = area_find_node(&areas->area[areas->count], node);
		areas->count += !ret;
		unknown |= ret == -ENXIO;
	}
	of_node_put(root);

	ret = area_find(&areas->area[areas->count], "reserved");
	if (!ret) {
		areas->area[areas->count].shared = !any_shared(areas);
		areas->count++;
	}
	return unknown || ret == -ENXIO ? -ENXIO : 0;
}

void areas_put(struct areas *areas)
{
	unsigned int i;

	for (i = 0; i < areas->count; i++) {
		of_node_put(areas->area[i].claimant);
		of_node_put(areas->area[i].node);
	}
	memset(areas, 0, sizeof(*areas));
}

/* Pages allocated now. */
unsigned long area_used(const struct area *area)
{
	return bitmap_weight(area->bitmap, area->count);
}

/* The order to which the DMA API aligns a buffer's page frame (dma_alloc_from_contiguous()). */
unsigned int area_align_order(unsigned long pages)
{
	return min_t(unsigned int, get_order(pages << PAGE_SHIFT), CONFIG_CMA_ALIGNMENT);
}

/*
 * Where a buffer of so many pages belongs: the first free run of them, at or behind page @from of
 * the area, whose first page frame is aligned. Returns its page in the area, or the area's count.
 * The definition written down, place by place; lib/bitmap.c searches in another way.
 */
unsigned long area_place(const struct area *area, unsigned long pages, unsigned long from)
{
	unsigned long step = 1UL << area_align_order(pages);
	unsigned long at = ALIGN(area->base_pfn + from, step) - area->base_pfn;

	if (!pages || pages > area->count)
		return area->count;
	for (; at <= area->count - pages; at += step)
		if (find_next_bit(area->bitmap, at + pages, at) >= at + pages)
			return at;
	return area->count;
}

/* Whether a buffer of so many pages has a place. */
bool area_fits(const struct area *area, unsigned long pages)
{
	return area_place(area, pages, 0) < area->count;
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
