// SPDX-License-Identifier: GPL-2.0-only
/*
 * heap-ctl: a sequence of operations on dma-buf heap buffers, within one process.
 *
 * Buffers and mappings live as long as the process that made them, so a case is one call with all
 * its operations. Each answers with one JSON object on a line of its own; an errno or a signal is
 * an answer like any other, and the next operation follows.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/dma-buf.h>
#include <linux/dma-heap.h>

#include "report.h"

#define SLOTS 128
#define WORDS 4

static const char usage_text[] =
	"usage: heap-ctl -d DEVICE OPERATION...\n"
	"\n"
	"Each operation is one argument; buffers and mappings are numbered from 0 as they are made.\n"
	"\n"
	"  alloc BYTES [FD_FLAGS [HEAP_FLAGS]]   allocate; answers the buffer's number\n"
	"  fill-heap BYTES               allocate until it fails; answers how many\n"
	"  close BUFFER                  close its file descriptor\n"
	"  size BUFFER                   its size in bytes, as lseek() tells it\n"
	"  sync BUFFER FLAGS             DMA_BUF_IOCTL_SYNC; 0\n"
	"  map BUFFER OFFSET LENGTH      map shared; answers the mapping's number\n"
	"  map-private BUFFER OFFSET LENGTH\n"
	"  grow MAPPING LENGTH           mremap() to that length; answers the mapping's length\n"
	"  unmap MAPPING\n"
	"  fill MAPPING BYTE             set every byte\n"
	"  count MAPPING BYTE            how many bytes are not that\n"
	"  peek MAPPING OFFSET           the byte there, or the signal\n"
	"  poke MAPPING OFFSET BYTE      store it; the byte, or the signal\n"
	"  child MAPPING OFFSET BYTE     poke from a forked child; the byte, or the signal\n"
	"  pass BUFFER                   send it to another process; its first byte as seen there\n"
	"  drop                          end that process; 0\n"
	"  kill-alloc BYTES USED         allocate in a child, and kill it once the file USED changes;\n"
	"                                the signal it ended with, or its errno\n"
	"  cat FILE                      the text of a file (in \"text\") and its length\n"
	"\n"
	"Numbers are decimal, 0x hexadecimal or 0 octal; K, M and G are powers of 1024.\n"
	"Exit status: 0 every operation has answered, 1 the heap or a file cannot be read, 2 usage.\n"
	"\n"
	"Example: heap-ctl -d /dev/dma_heap/linux,cma 'alloc 8192' 'map 0 0 8192' 'peek 0 8191'\n";

struct mapping {
	unsigned char *start;
	size_t length;
};

static int heap;
static int buffers[SLOTS];
static unsigned int buffer_count;
static struct mapping mappings[SLOTS];
static unsigned int mapping_count;
static pid_t receiver;
static int channel = -1;
static sigjmp_buf recover;

/* An operation's words after its name; @given of them are there. */
struct args {
	const char *name;
	char *word[WORDS];
	unsigned int given;
};

static uint64_t argument(const struct args *args, unsigned int i)
{
	if (i >= args->given)
		usage_error("an argument is missing", args->name);
	return number(args->word[i], UINT64_MAX);
}

static uint64_t optional(const struct args *args, unsigned int i, uint64_t otherwise)
{
	return i < args->given ? argument(args, i) : otherwise;
}

static int *buffer_of(const struct args *args)
{
	uint64_t i = argument(args, 0);

	if (i >= buffer_count)
		usage_error("no such buffer", args->word[0]);
	return &buffers[i];
}

static struct mapping *mapping_of(const struct args *args)
{
	uint64_t i = argument(args, 0);

	if (i >= mapping_count)
		usage_error("no such mapping", args->word[0]);
	return &mappings[i];
}

/* What an operation answers with: a number that is not negative, or a negative errno. */
static long long answered(long long result)
{
	return result < 0 ? -errno : result;
}

static int allocate(uint64_t len, uint32_t fd_flags, uint64_t heap_flags)
{
	struct dma_heap_allocation_data arg = {
		.len = len,
		.fd_flags = fd_flags,
		.heap_flags = heap_flags,
	};

	return ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &arg) ? -1 : (int)arg.fd;
}

static long long op_alloc(const struct args *args)
{
	int fd = allocate(argument(args, 0), optional(args, 1, O_RDWR | O_CLOEXEC),
			  optional(args, 2, 0));

	if (fd < 0)
		return -errno;
	if (buffer_count == SLOTS)
		usage_error("too many buffers", args->name);
	buffers[buffer_count] = fd;
	return buffer_count++;
}

static long long op_fill_heap(const struct args *args)
{
	unsigned int before = buffer_count;

	while (op_alloc(args) >= 0)
		;
	return buffer_count - before;
}

