/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What pages are filled with: their index and a seed, and words made of both and of the word's
 * place, so that a page which is somewhere else, older, shifted or torn is told from the right one.
 */
#ifndef PATTERN_H
#define PATTERN_H

#include <stdbool.h>
#include <stdint.h>

#include "frames.h"

#define PAGE_WORDS (PAGE / sizeof(uint32_t))

/* In a seed: the second half of a page is as the first, so that half of it can be compressed away. */
#define PATTERN_REPEATS (1U << 31)

void page_fill(void *page, uint32_t seed, uint32_t index);
bool page_holds(const void *page, uint32_t seed, uint32_t index);
bool page_zero(const void *page);

#endif
