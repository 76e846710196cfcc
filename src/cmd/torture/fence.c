/* SPDX-License-Identifier: MIT */
/*
 * Fences, judged by what the work behind them has left.
 *
 * Each channel has a number that only grows, a slot with the fence of its latest
 * job, and jobs under way.  Submitters put jobs into memory of a pool, which is
 * used again at once; completers write the number of a job and signal its fence;
 * waiters take whatever fence the slot has, wait for it in one of several ways,
 * and compare the number of the job with the number of the channel.  A job that
 * is looked at with a reference is alive; one that is released is poisoned.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include <mmn/dma-fence-pool.h>

#include "torture.h"

enum {
	CHANNELS = 4,
	/* Jobs under way on a channel. */
	UNDER_WAY = 4,
	LIVE = 0x6c697665,
	DEAD = 0x64656164,
};

enum {
	SIGNAL_EARLY = 1 << 0,
	NO_WAIT = 1 << 1,
	NO_GET = 1 << 2,
	CALLBACK_LEFT = 1 << 3,
	NO_SIGNAL = 1 << 4,
};

static const struct flavour flavours[] = {
	BROKEN("signal-early", "fences signal before the work is done",
	       SIGNAL_EARLY),
	BROKEN("no-wait", "waiters do not wait", NO_WAIT),
	BROKEN("no-get", "jobs are looked at without a reference", NO_GET),
	BROKEN("callback-left",
	       "what a callback uses goes before it is removed", CALLBACK_LEFT),
	BROKEN("no-signal", "the last job of each ten is never signalled",
	       NO_SIGNAL),
	{ 0 },
};

enum {
	SUBMITTED,
	COMPLETED,
	WAITED,
	CALLED,
	REMOVED,
	NO_MEMORY,
};

/* What is behind the fence stays when the memory is used again. */
struct job {
	struct dma_fence fence;
	/* atomic */
	uint32_t magic;
	uint32_t channel;
};

struct channel {
	struct dma_fence_slot slot;
	pthread_mutex_t lock;
	uint64_t context;
	/* lock: of the latest job */
	uint64_t number;
	/* lock: the oldest is first */
	struct job *under_way[UNDER_WAY];
	uint32_t nr_under_way;
	/* lock: somebody completes a job of it */
	bool is_busy;
	/* atomic: what the last job has written */
	uint64_t done;
};

struct watcher {
	struct dma_fence_cb cb;
	/* atomic */
	uint32_t magic;
	uint32_t nr_calls;
};

static struct world {
	struct dma_fence_pool *pool;
	struct channel channels[CHANNELS];
	/* atomic */
	uint32_t nr_submitters_gone;
	uint32_t nr_submitters;
} world;

static const char *name(struct dma_fence *fence)
{
	(void)fence;
	return "torture";
}

static struct job *job_of(struct dma_fence *fence)
{
	return (struct job *)fence;
}

static void job_release(struct dma_fence *fence)
{
	/* relaxed: who reads it now has no reference */
	mmn_store_relaxed(&job_of(fence)->magic, DEAD);
	dma_fence_pool_free(fence);
}

static const struct dma_fence_ops job_ops = {
	.use_64bit_seqno = true,
	.get_driver_name = name,
	.get_timeline_name = name,
	.release = job_release,
};

/* --- submitters and completers -------------------------------------------- */

/* lock held */
static struct dma_fence *new_job(struct channel *channel)
{
	struct dma_fence *fence = dma_fence_pool_alloc(world.pool);
	struct job *job = job_of(fence);

	if (!fence) {
		tally(NO_MEMORY);
		return NULL;
	}
	/* relaxed: looked at with a reference only, or wrongly */
	mmn_store_relaxed(&job->magic, LIVE);
	mmn_store_relaxed(&job->channel, (uint32_t)(channel - world.channels));
	dma_fence_pool_init(fence, &job_ops, NULL, channel->context,
			    ++channel->number);
	channel->under_way[channel->nr_under_way++] = job;
	return fence;
}

