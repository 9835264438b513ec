// SPDX-License-Identifier: GPL-2.0-only
/*
 * cma-churn: allocate, fill, check and free buffers on several devices at once, while others churn
 * memory. Every buffer has a pattern of its own, so that a page which two have shows.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cma_test_uapi.h"
#include "pattern.h"
#include "report.h"

static const char usage_text[] =
	"usage: cma-churn [-r ROUNDS] [-w WORKERS] [-s SEED] [-m BYTES] [--fork] [--anon]\n"
	"                 [--cache FILE] DEVICE...\n"
	"\n"
	"  -r, --rounds N    buffers that each worker allocates; 100 by default\n"
	"  -w, --workers N   for each device; 2 by default. A worker holds four buffers\n"
	"  -s, --seed N      sizes are made from it and the worker's number\n"
	"  -m, --max BYTES   the largest size; 1M by default. A quarter are single pages\n"
	"  --fork            meanwhile: processes that touch memory after a fork, and exit\n"
	"  --anon            meanwhile: anonymous memory, mapped, touched and unmapped\n"
	"  --cache FILE      meanwhile: a file that is written, read and dropped\n"
	"  -h, --help        this text\n"
	"\n"
	"Tells, of all workers: buffers, failed (no room: ENOSPC), not_zero (buffers that were not\n"
	"zero when they came), corrupt (whose content was another's when they went), what an\n"
	"allocation took (median_ns, max_ns), and how often each of the others went round.\n"
	"Exit status: 0 done, 1 a system call failed otherwise, 2 usage, 3 not zero or corrupt.\n"
	"\n"
	"Example: cma-churn -r 50 --fork /dev/cma_test\n";

#define MAX_DEVICES 8
#define MAX_WORKERS 64
#define HELD 4
#define MIB (1UL << 20)

struct buffer {
	uint32_t handle;
	unsigned char *map;
	size_t pages;
};

struct worker {
	pthread_t thread;
	const char *device;
	uint32_t number;
	uint32_t random;
	struct buffer held[HELD];
	uint64_t *took_ns;
	size_t buffers;
	size_t failed;
	size_t not_zero;
	size_t corrupt;
};

static struct {
	const char *devices[MAX_DEVICES];
	size_t device_count;
	size_t workers;
	size_t rounds;
	uint32_t seed;
	size_t max;
	const char *cache;
	bool fork;
	bool anon;
} opt = { .workers = 2, .rounds = 100, .seed = 1, .max = MIB };

static atomic_bool done;
static atomic_size_t *forks, maps, drops;

/* xorshift32 */
static uint32_t next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static void put(struct worker *w, int fd, struct buffer *b)
{
	struct cma_test_free arg = { .handle = b->handle };
	bool good = true;

	if (!b->map)
		return;
	for (size_t i = 0; i < b->pages; i++)
		good &= page_holds(b->map + i * PAGE, b->handle << 6 | w->number, i);
	w->corrupt += !good;
	if (munmap(b->map, b->pages * PAGE) || ioctl(fd, CMA_TEST_IOC_FREE, &arg))
		die(w->device);
	b->map = NULL;
}

/* A buffer of @pages pages; false when there was no room. */
static bool get(struct worker *w, int fd, struct buffer *b, size_t pages)
{
	struct cma_test_alloc arg = { .size = pages * PAGE, .attrs = CMA_TEST_ATTR_NO_WARN };
	bool zero = true;

	if (ioctl(fd, CMA_TEST_IOC_ALLOC, &arg)) {
		if (errno != ENOSPC)
			die(w->device);
		w->failed++;
		return false;
	}
	w->took_ns[w->buffers++] = arg.took_ns;
	b->handle = arg.handle;
	b->pages = pages;
	b->map = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		      (off_t)arg.handle * PAGE);
	if (b->map == MAP_FAILED)
		die(w->device);
	for (size_t i = 0; i < pages; i++) {
		zero &= page_zero(b->map + i * PAGE);
		page_fill(b->map + i * PAGE, b->handle << 6 | w->number, i);
	}
	w->not_zero += !zero;
	return true;
}

static void *work(void *worker)
{
	struct worker *w = worker;
	int fd = open(w->device, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die(w->device);
	for (size_t round = 0; round < opt.rounds; round++) {
		struct buffer *b = &w->held[round % HELD];
		size_t pages = next(&w->random) % (opt.max / PAGE) + 1;

		put(w, fd, b);
		get(w, fd, b, next(&w->random) % 4 ? pages : 1);
	}
	for (size_t i = 0; i < HELD; i++)
		put(w, fd, &w->held[i]);
	close(fd);
	return NULL;
}

static unsigned char *touched(size_t size)
{
	unsigned char *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		die("mmap");
	for (size_t at = 0; at < size; at += PAGE)
		map[at] = 1;
	return map;
}

/* Its children write to pages that they share with it, which copies them. */
static _Noreturn void fork_around(void)
{
	unsigned char *map = touched(MIB);

	for (;; ++*forks) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (!pid) {
			for (size_t at = 0; at < MIB; at += PAGE)
				map[at] = 2;
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	}
}

/* A process apart: a child of this one would map its buffers too, and nobody could free them. */
static pid_t start_forks(void)
{
	pid_t pid;

	forks = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (forks == MAP_FAILED)
		die("mmap");
	if (!opt.fork)
		return 0;
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fork_around();
	}
	return pid;
}

