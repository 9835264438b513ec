// SPDX-License-Identifier: GPL-2.0-only
/*
 * cma-ctl: drive /dev/cma_test from a shell. Each result is one JSON object on a line of its own.
 *
 * A failed system call ends the program with status 1 and "cma-ctl: COMMAND: ERRNO (text)" on
 * standard error. The interface is described in kmod/cma_test/cma_test_uapi.h.
 */

#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "areas.h"
#include "cma_test_uapi.h"
#include "report.h"

static const char usage_text[] =
	"usage: cma-ctl [-d DEVICE] COMMAND [ARGUMENTS]\n"
	"\n"
	"  alloc BYTES [--align N] [--attr A,B] [--nowait]   allocate; attributes: write-combine,\n"
	"                          no-kernel-mapping, force-contiguous, no-warn\n"
	"  free HANDLE             free that buffer\n"
	"  list                    the live buffers, oldest first, one a line\n"
	"  fill HANDLE PATTERN     set every byte of the buffer, through a mapping\n"
	"  check HANDLE PATTERN    compare every byte with PATTERN (0 to 255)\n"
	"  map HANDLE SECONDS      hold a mapping for so long\n"
	"  write [--] TEXT         the v4 interface: write(2) TEXT, a number of KiB\n"
	"  read                    the v4 interface: read(2), which frees the oldest buffer\n"
	"  cost BYTES              allocate and free, started by the clock: see below\n"
	"  version                 what the device is\n"
	"  script AREA             operations from standard input, one a line; see below\n"
	"\n"
	"  -d, --device DEVICE     /dev/cma_test by default, the device of the default area\n"
	"  -h, --help              this text\n"
	"\n"
	"Numbers are decimal, 0x hexadecimal or 0 octal; K, M and G are powers of 1024. Sizes are\n"
	"bytes unless said otherwise.\n"
	"Exit status: 0 done, 1 a system call failed (its errno is on standard error), 2 usage,\n"
	"3 check found other bytes.\n"
	"\n"
	"The lines of a script are: alloc BYTES [OPTIONS]; free LINE, the buffer that this line made;\n"
	"write TEXT; read. Each is answered by a JSON object: its line, the buffer it made or the\n"
	"errno, and what debugfs then shows of AREA: `used`, and the runs [first, length] of set\n"
	"bits. Line 0 is the state before. At the end every buffer of the device is freed, and the\n"
	"state shown once more.\n"
	"\n"
	"cost sleeps until CLOCK_MONOTONIC shows whole seconds, allocates and frees, and only then says\n"
	"how many ns each took inside the kernel: a guest whose clock counts instructions is undisturbed\n"
	"by whoever started it.\n"
	"\n"
	"Example: cma-ctl alloc 0x100000 --attr write-combine,no-warn && cma-ctl list\n";

struct options {
	const char *device;
	uint64_t align;
	uint32_t attrs;
	uint32_t gfp;
};

struct attr {
	const char *name;
	uint32_t bit;
};

static const struct attr attrs[] = {
	{ "write-combine", CMA_TEST_ATTR_WRITE_COMBINE },
	{ "no-kernel-mapping", CMA_TEST_ATTR_NO_KERNEL_MAPPING },
	{ "force-contiguous", CMA_TEST_ATTR_FORCE_CONTIGUOUS },
	{ "no-warn", CMA_TEST_ATTR_NO_WARN },
};

static const char *command = "?";

