// SPDX-License-Identifier: GPL-2.0-only
/*
 * cma-occupy: fill a CMA area with pages of one kind, hold them, and tell what became of them.
 * Each result is one JSON object on a line of its own.
 */
#define _GNU_SOURCE

#include "occupant.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "report.h"
#include "shortage.h"

#define MIB (1ULL << 20)

static const char usage_text[] =
	"usage: cma-occupy [-n NAME] hold KIND AREA BYTES [--file PATH] [--seed N] [--margin BYTES]\n"
	"                                              [--keep-short]\n"
	"       cma-occupy [-n NAME] check | fates | advise N | pin [BYTES] | fix | unpin | relax | end\n"
	"\n"
	"  hold       bring BYTES of pages of KIND into memory while it is short everywhere but in\n"
	"             AREA (`all': in all areas), hold them in the background, and tell how many\n"
	"             of them lie there. AREA `any': memory is not made short, they lie anywhere\n"
	"  check      where the pages lie now, and whether each byte is what it was\n"
	"  fates      what became of each page that lay in AREA, as runs of frames [first, count]\n"
	"  advise     posix_fadvise() with the advice N on all of the file, of a kind that has one\n"
	"  pin        put the first page in AREA, or in each BYTES of it, into a pipe\n"
	"  fix        register all pages as a buffer of io_uring, which pins them for long\n"
	"  unpin      undo both\n"
	"  relax      end the shortage, after --keep-short\n"
	"  end        let go of all; done when the pages are free\n"
	"\n"
	"  -n, --name NAME     which holder; there can be several. \"1\" by default\n"
	"  --file PATH         the file of the kinds clean*, dirty and mapped, made anew\n"
	"  --seed N            contents are made from it and a page's index; from 0x80000000 on half\n"
	"                      of a page can be compressed away, below nothing\n"
	"  --margin BYTES      low memory that stays free outside of CMA meanwhile; 12M by default\n"
	"  --keep-short        do not give back, after taking the pages, what made memory short\n"
	"  -h, --help          this text\n"
	"\n"
	"What check tells, in pages: inside (AREA), in_cma (any area), moved (to another frame since\n"
	"hold), absent (not in memory), dirty, swapcache; bad (another content), zero, child_bad\n"
	"(either, as the child of `fork' sees them), shared (with the child); and of the first bad\n"
	"or zero page its index, and the index of the page whose content it holds (-1: none).\n"
	"\n"
	"What fates tells, by the frame that a page had at hold: kept (it is there still), moved (it\n"
	"has another frame), back (it was not in memory, and reading it brought it back), zero (it\n"
	"reads as zeroes), lost (as something else).\n"
	"\n"
	"Numbers are decimal, 0x hexadecimal or 0 octal; K, M and G are powers of 1024.\n"
	"Exit status: 0 done, 1 a system call failed (its errno is on standard error), 2 usage.\n"
	"\n"
	"Example: cma-occupy hold anon linux,cma 8M && cma-occupy check && cma-occupy end\n"
	"\n"
	"Kinds:\n";

struct options {
	const char *name;
	const char *file;
	uint32_t seed;
	uint64_t margin;
	bool keep_short;
};

static void help(void)
{
	fputs(usage_text, stdout);
	for (size_t i = 0; i < kind_count; i++)
		printf("  %-10s %s\n", kinds[i].name, kinds[i].what);
}

static const struct kind *kind_named(const char *name)
{
	for (size_t i = 0; i < kind_count; i++)
		if (!strcmp(kinds[i].name, name))
			return &kinds[i];
	usage_error("no such kind", name);
}

/* Bring the pages in, and tell where they are. */
static void occupy(struct occupant *o, const struct options *opt, FILE *to)
{
	if (o->kind->prepare)
		o->kind->prepare(o);
	if (!o->anywhere)
		shortage_begin(o->areas, o->area_count, o->area, opt->margin);
	o->kind->take(o);
	if (!opt->keep_short)
		shortage_end();
	if (o->kind->settle)
		o->kind->settle(o);
	place_now(o, o->frames);
	fputc('{', to);
	place_print(o, o->frames, to);
	fputs("}\n", to);
}

