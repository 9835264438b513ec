// SPDX-License-Identifier: GPL-2.0-only
/*
 * Listening to the tracepoints of mm/cma.c.
 *
 * The tracepoints themselves are not exported, so for_each_kernel_tracepoint() finds them by name,
 * as samples/trace_events/trace_custom_sched.c does. That gives each attempt of the allocator with
 * its page frame, which nothing else shows.
 */

#include <linux/atomic.h>
#include <linux/string.h>
#include <linux/tracepoint.h>
#include <trace/events/cma.h>

#include "cma_compat.h"
#include "trace.h"

#if CMA_HAS_EVENTS

/* The latest events. Read while nobody allocates: a slot is not locked. */
static struct cma_event ring[1024];
static atomic_t heard = ATOMIC_INIT(0);
static atomic_long_t starts, given, refused, retries, releases;

static void note(struct cma_event event)
{
	ring[(unsigned int)atomic_fetch_inc(&heard) % ARRAY_SIZE(ring)] = event;
}

static void on_start(void *data, const char *name, unsigned long count,
		     CMA_START_OF_AREA unsigned int align)
{
	atomic_long_inc(&starts);
	note((struct cma_event){ .kind = CMA_START, .name = name, .count = count, .align = align });
}

static void on_retry(void *data, const char *name, unsigned long pfn, const struct page *page,
		     unsigned long count, unsigned int align)
{
	atomic_long_inc(&retries);
	note((struct cma_event){
		.kind = CMA_RETRY, .name = name, .pfn = pfn, .count = count, .align = align,
	});
}

static void on_finish(void *data, const char *name, unsigned long pfn, const struct page *page,
		      unsigned long count, unsigned int align, int error)
{
	atomic_long_inc(page ? &given : &refused);
	note((struct cma_event){
		.kind = CMA_FINISH, .name = name, .pfn = pfn, .count = count, .align = align,
		.error = error, .given = page,
	});
}

static void on_release(void *data, const char *name, unsigned long pfn, const struct page *page,
		       unsigned long count)
{
	atomic_long_inc(&releases);
	note((struct cma_event){ .kind = CMA_RELEASE, .name = name, .pfn = pfn, .count = count });
}

/**
 * struct listener - a probe and where it goes
 * @name: of the tracepoint
 * @probe: called with the tracepoint's arguments
 * @point: the tracepoint, once the probe is registered
 */
struct listener {
	const char *name;
	void *probe;
	struct tracepoint *point;
};

static struct listener listeners[] = {
	{ "cma_alloc_start", on_start },
	{ "cma_alloc_busy_retry", on_retry },
	{ "cma_alloc_finish", on_finish },
	{ "cma_release", on_release },
};

static void listen(struct tracepoint *point, void *unused)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(listeners); i++) {
		if (strcmp(point->name, listeners[i].name))
			continue;
		if (!tracepoint_probe_register(point, listeners[i].probe, NULL))
			listeners[i].point = point;
	}
}

/* Register the probes, whose types the compiler compares with the tracepoints'. */
void trace_start(void)
{
	check_trace_callback_type_cma_alloc_start(on_start);
	check_trace_callback_type_cma_alloc_busy_retry(on_retry);
	check_trace_callback_type_cma_alloc_finish(on_finish);
	check_trace_callback_type_cma_release(on_release);
	for_each_kernel_tracepoint(listen, NULL);
}

/* Unregister them; afterwards none of them runs. */
void trace_stop(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(listeners); i++)
		if (listeners[i].point)
			tracepoint_probe_unregister(listeners[i].point, listeners[i].probe, NULL);
	tracepoint_synchronize_unregister();
}

/* Whether every tracepoint was found; else the rest says nothing. */
bool trace_heard(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(listeners); i++)
		if (!listeners[i].point)
			return false;
	return true;
}

struct cma_totals trace_totals(void)
{
	return (struct cma_totals){
		.starts = atomic_long_read(&starts),
		.given = atomic_long_read(&given),
		.refused = atomic_long_read(&refused),
		.retries = atomic_long_read(&retries),
		.releases = atomic_long_read(&releases),
	};
}

/* The position of the next event. */
unsigned int trace_mark(void)
{
	return atomic_read(&heard);
}

/* An event by its position; NULL when it has not come yet, or is no longer kept. */
const struct cma_event *trace_event(unsigned int position)
{
	unsigned int age = trace_mark() - position;

	if (!age || age > ARRAY_SIZE(ring))
		return NULL;
	return &ring[position % ARRAY_SIZE(ring)];
}

#else /* !CMA_HAS_EVENTS */

void trace_start(void)
{
}

void trace_stop(void)
{
}

bool trace_heard(void)
{
	return false;
}

struct cma_totals trace_totals(void)
{
	return (struct cma_totals){ };
}

unsigned int trace_mark(void)
{
	return 0;
}

const struct cma_event *trace_event(unsigned int position)
{
	return NULL;
}

#endif /* CMA_HAS_EVENTS */
