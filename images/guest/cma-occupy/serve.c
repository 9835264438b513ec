// SPDX-License-Identifier: GPL-2.0-only
/*
 * The holder answers on a socket whose name is no file: it goes with the process. A request is a
 * line of words; the answer is an errno (0: none), a space, and one line.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include "occupant.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "report.h"
#include "shortage.h"

static int name_socket(const char *name, struct sockaddr_un *address, socklen_t *length)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int written;

	if (fd < 0)
		die("socket");
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	written = snprintf(address->sun_path + 1, sizeof(address->sun_path) - 1, "cma-occupy:%s",
			   name);
	if (written >= (int)sizeof(address->sun_path) - 1)
		usage_error("too long", name);
	*length = offsetof(struct sockaddr_un, sun_path) + 1 + written;
	return fd;
}

/* Reserve the name; ends the program when another holder has it. */
int name_bind(const char *name)
{
	struct sockaddr_un address;
	socklen_t length;
	int fd = name_socket(name, &address, &length);

	if (bind(fd, (struct sockaddr *)&address, length) || listen(fd, 1))
		die(name);
	return fd;
}

static int answer_check(struct occupant *o, const char *argument, FILE *to)
{
	uint64_t *frames = calloc(o->count, sizeof(*frames));
	struct contents found;

	(void)argument;
	if (!frames)
		return ENOMEM;
	/* First where they are: reading brings back what is not in memory. */
	place_now(o, frames);
	fputc('{', to);
	place_print(o, frames, to);
	free(frames);
	contents_check(o, &found);
	child_check(o, &found);
	fprintf(to, ", \"bad\": %zu, \"zero\": %zu, \"child_bad\": %zu, \"shared\": %zu",
		found.bad, found.zero, found.child_bad, found.shared);
	if (found.first >= 0)
		fprintf(to, ", \"first\": %ld, \"holds\": %ld", found.first, found.holds);
	fputs("}\n", to);
	return 0;
}

static int answer_fates(struct occupant *o, const char *argument, FILE *to)
{
	(void)argument;
	return fates_print(o, to);
}

/* posix_fadvise() on all of the file. */
static int answer_advise(struct occupant *o, const char *argument, FILE *to)
{
	int error = argument ? posix_fadvise(o->fd, 0, 0, atoi(argument)) : EINVAL;

	fputs("{}\n", to);
	return error;
}

static int answer_relax(struct occupant *o, const char *argument, FILE *to)
{
	(void)o;
	(void)argument;
	shortage_end();
	fputs("{}\n", to);
	return 0;
}

static int answer_pin(struct occupant *o, const char *argument, FILE *to)
{
	return pin_short(o, argument ? strtoull(argument, NULL, 0) : UINT64_MAX, to);
}

static int answer_fix(struct occupant *o, const char *argument, FILE *to)
{
	(void)argument;
	return pin_long(o, to);
}

static int answer_unpin(struct occupant *o, const char *argument, FILE *to)
{
	(void)argument;
	return pin_end(o, to);
}

static const struct {
	const char *name;
	int (*run)(struct occupant *o, const char *argument, FILE *to);
} requests[] = {
	{ "check", answer_check },
	{ "fates", answer_fates },
	{ "advise", answer_advise },
	{ "relax", answer_relax },
	{ "pin", answer_pin },
	{ "fix", answer_fix },
	{ "unpin", answer_unpin },
};

static int answer(struct occupant *o, char *line, FILE *to)
{
	char *save, *name = strtok_r(line, " \n", &save);
	const char *argument = strtok_r(NULL, " \n", &save);

	for (size_t i = 0; name && i < sizeof(requests) / sizeof(*requests); i++)
		if (!strcmp(name, requests[i].name))
			return requests[i].run(o, argument, to);
	return EINVAL;
}

/*
 * Let go of all, and end. The connection closes with the process, after its memory went: whoever
 * waits for its end finds the pages free.
 */
static _Noreturn void finish(struct occupant *o, FILE *to)
{
	FILE *nowhere = fopen("/dev/null", "w");

	if (!nowhere || pin_end(o, nowhere))
		die("unpin");
	child_end(o);
	shortage_end();
	fputs("0 {}\n", to);
	fflush(to);
	_exit(EXIT_OK);
}

_Noreturn void serve(struct occupant *o, int listener)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		FILE *from = fd < 0 ? NULL : fdopen(fd, "r+");
		char line[128], *text = NULL;
		size_t size;
		FILE *to;
		int error;

		if (!from)
			die("accept");
		if (!fgets(line, sizeof(line), from)) {
			fclose(from);
			continue;
		}
		if (!strcmp(line, "end\n"))
			finish(o, from);
		to = open_memstream(&text, &size);
		if (!to)
			die("open_memstream");
		error = answer(o, line, to);
		fclose(to);
		fprintf(from, "%d %s", error, error ? "\n" : text);
		free(text);
		fclose(from);
	}
}

/* Send the words to a holder, and print what it answers; returns the exit status. */
int ask(const char *name, char **words)
{
	struct sockaddr_un address;
	socklen_t length;
	int fd = name_socket(name, &address, &length);
	char line[4096], *end;
	FILE *holder;
	long error;

	if (connect(fd, (struct sockaddr *)&address, length))
		die(name);
	holder = fdopen(fd, "r+");
	if (!holder)
		die("fdopen");
	for (char **word = words; *word; word++)
		fprintf(holder, word[1] ? "%s " : "%s\n", *word);
	fflush(holder);
	if (!fgets(line, sizeof(line), holder))
		die_of(EPIPE, name);
	error = strtol(line, &end, 10);
	if (error)
		die_of(error, *words);
	fputs(end + 1, stdout);
	/* The holder ends after its last answer. */
	while (fgets(line, sizeof(line), holder))
		fputs(line, stdout);
	return EXIT_OK;
}
