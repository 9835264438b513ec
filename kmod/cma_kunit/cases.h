/* SPDX-License-Identifier: GPL-2.0-only */
/* The cases; each one's claim stands above its definition. */
#ifndef CMA_KUNIT_CASES_H
#define CMA_KUNIT_CASES_H

#include <kunit/test.h>

/* cases_buffer.c: what holds for one buffer. */
void area_matches_the_tree(struct kunit *test);
void buffer_lies_in_its_area(struct kunit *test);
void buffer_is_contiguous(struct kunit *test);
void buffer_is_its_pages(struct kunit *test);
void bitmap_marks_the_buffer(struct kunit *test);
void sizes_round_to_pages(struct kunit *test);
void zeroed_after_dirty(struct kunit *test);
void zeroed_in_every_way(struct kunit *test);
void attributes_keep_the_area(struct kunit *test);

/* cases_place.c: where a buffer goes. */
void aligned_to_the_order(struct kunit *test);
void first_fit_of_every_order(struct kunit *test);
void first_fit_among_holes(struct kunit *test);
void last_hole_fits_exactly(struct kunit *test);
void largest_buffer(struct kunit *test);
void whole_area_is_one_buffer(struct kunit *test);
void oversize_takes_nothing(struct kunit *test);

/* cases_area.c: what holds for many buffers, and for the area as a whole. */
void live_buffers_do_not_overlap(struct kunit *test);
void every_page_is_usable(struct kunit *test);
void exhaustion_is_clean(struct kunit *test);
void free_restores_the_bitmap(struct kunit *test);
void free_in_any_order(struct kunit *test);
void cycles_do_not_leak(struct kunit *test);
void freed_on_another_cpu(struct kunit *test);
void other_areas_are_untouched(struct kunit *test);
void free_counter_follows(struct kunit *test);
void events_tell_what_was_asked(struct kunit *test);
void events_are_counted(struct kunit *test);

/* cases_pins.c: pages that do not move. */
void pinned_page_is_gone_around(struct kunit *test);
void pinned_everywhere_is_refused(struct kunit *test);
void pinned_last_page_is_refused(struct kunit *test);
void pinned_neighbours_are_left_alone(struct kunit *test);
void killed_task_gives_up_at_once(struct kunit *test);
void ranges_may_cross_pageblocks(struct kunit *test);
void only_cma_takes_its_pageblocks(struct kunit *test);

/* cases_interface.c: the ways to ask. */
void nonblocking_leaves_the_area(struct kunit *test);
void atomic_pool_comes_back(struct kunit *test);
void pages_without_a_mapping(struct kunit *test);
void pages_of_any_size(struct kunit *test);
void pages_beside_the_area_are_not_its(struct kunit *test);
void limit_of_the_bus_is_kept(struct kunit *test);
void short_mask_is_refused(struct kunit *test);
void device_can_be_assigned_again(struct kunit *test);
void failed_mapping_gives_pages_back(struct kunit *test);
void folio_is_one_compound_page(struct kunit *test);
void walk_shows_every_area(struct kunit *test);

/* cases_concurrent.c: what holds for many allocators at once. */
void concurrent_allocators(struct kunit *test);
void allocators_do_not_disturb_each_other(struct kunit *test);
void freed_place_is_free_at_once(struct kunit *test);
void pages_go_back_before_their_bits(struct kunit *test);
void pageblock_is_isolated_once(struct kunit *test);
void areas_work_side_by_side(struct kunit *test);

/* cases_lent.c: the area's pages while others use them. */
void unmovable_pages_stay_out(struct kunit *test);
void reserve_is_not_of_cma(struct kunit *test);
void freed_pages_are_not_for_all(struct kunit *test);
void lent_pages_are_gone_around(struct kunit *test);
void lending_races_with_allocating(struct kunit *test);

#define CASES_OF_AN_AREA {						\
	KUNIT_CASE(area_matches_the_tree),				\
	KUNIT_CASE(buffer_lies_in_its_area),				\
	KUNIT_CASE(buffer_is_contiguous),				\
	KUNIT_CASE(buffer_is_its_pages),				\
	KUNIT_CASE(bitmap_marks_the_buffer),				\
	KUNIT_CASE(sizes_round_to_pages),				\
	KUNIT_CASE(zeroed_after_dirty),					\
	KUNIT_CASE(zeroed_in_every_way),				\
	KUNIT_CASE(attributes_keep_the_area),				\
	KUNIT_CASE(aligned_to_the_order),				\
	KUNIT_CASE(first_fit_of_every_order),				\
	KUNIT_CASE(first_fit_among_holes),				\
	KUNIT_CASE(last_hole_fits_exactly),				\
	KUNIT_CASE(largest_buffer),					\
	KUNIT_CASE(whole_area_is_one_buffer),				\
	KUNIT_CASE(oversize_takes_nothing),				\
	KUNIT_CASE(live_buffers_do_not_overlap),			\
	KUNIT_CASE(every_page_is_usable),				\
	KUNIT_CASE(exhaustion_is_clean),				\
	KUNIT_CASE(free_restores_the_bitmap),				\
	KUNIT_CASE(free_in_any_order),					\
	KUNIT_CASE(cycles_do_not_leak),					\
	KUNIT_CASE(freed_on_another_cpu),				\
	KUNIT_CASE(other_areas_are_untouched),				\
	KUNIT_CASE(free_counter_follows),				\
	KUNIT_CASE(events_tell_what_was_asked),				\
	KUNIT_CASE(events_are_counted),					\
	KUNIT_CASE(pinned_page_is_gone_around),				\
	KUNIT_CASE(pinned_everywhere_is_refused),			\
	KUNIT_CASE(pinned_last_page_is_refused),			\
	KUNIT_CASE(pinned_neighbours_are_left_alone),			\
	KUNIT_CASE(killed_task_gives_up_at_once),			\
	KUNIT_CASE(ranges_may_cross_pageblocks),			\
	KUNIT_CASE(only_cma_takes_its_pageblocks),			\
	KUNIT_CASE(nonblocking_leaves_the_area),			\
	KUNIT_CASE(atomic_pool_comes_back),				\
	KUNIT_CASE(pages_without_a_mapping),				\
	KUNIT_CASE(pages_of_any_size),					\
	KUNIT_CASE(pages_beside_the_area_are_not_its),			\
	KUNIT_CASE(limit_of_the_bus_is_kept),				\
	KUNIT_CASE(short_mask_is_refused),				\
	KUNIT_CASE(device_can_be_assigned_again),			\
	KUNIT_CASE(failed_mapping_gives_pages_back),			\
	KUNIT_CASE(folio_is_one_compound_page),				\
	KUNIT_CASE(walk_shows_every_area),				\
	KUNIT_CASE(concurrent_allocators),				\
	KUNIT_CASE(allocators_do_not_disturb_each_other),		\
	KUNIT_CASE(freed_place_is_free_at_once),			\
	KUNIT_CASE(pages_go_back_before_their_bits),			\
	KUNIT_CASE(pageblock_is_isolated_once),				\
	{ }								\
}

#define CASES_OF_ALL_AREAS {						\
	KUNIT_CASE(areas_work_side_by_side),				\
	KUNIT_CASE(unmovable_pages_stay_out),				\
	KUNIT_CASE(reserve_is_not_of_cma),				\
	KUNIT_CASE(freed_pages_are_not_for_all),			\
	KUNIT_CASE(lent_pages_are_gone_around),				\
	KUNIT_CASE(lending_races_with_allocating),			\
	{ }								\
}

#endif /* CMA_KUNIT_CASES_H */
