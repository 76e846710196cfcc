/* SPDX-License-Identifier: MIT */
/*
 * A timeline of points in a sync object.
 *
 * A submitter appends points, each with a fence of a software timeline; the
 * device writes the number of a point and makes the step that signals it; waiters
 * wait for points, also for those that nobody has submitted yet, by the call or
 * by an eventfd, and compare.  How far the timeline is must never go back.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <mmn/sync.h>

#include "torture.h"

enum {
	/* Points submitted and not reached. */
	UNDER_WAY = 8,
	/* Points that are waited for before they are there. */
	AHEAD = 4,
	/* For the history: points share a place with others. */
	PLACES = 16,
};

enum {
	SIGNAL_EARLY = 1 << 0,
	NO_WAIT = 1 << 1,
	ONLY_AVAILABLE = 1 << 2,
};

static const struct flavour flavours[] = {
	BROKEN("signal-early", "points are reached before the work is done",
	       SIGNAL_EARLY),
	BROKEN("no-wait", "waiters do not wait", NO_WAIT),
	BROKEN("only-available", "waiters wait for the fence to be there only",
	       ONLY_AVAILABLE),
	{ 0 },
};

enum {
	SUBMITTED,
	REACHED,
	WAITED,
	EVENTS,
	NO_MEMORY,
};

static struct world {
	struct mmn_syncobj *object;
	struct mmn_sw_sync *timeline;
	pthread_mutex_t lock;
	/* lock; atomic for those that want to know roughly */
	uint64_t submitted;
	/* lock */
	uint64_t reached;
	/* atomic: what the device has written */
	uint64_t done;
	uint32_t nr_waiters_gone;
	uint32_t nr_waiters;
} world;

static uint32_t place_of(uint64_t point)
{
	return (uint32_t)(point % PLACES);
}

static void submitter(void)
{
	struct dma_fence *fence = NULL;
	uint64_t point;
	int err;

	pthread_mutex_lock(&world.lock);
	point = world.submitted + 1;
	if (point > world.reached + UNDER_WAY)
		goto out;
	err = mmn_sw_sync_create_fence(world.timeline, (uint32_t)point, &fence);
	if (!err)
		err = mmn_syncobj_add_point(world.object, point, fence);
	if (err) {
		must(err == -ENOMEM);
		tally(NO_MEMORY);
		goto out;
	}
	note("submit", place_of(point), point);
	tally(SUBMITTED);
	/* relaxed: others read it as a hint */
	mmn_store_relaxed(&world.submitted, point);
out:
	pthread_mutex_unlock(&world.lock);
	dma_fence_put(fence);
	linger();
}

static bool waiters_are_gone(void)
{
	/* relaxed: a hint to finish */
	return mmn_load_relaxed(&world.nr_waiters_gone) == world.nr_waiters;
}

static void submitter_leaves(void)
{
	while (!waiters_are_gone())
		submitter();
}

static void write_point(uint64_t point)
{
	linger();
	note("write", place_of(point), point);
	/* relaxed: the object orders it, which is what is being tested */
	mmn_store_relaxed(&world.done, point);
}

/* There is one device only. */
static void device(void)
{
	uint64_t point;
	bool is_there;

	pthread_mutex_lock(&world.lock);
	point = world.reached + 1;
	is_there = point <= world.submitted;
	pthread_mutex_unlock(&world.lock);
	if (!is_there) {
		sched_yield();
		return;
	}
	if (!is_broken(SIGNAL_EARLY))
		write_point(point);
	note("reach", place_of(point), point);
	must(!mmn_sw_sync_inc(world.timeline, 1));
	if (is_broken(SIGNAL_EARLY))
		write_point(point);
	tally(REACHED);
	pthread_mutex_lock(&world.lock);
	world.reached = point;
	pthread_mutex_unlock(&world.lock);
}

static void device_leaves(void)
{
	while (!waiters_are_gone())
		device();
}

static void check_done(uint64_t point)
{
	/* relaxed: as in write_point() */
	uint64_t done = mmn_load_relaxed(&world.done);

	note("find", place_of(point), done);
	note_lag(done < point ? point - done : 0);
	if (done < point)
		fail(place_of(point),
		     "point %llu was waited for, but %llu is done",
		     (unsigned long long)point, (unsigned long long)done);
}

static int wait_for(uint64_t point)
{
	struct mmn_syncobj_wait wait = {
		.size = sizeof(wait),
		.flags = is_broken(ONLY_AVAILABLE)
				 ? MMN_SYNCOBJ_WAIT_AVAILABLE
				 : MMN_SYNCOBJ_WAIT_FOR_SUBMIT,
		.objects = &world.object,
		.points = &point,
		.count = 1,
		.deadline = DMA_FENCE_NEVER,
	};

	tally(WAITED);
	return mmn_syncobj_wait(&wait);
}

static int wait_for_event(uint64_t point)
{
	int fd = eventfd(0, EFD_CLOEXEC), err;
	uint64_t events = 0;

	if (fd < 0)
		return -ENOMEM;
	err = mmn_syncobj_eventfd(world.object, point, 0, fd);
	if (!err) {
		while (read(fd, &events, sizeof(events)) < 0 && errno == EINTR)
			;
		must(events == 1);
		tally(EVENTS);
	}
	close(fd);
	return err;
}

static void waiter(void)
{
	/* relaxed: a hint which points are interesting */
	uint64_t point = mmn_load_relaxed(&world.submitted) + below(AHEAD);
	uint64_t before = 0, after = 0;
	int err = 0;

	if (!point)
		return;
	must(!mmn_syncobj_query(world.object, 0, &before));
	note("wait", place_of(point), point);
	if (!is_broken(NO_WAIT))
		err = one_in(3) && !is_broken(ONLY_AVAILABLE)
			      ? wait_for_event(point)
			      : wait_for(point);
	if (err) {
		must(err == -ENOMEM);
		tally(NO_MEMORY);
		return;
	}
	check_done(point);
	must(!mmn_syncobj_query(world.object, 0, &after));
	if (after < before)
		fail(place_of(before), "the timeline went from %llu to %llu",
		     (unsigned long long)before, (unsigned long long)after);
}

static void waiter_leaves(void)
{
	/* relaxed: a hint to finish */
	mmn_fetch_add_relaxed(&world.nr_waiters_gone, 1);
}

static int set_up(void)
{
	int err;

	memset(&world, 0, sizeof(world));
	world.nr_waiters = actors_of("waiter");
	pthread_mutex_init(&world.lock, NULL);
	err = mmn_sw_sync_create("torture", &world.timeline);
	if (err)
		return err;
	return mmn_syncobj_create(0, &world.object);
}

static void tear_down(void)
{
	mmn_syncobj_put(world.object);
	mmn_sw_sync_destroy(world.timeline);
	pthread_mutex_destroy(&world.lock);
	dma_fence_barrier();
}

const struct scenario sync_scenario = {
	.name = "sync",
	.what = "points of a timeline in a sync object, and eventfds",
	.place = "point modulo 16 at",
	.flavours = flavours,
	.roles = { ROLE("submitter", 2, submitter, submitter_leaves),
		   FIXED_ROLE("device", 1, device, device_leaves),
		   ROLE("waiter", 4, waiter, waiter_leaves) },
	.counters = { "submitted", "reached", "waited", "events", "no-memory" },
	.nr_musts = EVENTS + 1,
	.set_up = set_up,
	.tear_down = tear_down,
};