static void detach(void)
{
	int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (nowhere < 0)
		die("/dev/null");
	for (int fd = 0; fd <= 2; fd++)
		dup2(nowhere, fd);
}

/*
 * The pages belong to a process in the background, which speaks through this one until all are
 * there: what it prints is told, and what it fails with is this one's exit status.
 */
static int hold(const struct options *opt, char **argv)
{
	static struct occupant o = { .fd = -1 };
	int listener, ready[2], status;
	char line[512];
	FILE *from;
	pid_t pid;

	o.kind = kind_named(argv[0]);
	o.path = opt->file;
	o.seed = opt->seed;
	if (!o.path == o.kind->needs_file)
		usage_error(o.path ? "--file is not for" : "--file is needed for", o.kind->name);
	o.area_count = areas_read(o.areas);
	o.anywhere = !strcmp(argv[1], "any");
	if (!o.area_count && !o.anywhere)
		usage_error("no area", "the kernel has none");
	if (strcmp(argv[1], "all") && !o.anywhere)
		o.area = area_named(o.areas, o.area_count, argv[1]);
	o.count = number(argv[2], SIZE_MAX / 2) / PAGE;
	if (!o.count)
		usage_error("less than a page", argv[2]);
	o.frames = calloc(o.count, sizeof(*o.frames));
	if (!o.frames || pipe2(ready, O_CLOEXEC))
		die("calloc, pipe");
	listener = name_bind(opt->name);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		FILE *to = fdopen(ready[1], "w");

		setsid();
		if (!to)
			die("fdopen");
		occupy(&o, opt, to);
		detach();
		fclose(to);
		serve(&o, listener);
	}
	close(ready[1]);
	from = fdopen(ready[0], "r");
	if (from && fgets(line, sizeof(line), from)) {
		fputs(line, stdout);
		return EXIT_OK;
	}
	if (waitpid(pid, &status, 0) < 0)
		die("waitpid");
	if (WIFSIGNALED(status))
		fprintf(stderr, "cma-occupy: hold: ended by signal %d\n", WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_ERRNO;
}

static int run(const struct options *opt, int argc, char **argv)
{
	static const char * const requests[] = {
		"check", "fates", "advise", "pin", "fix", "unpin", "relax", "end"
	};

	if (!argc)
		usage_error("no command", "say which");
	if (!strcmp(argv[0], "hold")) {
		if (argc != 4)
			usage_error("wrong number of arguments", argv[0]);
		return hold(opt, argv + 1);
	}
	for (size_t i = 0; i < sizeof(requests) / sizeof(*requests); i++) {
		char bytes[32], *words[] = { argv[0], bytes, NULL };

		if (strcmp(argv[0], requests[i]))
			continue;
		if (argc > 1 + (!strcmp(argv[0], "pin") || !strcmp(argv[0], "advise")))
			usage_error("wrong number of arguments", argv[0]);
		if (argc == 2)
			snprintf(bytes, sizeof(bytes), "%" PRIu64, number(argv[1], UINT64_MAX));
		else
			words[1] = NULL;
		return ask(opt->name, words);
	}
	usage_error("no such command", argv[0]);
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "name", required_argument, NULL, 'n' },
		{ "file", required_argument, NULL, 'f' },
		{ "seed", required_argument, NULL, 's' },
		{ "margin", required_argument, NULL, 'm' },
		{ "keep-short", no_argument, NULL, 'k' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 }
	};
	struct options opt = { .name = "1", .seed = 1, .margin = 12 * MIB };
	int letter, status;

	while ((letter = getopt_long(argc, argv, "n:h", known, NULL)) != -1) {
		switch (letter) {
		case 'n':
			opt.name = optarg;
			break;
		case 'f':
			opt.file = optarg;
			break;
		case 's':
			opt.seed = number(optarg, UINT32_MAX);
			break;
		case 'm':
			opt.margin = number(optarg, UINT64_MAX);
			break;
		case 'k':
			opt.keep_short = true;
			break;
		case 'h':
			help();
			return EXIT_OK;
		default:
			return EXIT_USAGE;
		}
	}
	status = run(&opt, argc - optind, argv + optind);
	if (fflush(stdout))
		die("standard output");
	return status;
}
