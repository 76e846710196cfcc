/* SPDX-License-Identifier: MIT */
/*
 * One thread that waits for many buffers.
 *
 * An entry has one callback, on one pending fence of its reservation object at a
 * time.  When that signals the entry is ready, and the thread looks for another
 * pending fence; when there is none it is released.  So waiting needs no memory,
 * however many fences there are, and no entry waits for another's fences.  The
 * callback only moves the entry from one list to the other.
 *
 *	entry		pending		ready
 *	-----		-------		-----
 *	added		yes		yes
 *	looked at	yes		no	its callback is on a fence
 *	fence signalled	yes		yes
 *	released	no		no
 *
 * The list of pending entries is in the order of their tickets, so that a flush
 * knows from the first one whether it may return.
 */
#include <mmn/reaper.h>

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/bug.h"
#include "base/inject.h"
#include "base/process.h"
#include "base/thread.h"
#include "base/time.h"
#include "base/wait.h"
#include "fence/fence.h"

struct mmn_reaper {
	pthread_t thread;
	/* const after create: of the process that has the thread */
	uint32_t generation;
	/* mmn_context_self() of the thread, which stores it. atomic */
	const void *self;
	/* Guards what follows; held for a few instructions. */
	struct spinlock lock;
	struct dma_fence_link pending;
	struct dma_fence_link ready;
	uint64_t last_ticket;
	/* of the entry whose release is running, 0 for none */
	uint64_t releasing;
	bool stopping;
	/* atomic, changed with the lock: entries that became ready */
	uint32_t nr_ready;
	/* atomic, changed with the lock: entries that were released */
	uint32_t nr_released;
};

/* With the lock.  Who sleeps on it looks at the lists with the lock. */
static void move_on(uint32_t *count)
{
	/* relaxed: the lock orders it, sleepers only compare */
	mmn_store_relaxed(count, *count + 1);
}

static void make_ready(struct mmn_reaper *reaper,
		       struct mmn_reaper_entry *entry)
{
	mmn_spin_lock(&reaper->lock);
	link_add_tail(&entry->ready, &reaper->ready);
	move_on(&reaper->nr_ready);
	mmn_spin_unlock(&reaper->lock);
	mmn_wake(&reaper->nr_ready, 1);
}

static void fence_signaled(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	struct mmn_reaper_entry *entry =
		container_of(cb, struct mmn_reaper_entry, cb);

	(void)fence;
	make_ready(entry->reaper, entry);
}

/* Have the entry's own object hold the fences of the shared one. */
static void individualize(struct mmn_reaper_entry *entry)
{
	bool locked = dma_resv_trylock(entry->own);

	mmn_bug_on(!locked, "somebody else locks what is to be released");
	if (!locked)
		return;
	if (!dma_resv_copy_fences(entry->own, entry->shared))
		entry->shared = NULL;
	dma_resv_unlock(entry->own);
}

/* Without a copy it is the shared object that has to become idle. */
static struct dma_resv *watched(const struct mmn_reaper_entry *entry)
{
	return entry->shared ?: entry->own;
}

/* All of them at once, instead of one after the other when its turn comes. */
static void enable_all(const struct mmn_reaper_entry *entry)
{
	struct dma_resv_iter cursor;
	struct dma_fence *fence;

	dma_resv_iter_begin(&cursor, watched(entry), DMA_RESV_USAGE_BOOKKEEP);
	dma_resv_for_each_fence_unlocked(&cursor, fence)
		dma_fence_enable_sw_signaling(fence);
	dma_resv_iter_end(&cursor);
}

/* A fence that is pending, with a reference, or NULL. */
static struct dma_fence *get_pending(const struct mmn_reaper_entry *entry)
{
	struct dma_resv_iter cursor;
	struct dma_fence *fence;

	dma_resv_iter_begin(&cursor, watched(entry), DMA_RESV_USAGE_BOOKKEEP);
	fence = dma_fence_get(dma_resv_iter_first_unlocked(&cursor));
	dma_resv_iter_end(&cursor);
	return fence;
}

/* False when there is no fence to wait for any more. */
static bool wait_for_another(struct mmn_reaper_entry *entry)
{
	while ((entry->fence = get_pending(entry))) {
		if (!dma_fence_add_callback(entry->fence, &entry->cb,
					    fence_signaled))
			return true;
		dma_fence_put(entry->fence);
	}
	return false;
}

static void release_entry(struct mmn_reaper *reaper,
			  struct mmn_reaper_entry *entry)
{
	mmn_spin_lock(&reaper->lock);
	link_del(&entry->pending);
	reaper->releasing = entry->ticket;
	mmn_spin_unlock(&reaper->lock);

	entry->release(entry);

	mmn_spin_lock(&reaper->lock);
	reaper->releasing = 0;
	move_on(&reaper->nr_released);
	mmn_spin_unlock(&reaper->lock);
	mmn_wake(&reaper->nr_released, INT_MAX);
}

static void look_at(struct mmn_reaper *reaper, struct mmn_reaper_entry *entry)
{
	bool first_look = !entry->fence;

	dma_fence_put(entry->fence);
	if (entry->shared)
		individualize(entry);
	if (first_look)
		enable_all(entry);
	if (!wait_for_another(entry))
		release_entry(reaper, entry);
}

/* NULL when there is none; sleep on nr_ready then, while it is *@ret_seen. */
static struct mmn_reaper_entry *take_ready(struct mmn_reaper *reaper,
					   uint32_t *ret_seen, bool *ret_stop)
{
	struct mmn_reaper_entry *entry = NULL;

	mmn_spin_lock(&reaper->lock);
	if (link_is_queued(&reaper->ready)) {
		entry = container_of(reaper->ready.next,
				     struct mmn_reaper_entry, ready);
		link_del(&entry->ready);
	}
	*ret_seen = reaper->nr_ready;
	*ret_stop = reaper->stopping;
	mmn_spin_unlock(&reaper->lock);
	return entry;
}