static long long op_close(const struct args *args)
{
	return answered(close(*buffer_of(args)));
}

static long long op_size(const struct args *args)
{
	return answered(lseek(*buffer_of(args), 0, SEEK_END));
}

static long long op_sync(const struct args *args)
{
	struct dma_buf_sync arg = { .flags = argument(args, 1) };

	return answered(ioctl(*buffer_of(args), DMA_BUF_IOCTL_SYNC, &arg));
}

static long long map(const struct args *args, int flags)
{
	struct mapping new = { .length = argument(args, 2) };

	if (mapping_count == SLOTS)
		usage_error("too many mappings", args->name);
	new.start = mmap(NULL, new.length, PROT_READ | PROT_WRITE, flags, *buffer_of(args),
			 argument(args, 1));
	if (new.start == MAP_FAILED)
		return -errno;
	mappings[mapping_count] = new;
	return mapping_count++;
}

static long long op_map(const struct args *args)
{
	return map(args, MAP_SHARED);
}

static long long op_map_private(const struct args *args)
{
	return map(args, MAP_PRIVATE);
}

static long long op_grow(const struct args *args)
{
	struct mapping *mapping = mapping_of(args);
	size_t length = argument(args, 1);
	void *start = mremap(mapping->start, mapping->length, length, MREMAP_MAYMOVE);

	if (start == MAP_FAILED)
		return -errno;
	*mapping = (struct mapping){ start, length };
	return length;
}

static long long op_unmap(const struct args *args)
{
	struct mapping *mapping = mapping_of(args);

	return answered(munmap(mapping->start, mapping->length));
}

static long long op_fill(const struct args *args)
{
	struct mapping *mapping = mapping_of(args);

	memset(mapping->start, argument(args, 1), mapping->length);
	return mapping->length;
}

static long long op_count(const struct args *args)
{
	struct mapping *mapping = mapping_of(args);
	unsigned char byte = argument(args, 1);
	size_t bad = 0;

	for (size_t i = 0; i < mapping->length; i++)
		bad += mapping->start[i] != byte;
	return bad;
}

static long long op_peek(const struct args *args)
{
	return __atomic_load_n(mapping_of(args)->start + argument(args, 1), __ATOMIC_RELAXED);
}

static long long op_poke(const struct args *args)
{
	__atomic_store_n(mapping_of(args)->start + argument(args, 1), argument(args, 2),
			 __ATOMIC_RELAXED);
	return op_peek(args);
}

static void on_signal(int number)
{
	siglongjmp(recover, number);
}

static void set_handlers(void (*handler)(int))
{
	signal(SIGBUS, handler);
	signal(SIGSEGV, handler);
}

/* How @child ended: the signal is the operation's answer, and a status above 0 is an errno. */
static long long reaped(pid_t child)
{
	int status;

	if (waitpid(child, &status, 0) != child)
		return -errno;
	if (WIFSIGNALED(status))
		siglongjmp(recover, WTERMSIG(status));
	return -WEXITSTATUS(status);
}

static long long op_child(const struct args *args)
{
	long long result;
	pid_t child = fork();

	if (!child) {
		set_handlers(SIG_DFL);
		op_poke(args);
		_exit(0);
	}
	result = child < 0 ? -errno : reaped(child);
	return result ? result : op_peek(args);
}

/* The other process: takes one descriptor, maps its first page, answers the first byte. */
static _Noreturn void receive(int from)
{
	char control[CMSG_SPACE(sizeof(int))];
	unsigned char byte;
	struct iovec io = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &io, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	void *start = MAP_FAILED;
	int fd;

	if (recvmsg(from, &message, 0) == 1 && CMSG_FIRSTHDR(&message)) {
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
		start = mmap(NULL, getpagesize(), PROT_READ, MAP_SHARED, fd, 0);
	}
	if (start == MAP_FAILED || write(from, start, 1) != 1)
		_exit(1);
	/* Keep it until the other end is closed. */
	_exit(read(from, &byte, 1) ? 1 : 0);
}

static long long op_pass(const struct args *args)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	unsigned char byte = 0;
	struct iovec io = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &io, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	if (channel < 0)
		usage_error("there is one receiver, and it is gone", args->name);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), buffer_of(args), sizeof(int));
	if (sendmsg(channel, &message, 0) != 1)
		return -errno;
	errno = EPIPE;
	return answered(read(channel, &byte, 1) == 1 ? byte : -1);
}

/* Only a receiver that was forked before there were buffers holds nothing but what it is sent. */
static void start_receiver(void)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		die("socketpair");
	fflush(stdout);
	receiver = fork();
	if (!receiver) {
		close(ends[1]);
		receive(ends[0]);
	}
	if (receiver < 0)
		die("fork");
	close(ends[0]);
	channel = ends[1];
}

