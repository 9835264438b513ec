// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE

#include "setting.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "report.h"

static void write_to(int fd, const char *path, const char *value)
{
	if (fd < 0 || pwrite(fd, value, strlen(value), 0) < 0)
		die(path);
	close(fd);
}

void setting_put(const char *path, const char *value)
{
	write_to(open(path, O_WRONLY | O_CLOEXEC), path, value);
}

bool setting_replace(const char *path, const char *value, char *old)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	ssize_t size;

	if (fd < 0 && errno == ENOENT)
		return false;
	size = fd < 0 ? -1 : read(fd, old, SETTING_SIZE - 1);
	if (size < 0)
		die(path);
	old[size] = '\0';
	write_to(fd, path, value ? value : old);
	return true;
}
