/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of cma-occupy share: pages that are held, and what is known of them. */
#ifndef OCCUPANT_H
#define OCCUPANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "areas.h"
#include "frames.h"

struct occupant;

/**
 * struct kind - a way to hold pages
 * @name: what the command line calls it
 * @what: one line for --help
 * @needs_file: the pages are those of a file that the command line names
 * @prepare: what has to be done before memory is short, if anything
 * @take: bring the pages into memory, with their content
 * @settle: what has to be done after the shortage, if anything
 */
struct kind {
	const char *name;
	const char *what;
	bool needs_file;
	void (*prepare)(struct occupant *o);
	void (*take)(struct occupant *o);
	void (*settle)(struct occupant *o);
};

/**
 * struct occupant - the pages that are held
 * @kind: how
 * @path: the file they are of, or NULL
 * @seed: what their contents are made from, with their index
 * @count: pages
 * @map: where they are mapped, or NULL when they are in the page cache alone
 * @fd: the file they are of, or -1
 * @locked: a mapping by which they are locked, or NULL
 * @frames: where each was when it was taken
 * @child: the process that shares them, or 0
 * @link: to the child
 * @child_frames: where the child has them, written by it
 * @areas: all of the kernel's
 * @area_count: how many
 * @anywhere: they may lie where they happen to: memory is not made short
 * @area: the one they are to lie in; NULL: any
 */
struct occupant {
	const struct kind *kind;
	const char *path;
	uint32_t seed;
	size_t count;
	unsigned char *map;
	int fd;
	void *locked;
	uint64_t *frames;
	pid_t child;
	int link;
	uint64_t *child_frames;
	struct area areas[MAX_AREAS];
	size_t area_count;
	bool anywhere;
	const struct area *area;
};

/**
 * struct contents - what the pages hold
 * @bad: neither what they should nor zeroes
 * @zero: zeroes
 * @first: the first that is either, or -1
 * @holds: the index whose content that page has, or -1
 * @child_bad: pages that the child does not see as it should
 * @shared: pages whose frame the child shares
 */
struct contents {
	size_t bad;
	size_t zero;
	long first;
	long holds;
	size_t child_bad;
	size_t shared;
};

extern const struct kind kinds[];
extern const size_t kind_count;

/* content.c */
void pages_fill(const struct occupant *o, uint32_t seed);
void pages_write(const struct occupant *o, uint32_t seed);
void pages_touch(const struct occupant *o);
const void *page_of(const struct occupant *o, size_t index, void *buffer);
void contents_check(const struct occupant *o, struct contents *found);

/* fates.c; 0 or an errno */
int fates_print(const struct occupant *o, FILE *to);

/* place.c */
bool inside(const struct occupant *o, uint64_t frame);
void place_now(const struct occupant *o, uint64_t *frames);
void place_print(const struct occupant *o, const uint64_t *frames, FILE *to);

/* kernel.c */
void kernel_take(size_t pages);

/* share.c */
void child_start(struct occupant *o);
void child_check(const struct occupant *o, struct contents *found);
void child_end(struct occupant *o);

/* pin.c; 0 or an errno */
int pin_short(const struct occupant *o, uint64_t every, FILE *to);
int pin_long(const struct occupant *o, FILE *to);
int pin_end(const struct occupant *o, FILE *to);

/* serve.c */
int name_bind(const char *name);
_Noreturn void serve(struct occupant *o, int listener);
int ask(const char *name, char **words);

#endif