static uint32_t attr_bits(char *names)
{
	uint32_t bits = 0;
	char *save, *name;

	for (name = strtok_r(names, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		size_t i = 0;

		while (i < sizeof(attrs) / sizeof(*attrs) && strcmp(name, attrs[i].name))
			i++;
		if (i == sizeof(attrs) / sizeof(*attrs))
			usage_error("no such attribute", name);
		bits |= attrs[i].bit;
	}
	return bits;
}

static int device_open(const struct options *opt)
{
	int fd = open(opt->device, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die(command);
	return fd;
}

static void call(int fd, unsigned long request, void *arg)
{
	if (ioctl(fd, request, arg))
		die(command);
}

static int cmd_alloc(const struct options *opt, char **argv)
{
	struct cma_test_alloc arg = {
		.size = number(argv[0], UINT64_MAX),
		.align = opt->align,
		.attrs = opt->attrs,
		.gfp = opt->gfp,
	};

	call(device_open(opt), CMA_TEST_IOC_ALLOC, &arg);
	printf("{\"handle\": %u, \"dma_address\": %llu, \"size\": %llu, \"took_ns\": %llu}\n",
	       arg.handle, (unsigned long long)arg.dma_address, (unsigned long long)arg.size,
	       (unsigned long long)arg.took_ns);
	return EXIT_OK;
}

static int cmd_free(const struct options *opt, char **argv)
{
	struct cma_test_free arg = { .handle = number(argv[0], UINT32_MAX) };

	call(device_open(opt), CMA_TEST_IOC_FREE, &arg);
	printf("{\"handle\": %u, \"took_ns\": %llu}\n", arg.handle,
	       (unsigned long long)arg.took_ns);
	return EXIT_OK;
}

/* All live buffers, asked for again until they fit; the caller frees the array. */
static struct cma_test_info *snapshot(int fd, uint32_t *count)
{
	struct cma_test_list arg = { .total = 64 };
	struct cma_test_info *infos = NULL;

	do {
		arg.count = arg.total;
		infos = reallocarray(infos, arg.count, sizeof(*infos));
		if (!infos && arg.count)
			die(command);
		arg.buffers = (uintptr_t)infos;
		call(fd, CMA_TEST_IOC_LIST, &arg);
	} while (arg.total > arg.count);
	*count = arg.count;
	return infos;
}

static void print_attrs(uint32_t bits)
{
	const char *comma = "";

	for (size_t i = 0; i < sizeof(attrs) / sizeof(*attrs); i++) {
		if (!(bits & attrs[i].bit))
			continue;
		printf("%s\"%s\"", comma, attrs[i].name);
		comma = ", ";
	}
}

static int cmd_list(const struct options *opt, char **argv)
{
	uint32_t count;
	struct cma_test_info *infos = snapshot(device_open(opt), &count);

	(void)argv;
	for (uint32_t i = 0; i < count; i++) {
		const struct cma_test_info *info = &infos[i];

		printf("{\"handle\": %u, \"dma_address\": %llu, \"size\": %llu, "
		       "\"allocated\": %llu, \"mappings\": %u, \"attrs\": [",
		       info->handle, (unsigned long long)info->dma_address,
		       (unsigned long long)info->size, (unsigned long long)info->allocated,
		       info->mappings);
		print_attrs(info->attrs);
		printf("]}\n");
	}
	free(infos);
	return EXIT_OK;
}

/* Map the whole buffer; its size in bytes goes to @size. */
static unsigned char *map(const struct options *opt, uint32_t handle, size_t *size)
{
	int fd = device_open(opt);
	uint32_t count, i = 0;
	struct cma_test_info *infos = snapshot(fd, &count);
	void *start;

	while (i < count && infos[i].handle != handle)
		i++;
	errno = ENOENT;
	if (i == count)
		die(command);
	*size = infos[i].size;
	free(infos);
	start = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		     (off_t)handle * getpagesize());
	if (start == MAP_FAILED)
		die(command);
	return start;
}

static int cmd_fill(const struct options *opt, char **argv)
{
	uint32_t handle = number(argv[0], UINT32_MAX);
	int pattern = number(argv[1], UINT8_MAX);
	size_t size;
	unsigned char *start = map(opt, handle, &size);

	memset(start, pattern, size);
	printf("{\"handle\": %u, \"bytes\": %zu}\n", handle, size);
	return EXIT_OK;
}

static int cmd_check(const struct options *opt, char **argv)
{
	uint32_t handle = number(argv[0], UINT32_MAX);
	unsigned char pattern = number(argv[1], UINT8_MAX);
	size_t size, bad = 0, first = 0;
	unsigned char *start = map(opt, handle, &size);

	for (size_t i = 0; i < size; i++) {
		if (start[i] != pattern && !bad++)
			first = i;
	}
	printf("{\"handle\": %u, \"bytes\": %zu, \"bad\": %zu", handle, size, bad);
	if (bad)
		printf(", \"first_bad\": %zu", first);
	printf("}\n");
	return bad ? EXIT_DIFFERS : EXIT_OK;
}

static int cmd_map(const struct options *opt, char **argv)
{
	uint32_t handle = number(argv[0], UINT32_MAX);
	unsigned int seconds = number(argv[1], 3600);
	size_t size;

	map(opt, handle, &size);
	printf("{\"handle\": %u, \"bytes\": %zu}\n", handle, size);
	fflush(stdout);
	while (seconds)
		seconds = sleep(seconds);
	return EXIT_OK;
}

/* The result of a v4 call: what it returned, or its errno here and on standard error. */
static int report(ssize_t returned)
{
	if (returned < 0) {
		printf("{\"errno\": \"%s\"}\n", errno_name(errno));
		fflush(stdout);
		die(command);
	}
	printf("{\"returned\": %zd}\n", returned);
	return EXIT_OK;
}

static int cmd_write(const struct options *opt, char **argv)
{
	return report(write(device_open(opt), argv[0], strlen(argv[0])));
}

static int cmd_read(const struct options *opt, char **argv)
{
	char byte;

	(void)argv;
	return report(read(device_open(opt), &byte, sizeof(byte)));
}

static int cmd_version(const struct options *opt, char **argv)
{
	struct cma_test_version arg;

	(void)argv;
	call(device_open(opt), CMA_TEST_IOC_VERSION, &arg);
	printf("{\"abi\": %u, \"page_size\": %u, \"natural_align\": %llu, \"live\": %u}\n",
	       arg.abi, arg.page_size, (unsigned long long)arg.natural_align, arg.live);
	return EXIT_OK;
}

/* Sleep until the clock shows whole seconds, at least one of them from now. */
static void await_whole_second(void)
{
	struct timespec at;

	if (clock_gettime(CLOCK_MONOTONIC, &at))
		die(command);
	at.tv_sec += 2;
	at.tv_nsec = 0;
	while ((errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL)))
		if (errno != EINTR)
			die(command);
}

