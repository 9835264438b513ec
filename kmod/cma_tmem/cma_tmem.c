// SPDX-License-Identifier: GPL-2.0-only
/*
 * cma_tmem: a backend of cleancache. It keeps the clean pages of files that the kernel discards,
 * and gives them back instead of the disk, while it has room: the oldest go when it has not.
 *
 * Its pages are taken when it is loaded, and cannot be moved, so that none is CMA's. What is
 * registered with cleancache stays: the module cannot be unloaded.
 */

#include <linux/cleancache.h>
#include <linux/hashtable.h>
#include <linux/highmem.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>

static unsigned int pages = 2048;
module_param(pages, uint, 0444);
MODULE_PARM_DESC(pages, "how many pages there is room for");

static unsigned int limit = UINT_MAX;
module_param(limit, uint, 0644);
MODULE_PARM_DESC(limit, "how many of them may be used, from the next page on");

static unsigned int held;
module_param(held, uint, 0444);
MODULE_PARM_DESC(held, "how many pages are kept now");

static unsigned int evicted;
module_param(evicted, uint, 0444);
MODULE_PARM_DESC(evicted, "how many went to make room");

/**
 * struct slot - room for a page
 * @hash: in the table, while there is a page in it
 * @order: in @used, the oldest first, or in @unused
 * @pool: the file system that the page is of
 * @key: the file
 * @index: the page's place in the file
 * @page: what it holds
 */
struct slot {
	struct hlist_node hash;
	struct list_head order;
	int pool;
	struct cleancache_filekey key;
	pgoff_t index;
	struct page *page;
};

/* Of all below; pages are put with interrupts off. */
static DEFINE_SPINLOCK(lock);
static DEFINE_HASHTABLE(table, 10);
static LIST_HEAD(used);
static LIST_HEAD(unused);
static int pools;

static bool is_of(const struct slot *slot, int pool, const struct cleancache_filekey *key)
{
	return slot->pool == pool && !memcmp(&slot->key, key, sizeof(*key));
}

static struct slot *find(int pool, const struct cleancache_filekey *key, pgoff_t index)
{
	struct slot *slot;

	hash_for_each_possible(table, slot, hash, index)
		if (slot->index == index && is_of(slot, pool, key))
			return slot;
	return NULL;
}

static void drop(struct slot *slot)
{
	hash_del(&slot->hash);
	list_move(&slot->order, &unused);
	held--;
}

/* Room for one more page, if need be that of the oldest; NULL when there is to be none. */
static struct slot *room(void)
{
	if (!limit)
		return NULL;
	while (held && (held >= limit || list_empty(&unused))) {
		drop(list_first_entry(&used, struct slot, order));
		evicted++;
	}
	return list_first_entry_or_null(&unused, struct slot, order);
}

static void tmem_put(int pool, struct cleancache_filekey key, pgoff_t index, struct page *page)
{
	unsigned long flags;
	struct slot *slot;

	spin_lock_irqsave(&lock, flags);
	slot = find(pool, &key, index);
	if (slot)
		drop(slot);
	slot = room();
	if (slot) {
		slot->pool = pool;
		slot->key = key;
		slot->index = index;
		copy_highpage(slot->page, page);
		hash_add(table, &slot->hash, index);
		list_move_tail(&slot->order, &used);
		held++;
	}
	spin_unlock_irqrestore(&lock, flags);
}

/* A page is in the page cache or here, never in both. */
static int tmem_get(int pool, struct cleancache_filekey key, pgoff_t index, struct page *page)
{
	unsigned long flags;
	struct slot *slot;

	spin_lock_irqsave(&lock, flags);
	slot = find(pool, &key, index);
	if (slot) {
		copy_highpage(page, slot->page);
		flush_dcache_page(page);
		drop(slot);
	}
	spin_unlock_irqrestore(&lock, flags);
	return slot ? 0 : -1;
}

static void tmem_invalidate_page(int pool, struct cleancache_filekey key, pgoff_t index)
{
	unsigned long flags;
	struct slot *slot;

	spin_lock_irqsave(&lock, flags);
	slot = find(pool, &key, index);
	if (slot)
		drop(slot);
	spin_unlock_irqrestore(&lock, flags);
}

static void tmem_invalidate_inode(int pool, struct cleancache_filekey key)
{
	struct slot *slot, *next;
	unsigned long flags;

	spin_lock_irqsave(&lock, flags);
	list_for_each_entry_safe(slot, next, &used, order)
		if (is_of(slot, pool, &key))
			drop(slot);
	spin_unlock_irqrestore(&lock, flags);
}

static void tmem_invalidate_fs(int pool)
{
	struct slot *slot, *next;
	unsigned long flags;

	spin_lock_irqsave(&lock, flags);
	list_for_each_entry_safe(slot, next, &used, order)
		if (slot->pool == pool)
			drop(slot);
	spin_unlock_irqrestore(&lock, flags);
}

static int tmem_init_fs(size_t size)
{
	return size == PAGE_SIZE ? pools++ : -EINVAL;
}

static int tmem_init_shared_fs(uuid_t *uuid, size_t size)
{
	return -EINVAL;
}

static const struct cleancache_ops tmem_ops = {
	.init_fs = tmem_init_fs,
	.init_shared_fs = tmem_init_shared_fs,
	.get_page = tmem_get,
	.put_page = tmem_put,
	.invalidate_page = tmem_invalidate_page,
	.invalidate_inode = tmem_invalidate_inode,
	.invalidate_fs = tmem_invalidate_fs,
};

static void free_slots(struct slot *slots, unsigned int count)
{
	while (count--)
		__free_page(slots[count].page);
	vfree(slots);
}

static int __init cma_tmem_init(void)
{
	struct slot *slots = vzalloc(array_size(pages, sizeof(*slots)));
	unsigned int i;
	int error;

	if (!slots)
		return -ENOMEM;
	for (i = 0; i < pages; i++) {
		slots[i].page = alloc_page(GFP_HIGHUSER);
		if (!slots[i].page) {
			free_slots(slots, i);
			return -ENOMEM;
		}
		list_add_tail(&slots[i].order, &unused);
	}
	error = cleancache_register_ops(&tmem_ops);
	if (error)
		free_slots(slots, pages);
	return error;
}
module_init(cma_tmem_init);

MODULE_DESCRIPTION("Keeps clean pages that the kernel discards (a backend of cleancache)");
MODULE_LICENSE("GPL");
