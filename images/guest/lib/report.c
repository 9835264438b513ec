// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE

#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void usage_error(const char *what, const char *detail)
{
	const char *name = program_invocation_short_name;

	fprintf(stderr, "%s: %s: %s\nTry '%s --help'.\n", name, what, detail, name);
	exit(EXIT_USAGE);
}

const char *errno_name(int error)
{
	const char *name = strerrorname_np(error);

	return name ? name : "E?";
}

void die_of(int error, const char *what)
{
	fprintf(stderr, "%s: %s: %s (%s)\n", program_invocation_short_name, what,
		errno_name(error), strerror(error));
	exit(EXIT_ERRNO);
}

void die(const char *what)
{
	die_of(errno, what);
}

uint64_t number(const char *text, uint64_t max)
{
	static const char units[] = "KMG";
	unsigned long long value;
	unsigned int shift = 0;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (end != text && *end && strchr(units, *end))
		shift = 10 * (strchr(units, *end++) - units + 1);
	if (errno || end == text || *end || *text == '-' || value > max >> shift)
		usage_error("not a number in range", text);
	return value << shift;
}