static int cmd_cost(const struct options *opt, char **argv)
{
	struct cma_test_alloc made = {
		.size = number(argv[0], UINT64_MAX),
		.align = opt->align,
		.attrs = opt->attrs,
		.gfp = opt->gfp,
	};
	struct cma_test_free freed = { 0 };
	int fd = device_open(opt);

	await_whole_second();
	call(fd, CMA_TEST_IOC_ALLOC, &made);
	freed.handle = made.handle;
	call(fd, CMA_TEST_IOC_FREE, &freed);
	printf("{\"alloc_ns\": %llu, \"free_ns\": %llu, \"handle\": %u}\n",
	       (unsigned long long)made.took_ns, (unsigned long long)freed.took_ns, made.handle);
	return EXIT_OK;
}

/* Scripts */

#define LINES 1000

/* `used` and the set bits of an area; ends a line's object. */
static void show_area(const struct area *area)
{
	static uint32_t *bitmap;

	if (!bitmap)
		bitmap = calloc(area_words(area), sizeof(*bitmap));
	if (!bitmap)
		die("calloc");
	printf(", \"used\": %" PRIu64 ", \"set\": ", area_get(area, "used"));
	print_runs(bitmap, area_bitmap(area, bitmap));
	printf("}\n");
}

/* The options of an alloc, one word each; the words are used up. */
static void alloc_options(struct cma_test_alloc *arg, char **save)
{
	char *word;

	while ((word = strtok_r(NULL, " ", save))) {
		char *value = strcmp(word, "--nowait") ? strtok_r(NULL, " ", save) : NULL;

		if (!strcmp(word, "--nowait"))
			arg->gfp = CMA_TEST_GFP_NOWAIT;
		else if (!strcmp(word, "--align") && value)
			arg->align = number(value, UINT64_MAX);
		else if (!strcmp(word, "--attr") && value)
			arg->attrs = attr_bits(value);
		else
			usage_error("no such option of alloc", word);
	}
}

/* The newest buffer, for write(), which does not tell what it made. */
static void newest(int fd, struct cma_test_alloc *made)
{
	uint32_t count;
	struct cma_test_info *infos = snapshot(fd, &count);

	if (count) {
		made->handle = infos[count - 1].handle;
		made->dma_address = infos[count - 1].dma_address;
	}
	free(infos);
}

