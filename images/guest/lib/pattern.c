// SPDX-License-Identifier: GPL-2.0-only
#include "pattern.h"

/* One round of a multiplicative hash (the constant is 2^32 / golden ratio). */
static uint32_t mix(uint32_t value)
{
	value *= 0x9e3779b1;
	return value ^ value >> 15;
}

static uint32_t word(uint32_t seed, uint32_t index, uint32_t place)
{
	if (seed & PATTERN_REPEATS)
		place %= PAGE_WORDS / 2;
	switch (place) {
	case 0:
		return index;
	case 1:
		return seed;
	default:
		return mix(mix(seed ^ index) + place);
	}
}

void page_fill(void *page, uint32_t seed, uint32_t index)
{
	uint32_t *words = page;

	for (uint32_t i = 0; i < PAGE_WORDS; i++)
		words[i] = word(seed, index, i);
}

bool page_holds(const void *page, uint32_t seed, uint32_t index)
{
	const uint32_t *words = page;

	for (uint32_t i = 0; i < PAGE_WORDS; i++)
		if (words[i] != word(seed, index, i))
			return false;
	return true;
}

bool page_zero(const void *page)
{
	const uint32_t *words = page;

	for (uint32_t i = 0; i < PAGE_WORDS; i++)
		if (words[i])
			return false;
	return true;
}