static void *map_around(void *nothing)
{
	for (; !done; maps++)
		munmap(touched(4 * MIB), 4 * MIB);
	return nothing;
}

static void *write_around(void *nothing)
{
	static unsigned char chunk[64 * 1024];
	int fd = open(opt.cache, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || unlink(opt.cache))
		die(opt.cache);
	for (; !done; drops++) {
		for (size_t at = 0; at < 4 * MIB; at += sizeof(chunk))
			if (pwrite(fd, chunk, sizeof(chunk), at) != sizeof(chunk))
				die(opt.cache);
		if (fdatasync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
			die(opt.cache);
		for (size_t at = 0; at < 4 * MIB; at += sizeof(chunk))
			if (pread(fd, chunk, sizeof(chunk), at) != sizeof(chunk))
				die(opt.cache);
	}
	close(fd);
	return nothing;
}

static void start(pthread_t *thread, void *(*run)(void *), void *argument)
{
	int error = pthread_create(thread, NULL, run, argument);

	if (error)
		die_of(error, "pthread_create");
}

static int by_value(const void *one, const void *other)
{
	uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;

	return (a > b) - (a < b);
}

static int report(const struct worker *workers, size_t count)
{
	uint64_t *took = calloc(count * opt.rounds, sizeof(*took));
	struct worker all = { 0 };

	if (!took)
		die("calloc");
	for (size_t i = 0; i < count; i++) {
		const struct worker *w = &workers[i];

		memcpy(took + all.buffers, w->took_ns, w->buffers * sizeof(*took));
		all.buffers += w->buffers;
		all.failed += w->failed;
		all.not_zero += w->not_zero;
		all.corrupt += w->corrupt;
	}
	qsort(took, all.buffers, sizeof(*took), by_value);
	printf("{\"buffers\": %zu, \"failed\": %zu, \"not_zero\": %zu, \"corrupt\": %zu, "
	       "\"median_ns\": %" PRIu64 ", \"max_ns\": %" PRIu64 ", \"forks\": %zu, "
	       "\"maps\": %zu, \"drops\": %zu}\n", all.buffers, all.failed, all.not_zero,
	       all.corrupt, all.buffers ? took[all.buffers / 2] : 0,
	       all.buffers ? took[all.buffers - 1] : 0, (size_t)*forks, (size_t)maps,
	       (size_t)drops);
	free(took);
	return all.not_zero || all.corrupt ? EXIT_DIFFERS : EXIT_OK;
}

static int churn(void)
{
	static struct worker workers[MAX_WORKERS];
	size_t count = opt.workers * opt.device_count, others = 0;
	pthread_t threads[2];
	pid_t forker;

	if (!count || count > MAX_WORKERS)
		usage_error("no or too many workers", "1 to 64 of all devices");
	forker = start_forks();
	if (opt.anon)
		start(&threads[others++], map_around, NULL);
	if (opt.cache)
		start(&threads[others++], write_around, NULL);
	for (size_t i = 0; i < count; i++) {
		workers[i].device = opt.devices[i % opt.device_count];
		workers[i].number = i;
		workers[i].random = opt.seed * 0x9e3779b1 + i + 1;
		workers[i].took_ns = calloc(opt.rounds, sizeof(*workers[i].took_ns));
		if (!workers[i].took_ns)
			die("calloc");
		start(&workers[i].thread, work, &workers[i]);
	}
	for (size_t i = 0; i < count; i++)
		pthread_join(workers[i].thread, NULL);
	done = true;
	if (forker && (kill(forker, SIGKILL) || waitpid(forker, NULL, 0) < 0))
		die("fork");
	while (others)
		pthread_join(threads[--others], NULL);
	return report(workers, count);
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "rounds", required_argument, NULL, 'r' },
		{ "workers", required_argument, NULL, 'w' },
		{ "seed", required_argument, NULL, 's' },
		{ "max", required_argument, NULL, 'm' },
		{ "fork", no_argument, NULL, 'f' },
		{ "anon", no_argument, NULL, 'a' },
		{ "cache", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 }
	};
	int letter, status;

	while ((letter = getopt_long(argc, argv, "r:w:s:m:h", known, NULL)) != -1) {
		switch (letter) {
		case 'r':
			opt.rounds = number(optarg, 1000000);
			break;
		case 'w':
			opt.workers = number(optarg, MAX_WORKERS);
			break;
		case 's':
			opt.seed = number(optarg, UINT32_MAX);
			break;
		case 'm':
			opt.max = number(optarg, 16 * MIB);
			break;
		case 'f':
			opt.fork = true;
			break;
		case 'a':
			opt.anon = true;
			break;
		case 'c':
			opt.cache = optarg;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return EXIT_OK;
		default:
			return EXIT_USAGE;
		}
	}
	for (; optind < argc && opt.device_count < MAX_DEVICES; optind++)
		opt.devices[opt.device_count++] = argv[optind];
	if (optind < argc || !opt.device_count || opt.max < PAGE)
		usage_error("devices", "1 to 8, and at least a page");
	status = churn();
	if (fflush(stdout))
		die("standard output");
	return status;
}
