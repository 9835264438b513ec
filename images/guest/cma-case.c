// SPDX-License-Identifier: GPL-2.0-only
/*
 * cma-case: what a KUnit case in a guest of its own needs, from one process that is there already.
 *
 * Guests are stored while it waits for a line. In a copy nothing has to be forked, executed or
 * paged in then, which under TCG, whose translations are not stored, takes longer than the case.
 *
 * What is asked for comes as lines, "MARK load FILTER FILE [PARAMETER ...]" and
 * "MARK cma-snapshot [--pages|--at-once]"; behind what each prints comes "MARK:STATUS.". The
 * terminal must not echo.
 *
 * Whoever loads wants to know of the end of what the kernel printed, and what has become of CMA:
 * both come with the load, before the kernel finds time for what is behind it.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "report.h"
#include "setting.h"
#include "snapshot.h"

#define FILTER "/sys/module/kunit/parameters/filter_glob"
#define KMSG "/dev/kmsg"
#define FIRST_SCAN "/sys/module/rcutree/parameters/jiffies_till_first_fqs"
#define LATER "30"
#define PRINTED "cma-harness: printed up to here " /* harness/module_run.py waits for it */
#define LONGEST 4096	/* of n_tty in canonical mode */

static const char usage_text[] =
	"usage: cma-case\n"
	"\n"
	"Say \"cma-case: waiting\", then do what each line of standard input asks for:\n"
	"\n"
	"  MARK load FILTER FILE [PARAMETER ...]   have KUnit run the cases that FILTER names alone,\n"
	"                                          load the module FILE, have the kernel log\n"
	"                                          \"" PRINTED "MARK\", and do as\n"
	"                                          cma-snapshot --at-once\n"
	"  MARK cma-snapshot [--pages]             as the program of that name\n"
	"  MARK cma-snapshot --at-once             the same of one reading, before all other work\n"
	"\n"
	"Behind what each prints comes MARK:STATUS. on a line. An empty line, or none, is the end.\n"
	"\n"
	"Exit status: 0 done, 1 what the kernel refused, 2 usage.\n"
	"\n"
	"Example: echo '~1 load suite.case /lib/cma/cma_kunit.ko' | cma-case\n";

/* What the line that is worked on begins with; NULL between lines. */
static const char *mark;

/* What FIRST_SCAN held, while it holds something else. */
static char first_scan[SETTING_SIZE];

static void end_of_line(int status)
{
	if (mark)
		printf("%s:%d.\n", mark, status);
	fflush(stdout);
	mark = NULL;
}

/* Something has ended the program, and someone waits for the mark. */
static void at_exit(int status, void *nothing)
{
	(void)nothing;
	end_of_line(status);
}

/*
 * Behind a grace period the kernel frees what a module has for its init alone, and flushes the TLB
 * page by page from there to wherever else something was unmapped: on ARM, whose modules lie below
 * the linear map and vmalloc's area above it, half a GiB (vm_reset_perms()). That takes QEMU as
 * long as the case, its judgement and all else together, and nothing comes of it in a guest that
 * ends.
 * Until something else is asked for than that, the kernel looks for the end of a grace period for
 * the first time after LATER jiffies, which is longer than most cases take, and the snapshot
 * --at-once does not wait behind one. A case that waits for grace periods itself waits that long
 * for each (synchronize_rcu_expedited() does not), and the kernel logs what it makes of the number.
 */
static void put_off_freeing(void)
{
	/* It is missing with TINY_RCU. */
	if (!*first_scan)
		setting_replace(FIRST_SCAN, LATER, first_scan);
}

static void free_again(void)
{
	if (*first_scan)
		setting_put(FIRST_SCAN, first_scan);
	*first_scan = '\0';
}

static int load(const char *filter, const char *file, const char *parameters)
{
	char text[LONGEST];
	int fd, status = EXIT_OK;

	put_off_freeing();
	setting_put(FILTER, filter);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(file);
	if (syscall(SYS_finit_module, fd, parameters, 0)) {
		printf("cma-case: %s: %s (%s)\n", file, errno_name(errno), strerror(errno));
		status = EXIT_ERRNO;
	}
	close(fd);
	/* Without a newline printk would keep it until the next message. */
	snprintf(text, sizeof(text), PRINTED "%s\n", mark);
	setting_put(KMSG, text);
	if (status == EXIT_OK)
		snapshot_print_at_once();
	return status;
}

static int work(const char *what, char *rest)
{
	if (!strcmp(what, "load")) {
		const char *filter = strtok_r(NULL, " ", &rest);
		const char *file = strtok_r(NULL, " ", &rest);

		if (!file)
			usage_error("load what?", what);
		return load(filter, file, rest ? rest : "");
	}
	if (!strcmp(what, "cma-snapshot")) {
		if (!strcmp(rest, "--at-once")) {
			snapshot_print_at_once();
		} else {
			free_again();
			snapshot_print(!strcmp(rest, "--pages"));
		}
	} else {
		usage_error("nothing that it does", what);
	}
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	static char line[LONGEST];

	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(usage_text, stdout);
		return EXIT_OK;
	}
	if (argc > 1)
		usage_error("it takes no arguments", argv[1]);
	if (on_exit(at_exit, NULL))
		die("on_exit");
	setvbuf(stdout, NULL, _IOFBF, BUFSIZ);
	puts("cma-case: waiting");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		char *rest, *what;

		line[strcspn(line, "\n")] = '\0';
		mark = strtok_r(line, " ", &rest);
		if (!mark)
			break;
		what = strtok_r(NULL, " ", &rest);
		if (!what)
			usage_error("nothing is asked for", mark);
		end_of_line(work(what, rest));
	}
	free_again();
	return EXIT_OK;
}
