// SPDX-License-Identifier: GPL-2.0-only
/*
 * cma-snapshot: what the kernel shows of its CMA areas at one moment, from every place that does.
 *
 * One JSON object per line: {"system": ...}, then a {"zone": ...} for each populated zone and an
 * {"area": ...} for each area. All numbers are pages unless said otherwise. A file that this
 * kernel does not have leaves its fields out. lib/snapshot.c says how it is of one moment.
 */

#include <getopt.h>
#include <stdio.h>

#include "report.h"
#include "snapshot.h"

static const char usage_text[] =
	"usage: cma-snapshot [--pages]\n"
	"\n"
	"Print what the kernel shows of its CMA areas, as a JSON object per line:\n"
	"\n"
	"  system   /proc/meminfo (kB) and /proc/vmstat; settled: whether the counters held still\n"
	"  zone     /proc/zoneinfo; per_cpu: free pages on the lists of its cpus; user: pages on LRU\n"
	"           lists; free, blocks: pages on the free lists, and pageblocks, by migratetype\n"
	"           (/proc/pagetypeinfo)\n"
	"  area     debugfs and sysfs; set: the runs [first, length] of set bits\n"
	"\n"
	"  -p, --pages   also look at each page of the areas (/proc/kpageflags): taken, open: those\n"
	"                whose bit is set, is not, by their flags: free in the buddy allocator,\n"
	"                movable, unmovable, or unnamed (no flag tells); odd: [pfn, flags] of some\n"
	"                that should not be. Some 10 us a page under TCG.\n"
	"  -h, --help    this text\n"
	"\n"
	"Exit status: 0 done, 1 a file could not be read, 2 usage.\n"
	"\n"
	"Example: cma-snapshot --pages | grep '\"area\"'\n";

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "pages", no_argument, NULL, 'p' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 }
	};
	bool pages = false;
	int letter;

	while ((letter = getopt_long(argc, argv, "ph", known, NULL)) != -1) {
		switch (letter) {
		case 'p':
			pages = true;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return EXIT_OK;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind < argc)
		usage_error("it takes options only", argv[optind]);
	snapshot_print(pages);
	return EXIT_OK;
}