static long long op_drop(const struct args *args)
{
	if (channel < 0)
		usage_error("there is one receiver, and it is gone", args->name);
	close(channel);
	channel = -1;
	return reaped(receiver);
}

static size_t contents(const char *path, char *text, size_t size)
{
	size_t length = 0;
	ssize_t got = -1;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	while (fd >= 0 && (got = read(fd, text + length, size - length - 1)) > 0)
		length += got;
	if (got < 0)
		die(path);
	close(fd);
	text[length] = '\0';
	return length;
}

static long long op_kill_alloc(const struct args *args)
{
	static char before[64], now[64];
	siginfo_t ended = { 0 };
	pid_t child;

	if (args->given < 2)
		usage_error("an argument is missing", args->name);
	contents(args->word[1], before, sizeof(before));
	child = fork();
	if (!child)
		_exit(allocate(argument(args, 0), O_RDWR, 0) < 0 ? errno : 0);
	if (child < 0)
		return -errno;
	do {
		contents(args->word[1], now, sizeof(now));
		if (waitid(P_PID, child, &ended, WEXITED | WNOHANG | WNOWAIT))
			return -errno;
	} while (!strcmp(before, now) && !ended.si_pid);
	kill(child, SIGKILL);
	return reaped(child);
}

static char text[1 << 18];

static long long op_cat(const struct args *args)
{
	if (!args->given)
		usage_error("an argument is missing", args->name);
	return contents(args->word[0], text, sizeof(text));
}

static const struct {
	const char *name;
	long long (*run)(const struct args *args);
} operations[] = {
	{ "alloc", op_alloc },
	{ "fill-heap", op_fill_heap },
	{ "close", op_close },
	{ "size", op_size },
	{ "sync", op_sync },
	{ "map", op_map },
	{ "map-private", op_map_private },
	{ "grow", op_grow },
	{ "unmap", op_unmap },
	{ "fill", op_fill },
	{ "count", op_count },
	{ "peek", op_peek },
	{ "poke", op_poke },
	{ "child", op_child },
	{ "pass", op_pass },
	{ "drop", op_drop },
	{ "kill-alloc", op_kill_alloc },
	{ "cat", op_cat },
};

static void print_text(const char *from)
{
	printf(", \"text\": \"");
	for (; *from; from++) {
		if (*from == '"' || *from == '\\')
			printf("\\%c", *from);
		else if ((unsigned char)*from < ' ')
			printf("\\u%04x", *from);
		else
			putchar(*from);
	}
	putchar('"');
}

/* Returns the signal that ended it, or 0. */
static int guarded(long long (*run)(const struct args *args), const struct args *args,
		   long long *result)
{
	int caught = sigsetjmp(recover, 1);

	if (!caught)
		*result = run(args);
	return caught;
}

static void perform(const struct args *args)
{
	size_t i = 0;
	long long result = 0;
	int signalled;

	while (i < sizeof(operations) / sizeof(*operations) &&
	       strcmp(args->name, operations[i].name))
		i++;
	if (i == sizeof(operations) / sizeof(*operations))
		usage_error("no such operation", args->name);

	text[0] = '\0';
	signalled = guarded(operations[i].run, args, &result);
	printf("{\"operation\": \"%s\", ", args->name);
	if (signalled)
		printf("\"signal\": \"SIG%s\"", sigabbrev_np(signalled));
	else if (result < 0)
		printf("\"errno\": \"%s\"", errno_name(-result));
	else
		printf("\"value\": %lld", result);
	if (text[0])
		print_text(text);
	printf("}\n");
	/* Children must not have a copy to print once more. */
	fflush(stdout);
}

static struct args split(char *operation)
{
	struct args args = { .name = strtok(operation, " ") };
	char *word;

	if (!args.name)
		usage_error("an empty operation", "say what to do");
	while ((word = strtok(NULL, " "))) {
		if (args.given == WORDS)
			usage_error("too many arguments", args.name);
		args.word[args.given++] = word;
	}
	return args;
}

int main(int argc, char **argv)
{
	if (argc > 1 && (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))) {
		fputs(usage_text, stdout);
		return EXIT_OK;
	}
	if (argc < 4 || strcmp(argv[1], "-d"))
		usage_error("wrong arguments", "-d DEVICE and an operation are needed");
	heap = open(argv[2], O_RDWR | O_CLOEXEC);
	if (heap < 0)
		die(argv[2]);
	start_receiver();
	set_handlers(on_signal);
	for (int i = 3; i < argc; i++) {
		struct args args = split(argv[i]);

		perform(&args);
	}
	if (channel >= 0) {
		close(channel);
		waitpid(receiver, NULL, 0);
	}
	return EXIT_OK;
}
