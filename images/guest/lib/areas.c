// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE

#include "areas.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report.h"
#include "text.h"

#define DEBUGFS "/sys/kernel/debug/cma"
#define NODES "/proc/device-tree/reserved-memory"
#define CUT 15	/* the longest name of a directory before 6.1 */

/* Where base_pfn and count stand: in a directory for each range since 6.15, above it before. */
static const char * const places[] = { "", "ranges/0/" };

static char *text_in(const struct area *area, const char *file)
{
	char path[256];

	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		char *text;

		snprintf(path, sizeof(path), "%s/%s%s", area->directory, places[i], file);
		text = text_of(path);
		if (text)
			return text;
	}
	die(path);
}

uint64_t area_get(const struct area *area, const char *file)
{
	char *text = text_in(area, file), *end;
	uint64_t value = strtoull(text, &end, 10);

	if (end == text)
		die_of(EIO, file);
	return value;
}

int area_set(const struct area *area, const char *file, uint64_t value)
{
	char path[256], text[32];
	int length = snprintf(text, sizeof(text), "%" PRIu64, value);
	ssize_t written;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", area->directory, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	written = write(fd, text, length);
	close(fd);
	return written == length ? 0 : -1;
}

size_t area_bitmap(const struct area *area, uint32_t *words)
{
	char *text = text_in(area, "bitmap"), *end;
	size_t count;

	for (count = 0; count < area_words(area); count++, text = end) {
		words[count] = strtoul(text, &end, 10);
		if (end == text)
			break;
	}
	return count;
}

static bool bit(const uint32_t *words, size_t number)
{
	return words[number / 32] >> number % 32 & 1;
}

void print_runs(const uint32_t *words, size_t count)
{
	const char *comma = "";

	putchar('[');
	for (size_t i = 0; i < count * 32; i++) {
		size_t first = i;

		while (i < count * 32 && bit(words, i))
			i++;
		if (i == first)
			continue;
		printf("%s[%zu, %zu]", comma, first, i - first);
		comma = ", ";
	}
	putchar(']');
}

static int by_address(const void *one, const void *other)
{
	const struct area *a = one, *b = other;

	return (a->base_pfn > b->base_pfn) - (a->base_pfn < b->base_pfn);
}

/*
 * Before 6.1 the directory of NAME is called cma-NAME, and has 15 characters at most. What is cut
 * off is in the device tree, unless two of its nodes begin so.
 */
static void name_of(const char *directory, char name[static 64])
{
	bool prefixed = !strncmp(directory, "cma-", 4);
	struct dirent *entry;
	size_t found = 0;
	DIR *nodes;

	snprintf(name, 64, "%.63s", prefixed ? directory + 4 : directory);
	if (!prefixed || strlen(directory) < CUT)
		return;
	nodes = opendir(NODES);
	while (nodes && (entry = readdir(nodes)))
		if (!strncmp(entry->d_name, directory + 4, CUT - 4) && !found++)
			snprintf(name, 64, "%.63s", entry->d_name);
	if (nodes)
		closedir(nodes);
	if (found > 1)
		snprintf(name, 64, "%.63s", directory + 4);
}

size_t areas_read(struct area areas[MAX_AREAS])
{
	DIR *all = opendir(DEBUGFS);
	struct dirent *entry;
	size_t found = 0;

	if (!all)
		die(DEBUGFS);
	while (found < MAX_AREAS && (entry = readdir(all))) {
		struct area *area = &areas[found];

		if (*entry->d_name == '.')
			continue;
		name_of(entry->d_name, area->name);
		snprintf(area->directory, sizeof(area->directory), DEBUGFS "/%.63s",
			 entry->d_name);
		area->count = area_get(area, "count");
		if (!area->count)
			continue;
		area->base_pfn = area_get(area, "base_pfn");
		area->order_per_bit = area_get(area, "order_per_bit");
		found++;
	}
	closedir(all);
	qsort(areas, found, sizeof(*areas), by_address);
	return found;
}

const struct area *area_named(const struct area *areas, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(areas[i].name, name))
			return &areas[i];
	fputs("the kernel has the areas", stderr);
	for (size_t i = 0; i < count; i++)
		fprintf(stderr, " %s", areas[i].name);
	fputc('\n', stderr);
	usage_error("no such area", name);
}

bool areas_have(const struct area *areas, size_t count, uint64_t pfn)
{
	for (size_t i = 0; i < count; i++)
		if (area_has(&areas[i], pfn))
			return true;
	return false;
}