static void submitter(void)
{
	uint32_t at = below(CHANNELS);
	struct channel *channel = &world.channels[at];
	struct dma_fence *fence = NULL, *old = NULL;

	pthread_mutex_lock(&channel->lock);
	if (channel->nr_under_way < UNDER_WAY)
		fence = new_job(channel);
	if (fence) {
		note("submit", at, channel->number);
		tally(SUBMITTED);
		old = dma_fence_slot_set(&channel->slot, dma_fence_get(fence));
	}
	pthread_mutex_unlock(&channel->lock);
	dma_fence_put(old);
	linger();
	if (!fence)
		sched_yield();
}

static void submitter_leaves(void)
{
	/* relaxed: completers look at the channels under their locks */
	mmn_fetch_add_relaxed(&world.nr_submitters_gone, 1);
}

static struct job *next_job(struct channel *channel)
{
	struct job *job = NULL;

	pthread_mutex_lock(&channel->lock);
	if (channel->nr_under_way && !channel->is_busy) {
		channel->is_busy = true;
		job = channel->under_way[0];
		channel->nr_under_way--;
		memmove(channel->under_way, channel->under_way + 1,
			channel->nr_under_way * sizeof(job));
	}
	pthread_mutex_unlock(&channel->lock);
	return job;
}

static void write_number(uint32_t at, uint64_t number)
{
	linger();
	note("write", at, number);
	/* relaxed: the fence orders it, which is what is being tested */
	mmn_store_relaxed(&world.channels[at].done, number);
}

static bool complete(uint32_t at)
{
	struct channel *channel = &world.channels[at];
	struct job *job = next_job(channel);

	if (!job)
		return false;
	if (!is_broken(SIGNAL_EARLY))
		write_number(at, job->fence.seqno);
	if (is_broken(NO_SIGNAL) && job->fence.seqno % 10 == 0) {
		note("forget", at, job->fence.seqno);
	} else {
		note("signal", at, job->fence.seqno);
		must(!dma_fence_signal(&job->fence));
	}
	if (is_broken(SIGNAL_EARLY))
		write_number(at, job->fence.seqno);
	tally(COMPLETED);
	dma_fence_put(&job->fence);
	pthread_mutex_lock(&channel->lock);
	channel->is_busy = false;
	pthread_mutex_unlock(&channel->lock);
	return true;
}

static void completer(void)
{
	if (!complete(below(CHANNELS)))
		sched_yield();
}

static bool is_idle(struct channel *channel)
{
	bool idle;

	pthread_mutex_lock(&channel->lock);
	idle = !channel->nr_under_way && !channel->is_busy;
	pthread_mutex_unlock(&channel->lock);
	return idle;
}

/* Nobody waits for ever: it goes on until there is nothing left. */
static void completer_leaves(void)
{
	uint32_t i;

	/* relaxed: a job that came before is found under the lock */
	while (mmn_load_relaxed(&world.nr_submitters_gone) !=
	       mmn_load_relaxed(&world.nr_submitters))
		completer();
	for (i = 0; i < CHANNELS; i++)
		while (!is_idle(&world.channels[i]))
			if (!complete(i))
				sched_yield();
}

/* --- waiters -------------------------------------------------------------- */

static void check_done(uint32_t at, uint64_t number)
{
	/* relaxed: as in write_number() */
	uint64_t done = mmn_load_relaxed(&world.channels[at].done);

	note("find", at, done);
	note_lag(done < number ? number - done : 0);
	if (done < number)
		fail(at, "channel %u: job %llu has signalled, but %llu is done",
		     at, (unsigned long long)number, (unsigned long long)done);
}

static void called(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	struct watcher *watcher = (struct watcher *)cb;

	/* relaxed: it is as it was, or wrong */
	if (mmn_load_relaxed(&watcher->magic) != LIVE)
		fail(job_of(fence)->channel,
		     "a callback was called whose memory is used otherwise");
	watcher->nr_calls++;
	check_done(job_of(fence)->channel, fence->seqno);
	tally(CALLED);
}

