// SPDX-License-Identifier: GPL-2.0-only
/* A child that has the same pages mapped, and looks at them when it is asked. */
#define _GNU_SOURCE

#include "occupant.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "report.h"
#include "shortage.h"

static _Noreturn void child_serve(const struct occupant *o, int link)
{
	struct contents found;
	char byte = '!';

	if (write(link, &byte, 1) != 1)
		_exit(EXIT_ERRNO);
	while (read(link, &byte, 1) == 1) {
		contents_check(o, &found);
		place_now(o, o->child_frames);
		if (write(link, &found, sizeof(found)) != sizeof(found))
			break;
	}
	_exit(EXIT_OK);
}

void child_start(struct occupant *o)
{
	size_t size = o->count * sizeof(*o->child_frames);
	int pair[2];
	char ready;

	o->child_frames = mmap(NULL, size, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (o->child_frames == MAP_FAILED)
		die("mmap");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		die("socketpair");
	o->child = fork();
	if (o->child < 0)
		die("fork");
	if (!o->child) {
		close(pair[0]);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		shortage_disown();
		child_serve(o, pair[1]);
	}
	close(pair[1]);
	o->link = pair[0];
	/* Until then it has what made memory short. */
	if (read(o->link, &ready, 1) != 1)
		die("child");
}

/* Ask the child, when there is one, what it sees. */
void child_check(const struct occupant *o, struct contents *found)
{
	struct contents theirs;
	uint64_t *mine;

	if (!o->child)
		return;
	if (write(o->link, "?", 1) != 1 || read(o->link, &theirs, sizeof(theirs)) != sizeof(theirs))
		die("child");
	found->child_bad = theirs.bad + theirs.zero;
	mine = calloc(o->count, sizeof(*mine));
	if (!mine)
		die("calloc");
	frames_of(o->map, o->count, mine);
	for (size_t i = 0; i < o->count; i++)
		found->shared += mine[i] != NO_FRAME && mine[i] == o->child_frames[i];
	free(mine);
}

void child_end(struct occupant *o)
{
	if (!o->child)
		return;
	kill(o->child, SIGKILL);
	waitpid(o->child, NULL, 0);
	o->child = 0;
}
