// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE

#include "text.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report.h"

#define CHUNK 8192	/* bytes, which most files of the kernel's take one read() for */

char *text_of(const char *path)
{
	static size_t room;
	static char *text;
	size_t size = 0;
	ssize_t more;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return NULL;
	do {
		if (room - size < CHUNK) {
			room += CHUNK;
			text = realloc(text, room);
			if (!text)
				die("memory");
		}
		more = read(fd, text + size, room - size - 1);
		if (more < 0)
			die(path);
		size += more;
	} while (more);
	close(fd);
	text[size] = '\0';
	return text;
}

char *text_of_existing(const char *path)
{
	char *text = text_of(path);

	if (!text)
		die(path);
	return text;
}

char *text_line(char **rest)
{
	char *line = *rest;

	if (!*line)
		return NULL;
	*rest = strchrnul(line, '\n');
	if (**rest)
		*(*rest)++ = '\0';
	return line;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

char *text_word(char **rest)
{
	char *word = *rest, *end;

	while (is_blank(*word))
		word++;
	for (end = word; *end && !is_blank(*end);)
		end++;
	*rest = *end ? end + 1 : end;
	*end = '\0';
	return end == word ? NULL : word;
}
