/* SPDX-License-Identifier: GPL-2.0-only */
/* Files of /proc, /sys and debugfs as text. */
#ifndef TEXT_H
#define TEXT_H

/*
 * All that the file holds, which stays until the next is read; NULL with errno when it cannot be
 * opened. Ends the program when it cannot be read.
 */
char *text_of(const char *path);

/* The same of a file that must be there. */
char *text_of_existing(const char *path);

/* Cut the next line, or the next word of a line, off @rest; NULL when there is none. */
char *text_line(char **rest);
char *text_word(char **rest);

#endif
