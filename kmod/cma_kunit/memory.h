/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory filled with pages of the page allocator, as drivers and user space fill it. */
#ifndef CMA_KUNIT_MEMORY_H
#define CMA_KUNIT_MEMORY_H

#include <linux/list.h>
#include <linux/mmzone.h>
#include <linux/notifier.h>
#include <linux/types.h>

struct task_struct;

/**
 * struct shortage - memory that a case takes for a moment, and gives back
 * @oom: asked before the OOM killer chooses a task
 * @owner: the case's task
 */
struct shortage {
	struct notifier_block oom;
	struct task_struct *owner;
};

int shortage_begin(struct shortage *shortage);
void shortage_end(struct shortage *shortage);

struct page *take_page(struct list_head *list, gfp_t gfp, unsigned int order);
void free_pages_of(struct list_head *list);
unsigned long fill_zone(struct list_head *list, struct zone *zone);
gfp_t zone_gfp(struct zone *zone);

#endif /* CMA_KUNIT_MEMORY_H */
