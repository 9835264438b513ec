/* SPDX-License-Identifier: GPL-2.0-only */
/* Files of /proc and /sys that hold a setting of the kernel's. What fails ends the program. */
#ifndef SETTING_H
#define SETTING_H

#include <stdbool.h>

#define SETTING_SIZE 64	/* bytes of a value with its end, at most */

/* Write @value to the file. */
void setting_put(const char *path, const char *value);

/*
 * Put what the file holds into @old, which has SETTING_SIZE bytes, and write @value (NULL: what it
 * holds, once more). False when there is no such file.
 */
bool setting_replace(const char *path, const char *value, char *old);

#endif