/* Do what a line says; returns 0, or -1 with errno. @handles are those that the lines made. */
static int operate(int fd, char *line, const uint32_t *handles, struct cma_test_alloc *made)
{
	char *save, *name = strtok_r(line, " ", &save);
	char *word = name ? strtok_r(NULL, " ", &save) : NULL;
	struct cma_test_free gone = { 0 };
	ssize_t done;
	char byte;

	if (name && word && !strcmp(name, "alloc")) {
		made->size = number(word, UINT64_MAX);
		alloc_options(made, &save);
		return ioctl(fd, CMA_TEST_IOC_ALLOC, made);
	}
	if (name && word && !strcmp(name, "free")) {
		gone.handle = handles[number(word, LINES)];
		return ioctl(fd, CMA_TEST_IOC_FREE, &gone);
	}
	if (name && word && !strcmp(name, "write")) {
		done = write(fd, word, strlen(word));
		if (done > 0)
			newest(fd, made);
		return done < 0 ? -1 : 0;
	}
	if (name && !word && !strcmp(name, "read"))
		return read(fd, &byte, sizeof(byte));
	usage_error("no such line of a script", name ? name : "");
}

static int cmd_script(const struct options *opt, char **argv)
{
	static struct area areas[MAX_AREAS];
	static uint32_t handles[LINES + 1];
	const struct area *area = area_named(areas, areas_read(areas), argv[0]);
	int fd = device_open(opt);
	char *line = NULL, byte;
	unsigned int at = 0;
	size_t size = 0;

	printf("{\"line\": 0");
	show_area(area);
	while (getline(&line, &size, stdin) > 0) {
		struct cma_test_alloc made = { 0 };

		if (++at > LINES)
			usage_error("too long a script", "1000 lines are the most");
		line[strcspn(line, "\n")] = '\0';
		printf("{\"line\": %u", at);
		if (operate(fd, line, handles, &made)) {
			printf(", \"errno\": \"%s\"", errno_name(errno));
		} else if (made.handle) {
			printf(", \"handle\": %u, \"dma_address\": %llu", made.handle,
			       (unsigned long long)made.dma_address);
			handles[at] = made.handle;
		}
		show_area(area);
	}
	free(line);
	while (!read(fd, &byte, sizeof(byte)))
		;
	if (errno != EIDRM)
		die(command);
	printf("{\"line\": %u", at + 1);
	show_area(area);
	return EXIT_OK;
}

static const struct {
	const char *name;
	int arguments;
	int (*run)(const struct options *opt, char **argv);
} commands[] = {
	{ "alloc", 1, cmd_alloc },
	{ "free", 1, cmd_free },
	{ "list", 0, cmd_list },
	{ "fill", 2, cmd_fill },
	{ "check", 2, cmd_check },
	{ "map", 2, cmd_map },
	{ "write", 1, cmd_write },
	{ "read", 0, cmd_read },
	{ "cost", 1, cmd_cost },
	{ "version", 0, cmd_version },
	{ "script", 1, cmd_script },
};

static int run(const struct options *opt, int argc, char **argv)
{
	if (!argc)
		usage_error("no command", "say which");
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (strcmp(argv[0], commands[i].name))
			continue;
		if (argc - 1 != commands[i].arguments)
			usage_error("wrong number of arguments", argv[0]);
		command = argv[0];
		return commands[i].run(opt, argv + 1);
	}
	usage_error("no such command", argv[0]);
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "device", required_argument, NULL, 'd' },
		{ "align", required_argument, NULL, 'a' },
		{ "attr", required_argument, NULL, 't' },
		{ "nowait", no_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 }
	};
	struct options opt = { .device = "/dev/cma_test" };
	int letter, status;

	while ((letter = getopt_long(argc, argv, "d:h", known, NULL)) != -1) {
		switch (letter) {
		case 'd':
			opt.device = optarg;
			break;
		case 'a':
			opt.align = number(optarg, UINT64_MAX);
			break;
		case 't':
			opt.attrs = attr_bits(optarg);
			break;
		case 'n':
			opt.gfp = CMA_TEST_GFP_NOWAIT;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return EXIT_OK;
		default:
			return EXIT_USAGE;
		}
	}
	status = run(&opt, argc - optind, argv + optind);
	if (fflush(stdout))
		die(command);
	return status;
}
