/* SPDX-License-Identifier: GPL-2.0-only */
/* The cases; each one's claim stands above its definition. */
#ifndef CMA_KUNIT_CASES_H
#define CMA_KUNIT_CASES_H

struct kunit;

/* cases_buffer.c: what holds for one buffer. */
void area_matches_the_tree(struct kunit *test);
void buffer_lies_in_its_area(struct kunit *test);
void buffer_is_contiguous(struct kunit *test);
void bitmap_marks_the_buffer(struct kunit *test);
void aligned_to_the_order(struct kunit *test);
void sizes_round_to_pages(struct kunit *test);
void zeroed_after_dirty(struct kunit *test);
void attributes_keep_the_area(struct kunit *test);
void nonblocking_leaves_the_area(struct kunit *test);

/* cases_area.c: what holds for many buffers, and for the area as a whole. */
void live_buffers_do_not_overlap(struct kunit *test);
void largest_buffer(struct kunit *test);
void every_page_is_usable(struct kunit *test);
void exhaustion_is_clean(struct kunit *test);
void free_restores_the_bitmap(struct kunit *test);
void free_in_any_order(struct kunit *test);
void fits_as_the_bitmap_says(struct kunit *test);
void cycles_do_not_leak(struct kunit *test);
void other_area_is_untouched(struct kunit *test);
void free_counter_follows(struct kunit *test);

/* cases_concurrent.c: what holds for many allocators at once. */
void concurrent_allocators(struct kunit *test);

#endif /* CMA_KUNIT_CASES_H */