static void watch(struct dma_fence *fence, uint32_t at)
{
	struct watcher watcher = { .magic = LIVE };
	bool removed;

	if (dma_fence_add_callback(fence, &watcher.cb, called)) {
		must(watcher.nr_calls == 0);
		check_done(at, fence->seqno);
		return;
	}
	linger();
	if (is_broken(CALLBACK_LEFT))
		/* relaxed: as in called() */
		mmn_store_relaxed(&watcher.magic, DEAD);
	if (one_in(2) || is_broken(CALLBACK_LEFT))
		dma_fence_wait(fence, false);
	removed = dma_fence_remove_callback(fence, &watcher.cb);
	must(watcher.nr_calls == (removed ? 0 : 1));
	if (removed)
		tally(REMOVED);
	else
		check_done(at, fence->seqno);
}

static void wait_somehow(struct dma_fence *fence, uint32_t at)
{
	note("wait", at, fence->seqno);
	switch (below(4)) {
	case 0:
		watch(fence, at);
		return;
	case 1:
		while (!dma_fence_is_signaled(fence))
			sched_yield();
		break;
	case 2:
		if (dma_fence_wait_timeout(fence, false, 1) <= 0)
			return;
		break;
	default:
		must(!dma_fence_wait(fence, false));
	}
	tally(WAITED);
	check_done(at, fence->seqno);
}

static void check_alive(struct dma_fence *fence, uint32_t at)
{
	/* relaxed: with a reference it is as it was */
	if (mmn_load_relaxed(&job_of(fence)->magic) != LIVE)
		fail(at, "channel %u: a job was released that is in use", at);
}

static void waiter(void)
{
	uint32_t at = below(CHANNELS);
	struct dma_fence *fence = dma_fence_slot_get(&world.channels[at].slot);

	if (!fence) {
		sched_yield();
		return;
	}
	if (is_broken(NO_GET)) {
		dma_fence_put(fence);
		linger();
		check_alive(fence, at);
		return;
	}
	check_alive(fence, at);
	must(job_of(fence)->channel == at);
	if (is_broken(NO_WAIT))
		check_done(at, fence->seqno);
	else
		wait_somehow(fence, at);
	check_alive(fence, at);
	dma_fence_put(fence);
}

/* --- beginning and end ---------------------------------------------------- */

static int set_up(void)
{
	struct channel *channel = world.channels;
	int err;

	memset(&world, 0, sizeof(world));
	world.nr_submitters = actors_of("submitter");
	err = dma_fence_pool_create(sizeof(struct job), &world.pool);
	if (err)
		return err;
	for (; channel < world.channels + CHANNELS; channel++) {
		pthread_mutex_init(&channel->lock, NULL);
		channel->context = dma_fence_context_alloc(1);
	}
	return 0;
}

static void tear_down(void)
{
	struct channel *channel = world.channels;

	for (; channel < world.channels + CHANNELS; channel++) {
		must(dma_fence_slot_test_signaled(&channel->slot));
		must(channel->done == channel->number);
		dma_fence_put(dma_fence_slot_set(&channel->slot, NULL));
		pthread_mutex_destroy(&channel->lock);
	}
	dma_fence_pool_destroy(world.pool);
	dma_fence_barrier();
}

const struct scenario fence_scenario = {
	.name = "fence",
	.what = "fences of a recycling pool, judged by the work behind them",
	.place = "channel",
	.flavours = flavours,
	.roles = { ROLE("submitter", 2, submitter, submitter_leaves),
		   ROLE("completer", 2, completer, completer_leaves),
		   ROLE("waiter", 3, waiter, NULL) },
	.counters = { "submitted", "completed", "waited", "called", "removed",
		      "no-memory" },
	.nr_musts = REMOVED + 1,
	.set_up = set_up,
	.tear_down = tear_down,
};