static void *reap(void *arg)
{
	struct mmn_reaper *reaper = arg;
	uint32_t seen;
	bool stop;

	/* relaxed: others only compare it with themselves */
	mmn_store_relaxed(&reaper->self, mmn_context_self());
	for (;;) {
		struct mmn_reaper_entry *entry =
			take_ready(reaper, &seen, &stop);

		if (entry)
			look_at(reaper, entry);
		else if (stop)
			return NULL;
		else
			mmn_wait_on(&reaper->nr_ready, seen, NULL);
	}
}

int mmn_reaper_create(struct mmn_reaper **ret_reaper)
{
	struct mmn_reaper *reaper = NULL;
	int err;

	if (!MMN_INJECT(MMN_INJECT_ALLOC))
		reaper = calloc(1, sizeof(*reaper));
	if (!reaper)
		return -ENOMEM;
	reaper->generation = mmn_process_adopt();
	mmn_spin_init(&reaper->lock);
	link_init(&reaper->pending);
	link_init(&reaper->ready);
	err = mmn_thread_create(&reaper->thread, NULL, reap, reaper);
	if (err) {
		free(reaper);
		return err;
	}
	*ret_reaper = reaper;
	return 0;
}

/* A copy in a fork child: no thread, and the lock may be held by nobody. */
static bool is_stale(const struct mmn_reaper *reaper)
{
	return reaper->generation != mmn_process_generation();
}

static bool is_own_thread(struct mmn_reaper *reaper)
{
	/* relaxed: equal to our own name only if we stored it ourselves */
	return mmn_load_relaxed(&reaper->self) == mmn_context_self();
}

/* Not while there is anything left, which a release function may have added. */
static bool stop_if_idle(struct mmn_reaper *reaper)
{
	mmn_spin_lock(&reaper->lock);
	if (!reaper->releasing && !link_is_queued(&reaper->pending)) {
		reaper->stopping = true;
		move_on(&reaper->nr_ready);
	}
	mmn_spin_unlock(&reaper->lock);
	return reaper->stopping;
}

void mmn_reaper_destroy(struct mmn_reaper *reaper)
{
	int ret;

	if (!reaper || is_stale(reaper))
		return;
	do {
		ret = mmn_reaper_flush(reaper, DMA_FENCE_NEVER);
		mmn_bug_on(ret, "a reaper is destroyed in a release function");
		if (ret)
			return;
	} while (!stop_if_idle(reaper));
	mmn_wake(&reaper->nr_ready, 1);
	pthread_join(reaper->thread, NULL);
	free(reaper);
}

static void add_entry(struct mmn_reaper *reaper, struct mmn_reaper_entry *entry)
{
	mmn_spin_lock(&reaper->lock);
	entry->ticket = ++reaper->last_ticket;
	link_add_tail(&entry->pending, &reaper->pending);
	mmn_spin_unlock(&reaper->lock);
	make_ready(reaper, entry);
}

bool mmn_reaper_add(struct mmn_reaper *reaper, struct mmn_reaper_entry *entry,
		    struct dma_resv *own, struct dma_resv *shared,
		    mmn_reaper_func_t release)
{
	*entry = (struct mmn_reaper_entry){
		.reaper = reaper,
		.own = own,
		.shared = shared == own ? NULL : shared,
		.release = release,
	};
	if (is_stale(reaper))
		return false;
	if (entry->shared)
		individualize(entry);
	if (dma_resv_test_signaled_flag(watched(entry),
					DMA_RESV_USAGE_BOOKKEEP)) {
		release(entry);
		return true;
	}
	add_entry(reaper, entry);
	return false;
}

/* With the lock.  Is anything not released whose ticket is @ticket or before? */
static bool is_owed(const struct mmn_reaper *reaper, uint64_t ticket)
{
	const struct mmn_reaper_entry *first;

	if (reaper->releasing && reaper->releasing <= ticket)
		return true;
	if (!link_is_queued(&reaper->pending))
		return false;
	first = container_of(reaper->pending.next, struct mmn_reaper_entry,
			     pending);
	return first->ticket <= ticket;
}

static int await_release(struct mmn_reaper *reaper, uint64_t ticket,
			 const struct timespec *deadline)
{
	bool late = false;

	for (;;) {
		uint32_t seen;
		bool owed;

		mmn_spin_lock(&reaper->lock);
		owed = is_owed(reaper, ticket);
		seen = reaper->nr_released;
		mmn_spin_unlock(&reaper->lock);
		if (!owed)
			return 0;
		if (late)
			return -ETIMEDOUT;
		late = mmn_wait_on(&reaper->nr_released, seen, deadline) ==
		       -ETIMEDOUT;
	}
}

int mmn_reaper_flush(struct mmn_reaper *reaper, int64_t deadline)
{
	struct timespec at =
		mmn_timespec(deadline > 0 ? (uint64_t)deadline : 0);
	uint64_t ticket;

	if (is_stale(reaper))
		return -ESTALE;
	if (is_own_thread(reaper))
		return -EDEADLK;
	dma_fence_might_wait();
	mmn_spin_lock(&reaper->lock);
	ticket = reaper->last_ticket;
	mmn_spin_unlock(&reaper->lock);
	return await_release(reaper, ticket,
			     deadline == DMA_FENCE_NEVER ? NULL : &at);
}
