// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages that something in the kernel holds a reference to: for a moment (FOLL_GET, by vmsplice()
 * into a pipe that nobody reads) or for long (FOLL_LONGTERM, by io_uring's registered buffers).
 */
#define _GNU_SOURCE

#include "occupant.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pattern.h"
#include "report.h"

static int pipe_ends[2] = { -1, -1 };
static size_t *pinned;		/* the indices of the pages in the pipe, in order */
static size_t pinned_count;
static int ring = -1;

struct candidate {
	uint64_t frame;
	size_t index;
};

static int by_frame(const void *one, const void *other)
{
	const struct candidate *a = one, *b = other;

	return (a->frame > b->frame) - (a->frame < b->frame);
}

/* The pages inside the area, the lowest frame first; the caller frees them. */
static struct candidate *candidates(const struct occupant *o, size_t *count)
{
	uint64_t *frames = calloc(o->count, sizeof(*frames));
	struct candidate *all = calloc(o->count, sizeof(*all));
	size_t found = 0;

	if (!frames || !all)
		die("calloc");
	place_now(o, frames);
	for (size_t i = 0; i < o->count; i++)
		if (frames[i] != NO_FRAME && inside(o, frames[i]))
			all[found++] = (struct candidate){ .frame = frames[i], .index = i };
	free(frames);
	qsort(all, found, sizeof(*all), by_frame);
	*count = found;
	return all;
}

static int splice_page(const struct occupant *o, size_t index)
{
	struct iovec page = { .iov_base = o->map + index * PAGE, .iov_len = PAGE };

	return vmsplice(pipe_ends[1], &page, 1, SPLICE_F_NONBLOCK) == (ssize_t)PAGE ? 0 : errno;
}

/* Pin the first page of each @every bytes of the area's addresses; tell the frames. */
int pin_short(const struct occupant *o, uint64_t every, FILE *to)
{
	const char *comma = "";
	uint64_t slot = UINT64_MAX;
	struct candidate *all;
	size_t count;
	int error = 0;

	if (!o->map)
		return EINVAL;
	if (pinned)
		return EBUSY;
	/* A pipe has a slot for each page of its size. */
	if (pipe2(pipe_ends, O_CLOEXEC) || fcntl(pipe_ends[1], F_SETPIPE_SZ, 256 * PAGE) < 0)
		return errno;
	all = candidates(o, &count);
	pinned = calloc(count + 1, sizeof(*pinned));
	if (!pinned)
		die("calloc");
	pinned_count = 0;
	fputs("{\"frames\": [", to);
	for (size_t i = 0; i < count && !error; i++) {
		if (all[i].frame * PAGE / every == slot)
			continue;
		slot = all[i].frame * PAGE / every;
		error = splice_page(o, all[i].index);
		if (error)
			break;
		pinned[pinned_count++] = all[i].index;
		fprintf(to, "%s%" PRIu64, comma, all[i].frame);
		comma = ", ";
	}
	fputs("]}\n", to);
	free(all);
	return error;
}

/* Register all pages as one fixed buffer, and tell how many lie in CMA then. */
int pin_long(const struct occupant *o, FILE *to)
{
	struct iovec all = { .iov_base = o->map, .iov_len = o->count * PAGE };
	struct io_uring_params params = { 0 };
	uint64_t *frames;

	if (!o->map)
		return EINVAL;
	if (ring >= 0)
		return EBUSY;
	ring = syscall(__NR_io_uring_setup, 1, &params);
	if (ring < 0)
		return errno;
	if (syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, &all, 1)) {
		int error = errno;

		close(ring);
		ring = -1;
		return error;
	}
	frames = calloc(o->count, sizeof(*frames));
	if (!frames)
		die("calloc");
	place_now(o, frames);
	fputc('{', to);
	place_print(o, frames, to);
	fputs("}\n", to);
	free(frames);
	return 0;
}

/* How many of the pages come out of the pipe as something else than what was put in. */
static size_t drain(const struct occupant *o)
{
	uint32_t page[PAGE_WORDS];
	size_t bad = 0;

	for (size_t i = 0; i < pinned_count; i++) {
		if (read(pipe_ends[0], page, PAGE) != (ssize_t)PAGE)
			die("pipe");
		bad += !page_holds(page, o->seed, pinned[i]);
	}
	return bad;
}

/* Let go of all pins. */
int pin_end(const struct occupant *o, FILE *to)
{
	size_t bad = 0;

	if (pinned) {
		bad = drain(o);
		close(pipe_ends[0]);
		close(pipe_ends[1]);
		free(pinned);
		pinned = NULL;
	}
	if (ring >= 0) {
		/* Closing alone leaves the pins to a worker; this waits. */
		if (syscall(__NR_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL, 0))
			return errno;
		close(ring);
		ring = -1;
	}
	fprintf(to, "{\"drained\": %zu, \"bad\": %zu}\n", pinned_count, bad);
	pinned_count = 0;
	return 0;
}
