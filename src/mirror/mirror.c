/* SPDX-License-Identifier: MIT */
/*
 * A device table over a range: filled by the canonical loop, torn down before
 * the memory changes.
 *
 * The table is a tree of runs.  A run is one device map and the words of its
 * pages; runs do not overlap and lie on a grid of run_pages, so that
 * invalidation costs at most one grid cell more than the change.
 *
 *	CPU0: a fill                        CPU1: a change
 *
 *	seq = read_begin(sub)
 *	range fault, [words]
 *	device map, [holds the pages]
 *	                                    start: lock, set_seq
 *	                                      take overlapping runs out
 *	                                      unmap_begin each
 *	                                    unlock
 *	                                    finish: unmap_finish each,
 *	                                      [no transfer is under way]
 *	                                    the change is made
 *	lock; read_retry(sub, seq) == true
 *	unlock; unmap [never installed]
 *	again
 *
 * The other way round the fill installs first, and the change finds the run.
 * Runs that are not installed have no transfers, so nobody needs to wait for
 * them.
 *
 * States of a run: pending (owned by the fill) -> installed (in the tree, owned
 * by the lock) -> dying (owned by whoever took it out).  Waiting for a device is
 * done on dying runs, with no lock held.
 *
 * A change that may not block is refused when a run would have to be taken down:
 * whether the device has to be waited for is not known until it is asked.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include <mmn/mirror.h>

#include "base/arena.h"
#include "base/atomic.h"
#include "base/bug.h"
#include "base/compiler.h"
#include "base/inject.h"
#include "base/lock.h"
#include "base/probe.h"
#include "base/process.h"
#include "base/time.h"
#include "base/wait.h"
#include "mirror/config.h"
#include "tree/itree.h"

enum { RUN_PAGES_DEFAULT = 64, RUN_PAGES_MAX = 4096 };

#define ACCESS_ALL (MMN_DEVICE_READ | MMN_DEVICE_WRITE)

/* One device map; see the states above. */
struct run {
	/* [start, last] of the map; in the tree while installed */
	struct itree_node node;
	struct mmn_device_map *map;
	/* dying: the second pass of the change, for the first of a chain */
	struct mmn_range_finish finish;
	/* pending or dying: the rest of the chain */
	struct run *next;
	/* dying: counted in its nr_dying; else NULL */
	struct mmn_mirror *counted;
	uint32_t nr_pages;
	uint64_t words[];
};

/* Runs in the order in which they were added. */
struct chain {
	struct run *first;
	struct run **end;
};

/*
 * struct mmn_mirror
 *
 * M1  Installed runs lie in [start, last] and do not overlap.
 * M2  stats.runs, .pages and .table_bytes describe the tree.
 */
struct mmn_mirror {
	/* const after create */
	struct mmn_range_subscription sub;
	uintptr_t start;
	uintptr_t last;
	struct mmn_mirror_config config;
	struct mmn_mirror_lock_ops lock_ops;
	void *lock_arg;
	uint32_t generation;
	uint32_t page_shift;

	/* itself; what it protects follows */
	struct mmn_mutex managed;
	struct itree tree;
	uint64_t births;
	struct mmn_mirror_stats stats;

	/* atomic: counted without the lock */
	uint64_t refused;
	/*
	 * atomic, futex: dying runs.  Raised with the lock held.  A change that
	 * finds its range empty may be let through only when whoever emptied it
	 * has seen the device stop.
	 */
	uint32_t nr_dying;
};

static bool mirror_is_live(const struct mmn_mirror *mirror)
{
	return mirror->generation == mmn_process_generation();
}

/* ------------------------------------------------------------------ */
/* The lock                                                           */
/* ------------------------------------------------------------------ */

static void managed_lock(void *lock) MMN_NO_LOCK_ANALYSIS
{
	mmn_mutex_lock((struct mmn_mutex *)lock);
}

static void managed_unlock(void *lock) MMN_NO_LOCK_ANALYSIS
{
	mmn_mutex_unlock((struct mmn_mutex *)lock);
}

static bool managed_trylock(void *lock) MMN_NO_LOCK_ANALYSIS
{
	return mmn_mutex_trylock((struct mmn_mutex *)lock);
}

static bool managed_is_held(void *lock)
{
	return mmn_mutex_is_held((struct mmn_mutex *)lock);
}

static void mutex_lock(void *lock)
{
	pthread_mutex_lock(lock);
}

static void mutex_unlock(void *lock)
{
	pthread_mutex_unlock(lock);
}

static bool mutex_trylock(void *lock)
{
	return pthread_mutex_trylock(lock) == 0;
}

static const struct mmn_mirror_lock_ops managed_ops = {
	.lock = managed_lock,
	.unlock = managed_unlock,
	.trylock = managed_trylock,
	.is_held = managed_is_held,
};

static const struct mmn_mirror_lock_ops mutex_ops = {
	.lock = mutex_lock,
	.unlock = mutex_unlock,
	.trylock = mutex_trylock,
};

static void table_lock(struct mmn_mirror *mirror, struct mmn_sigmask *saved)
{
	mmn_signals_block(saved);
	mirror->lock_ops.lock(mirror->lock_arg);
}

static void table_unlock(struct mmn_mirror *mirror,
			 const struct mmn_sigmask *saved)
{
	mirror->lock_ops.unlock(mirror->lock_arg);
	mmn_signals_restore(saved);
}

/* For asserts: true where it cannot be known. */
static bool table_is_locked(const struct mmn_mirror *mirror)
{
	struct mmn_driver_lock mutex;

	if (mirror->config.lock.kind == MMN_MIRROR_LOCK_MUTEX) {
		mutex = mmn_driver_mutex(mirror->lock_arg);
		return mmn_driver_lock_is_held(&mutex);
	}
	if (!mirror->lock_ops.is_held)
		return true;
	return mirror->lock_ops.is_held(mirror->lock_arg);
}

/* What the subscription is to assert. */
static struct mmn_driver_lock driver_lock(const struct mmn_mirror *mirror)
{
	if (mirror->config.lock.kind == MMN_MIRROR_LOCK_MUTEX)
		return mmn_driver_mutex(mirror->lock_arg);
	if (!mirror->lock_ops.is_held)
		return mmn_driver_no_lock();
	return mmn_driver_predicate(mirror->lock_ops.is_held, mirror->lock_arg);
}

/* ------------------------------------------------------------------ */
/* Runs                                                               */
/* ------------------------------------------------------------------ */

static void chain_init(struct chain *chain)
{
	chain->first = NULL;
	chain->end = &chain->first;
}

static void chain_add(struct chain *chain, struct run *run)
{
	run->next = NULL;
	*chain->end = run;
	chain->end = &run->next;
}

static struct run *run_of(struct itree_node *node)
{
	return node ? container_of(node, struct run, node) : NULL;
}

static size_t run_bytes(uint32_t nr_pages)
{
	return sizeof(struct run) + nr_pages * sizeof(uint64_t);
}

static uint64_t page_count(const struct mmn_mirror *mirror, uintptr_t start,
			   uintptr_t last)
{
	return ((uint64_t)(last - start) >> mirror->page_shift) + 1;
}

static struct run *run_alloc(const struct mmn_mirror *mirror, uintptr_t start,
			     uintptr_t last)
{
	uint32_t nr_pages = (uint32_t)page_count(mirror, start, last);
	struct run *run = mmn_callback_zalloc(run_bytes(nr_pages));

	if (!run)
		return NULL;
	run->node.start = start;
	run->node.last = last;
	run->nr_pages = nr_pages;
	return run;
}

/* Second pass for dying runs, no lock held; @run is gone. */
static void chain_finish(struct run *run)
{
	struct mmn_mirror *mirror;
	struct run *next;

	for (; run; run = next) {
		next = run->next;
		mirror = run->counted;
		mmn_device_unmap_finish(run->map);
		mmn_callback_free(run);
		if (!mirror)
			continue;
		/*
		 * pair(mirror_dying): release, with the acquire in
		 * wait_for_dying().  Without it a change may be made while the
		 * device still uses the pages.
		 */
		if (mmn_fetch_sub_release(&mirror->nr_dying, 1) == 1)
			mmn_wake(&mirror->nr_dying, INT_MAX);
	}
}

/* Lock held; dropped and taken again while others wait for the device. */
static void wait_for_dying(struct mmn_mirror *mirror)
{
	uint32_t seen;

	for (;;) {
		/*
		 * pair(mirror_dying): acquire, with the release in
		 * chain_finish().  Without it the change may be made while the
		 * device still uses the pages.
		 */
		seen = mmn_load_acquire(&mirror->nr_dying);
		if (!seen)
			return;
		mirror->lock_ops.unlock(mirror->lock_arg);
		mmn_wait_on(&mirror->nr_dying, seen, NULL);
		mirror->lock_ops.lock(mirror->lock_arg);
	}
}

/* Runs that were never installed. */
static void chain_undo(const struct chain *chain)
{
	struct run *run;

	for (run = chain->first; run; run = run->next)
		mmn_device_unmap_begin(run->map);
	chain_finish(chain->first);
}

static void table_check(const struct mmn_mirror *mirror)
{
#if MMN_SELFCHECK
	const struct itree_node *node = itree_first(&mirror->tree);
	const struct itree_node *last = itree_last(&mirror->tree);

	/* M1, M2: the ends, since the whole would cost O(n) at each unlock */
	mmn_check(!node || node->start >= mirror->start);
	mmn_check(!last || last->last <= mirror->last);
	mmn_check(mirror->stats.runs == mirror->tree.nr);
	mmn_check(!mirror->tree.nr == !mirror->stats.pages);
#endif
}

static void table_insert(struct mmn_mirror *mirror, struct run *run)
{
	/* M1 */
	mmn_check(!itree_first_overlap(&mirror->tree, run->node.start,
				       run->node.last));
	run->next = NULL;
	run->node.birth = ++mirror->births;
	itree_insert(&mirror->tree, &run->node);
	mirror->stats.runs++;
	mirror->stats.pages += run->nr_pages;
	mirror->stats.table_bytes += run_bytes(run->nr_pages);
}

/*
 * First pass: take every run that overlaps [start, last] out of the table and
 * away from the device.  Lock held.  Returns pages taken.
 */
static uint64_t table_take(struct mmn_mirror *mirror, uintptr_t start,
			   uintptr_t last, struct chain *taken)
{
	uint64_t pages = 0;
	struct run *run;

	for (;;) {
		run = run_of(itree_first_overlap(&mirror->tree, start, last));
		if (!run)
			break;
		itree_remove(&mirror->tree, &run->node);
		mmn_device_unmap_begin(run->map);
		run->counted = mirror;
		/* relaxed: under the lock, which orders it */
		mmn_fetch_add_relaxed(&mirror->nr_dying, 1);
		chain_add(taken, run);
		mirror->stats.runs--;
		mirror->stats.pages -= run->nr_pages;
		mirror->stats.table_bytes -= run_bytes(run->nr_pages);
		pages += run->nr_pages;
	}
	table_check(mirror);
	return pages;
}

/* ------------------------------------------------------------------ */
/* Changes                                                            */
/* ------------------------------------------------------------------ */

static struct mmn_mirror *mirror_of_sub(struct mmn_range_subscription *sub)
{
	return container_of(sub, struct mmn_mirror, sub);
}

static bool refuse(struct mmn_mirror *mirror)
{
	/* relaxed: a statistic */
	mmn_fetch_add_relaxed(&mirror->refused, 1);
	return false;
}

/* Lock held, signals blocked. */
static struct run *tear_down(struct mmn_mirror *mirror,
			     const struct mmn_invalidate_desc *desc,
			     uint64_t cur_seq, uintptr_t start, uintptr_t last)
{
	const struct mmn_mirror_hooks *hooks = mirror->config.hooks;
	struct chain taken;
	struct run *run;

	mmn_range_set_seq(&mirror->sub, cur_seq);
	chain_init(&taken);
	mirror->stats.invalidations++;
	mirror->stats.invalidated_pages +=
		table_take(mirror, start, last, &taken);
	for (run = taken.first; run; run = run->next)
		mirror->stats.invalidated_runs++;
	if (hooks && hooks->torn_down)
		hooks->torn_down(mirror->config.hooks_arg, desc, start, last);
	return taken.first;
}

static bool invalidate_start(struct mmn_range_subscription *sub,
			     const struct mmn_invalidate_desc *desc,
			     uint64_t cur_seq,
			     struct mmn_range_finish **ret_finish)
{
	struct mmn_mirror *mirror = mirror_of_sub(sub);
	bool blockable = mmn_invalidate_is_blockable(desc);
	uintptr_t start = desc->start;
	uintptr_t last = desc->last;
	struct run *dying;

	if (start < mirror->start)
		start = mirror->start;
	if (last > mirror->last)
		last = mirror->last;
	if (blockable)
		mirror->lock_ops.lock(mirror->lock_arg);
	else if (!mirror->lock_ops.trylock(mirror->lock_arg))
		return refuse(mirror);
	/* relaxed: under the lock; what ends meanwhile is refused for nothing */
	if (!blockable && (mmn_load_relaxed(&mirror->nr_dying) ||
			   itree_first_overlap(&mirror->tree, start, last))) {
		mirror->lock_ops.unlock(mirror->lock_arg);
		return refuse(mirror);
	}
	/*
	 * Changes meet the mirrors of a state in one order, so that none waits
	 * here for one that waits for it.
	 */
	if (blockable)
		wait_for_dying(mirror);
	dying = tear_down(mirror, desc, cur_seq, start, last);
	mirror->lock_ops.unlock(mirror->lock_arg);
	MMN_PROBE(mirror_invalidate, mirror, start, last);
	if (dying)
		*ret_finish = &dying->finish;
	return true;
}

static void invalidate_finish(struct mmn_range_finish *finish)
{
	chain_finish(container_of(finish, struct run, finish));
}

static const struct mmn_range_ops range_ops = {
	.invalidate_start = invalidate_start,
	.invalidate_finish = invalidate_finish,
};

/* ------------------------------------------------------------------ */
/* Filling                                                            */
/* ------------------------------------------------------------------ */

/* One call of mmn_mirror_fill(). */
struct filling {
	struct mmn_mirror *mirror;
	struct mmn_pages *pages;
	struct mmn_mirror_fill *fill;
	/* CLOCK_MONOTONIC; UINT64_MAX for none */
	uint64_t deadline;
	/* one attempt: its sequence, its runs, what it left out */
	uint64_t seq;
	struct chain pending;
	uint64_t skipped;
	/* words of one grid cell, FILL_PRESENT only */
	uint64_t *scratch;
};

static bool fill_wants_present(const struct filling *f)
{
	return f->fill->flags & MMN_MIRROR_FILL_PRESENT;
}

static bool fill_is_late(const struct filling *f)
{
	return f->deadline != UINT64_MAX && mmn_now_ns() >= f->deadline;
}

static int fill_begin(struct filling *f)
{
	const struct mmn_range_subscription *sub = &f->mirror->sub;
	int err = 0;

	if (f->fill->budget_ns == MMN_MIRROR_NO_LIMIT)
		f->seq = mmn_range_read_begin(sub);
	else if (!f->fill->budget_ns)
		err = mmn_range_read_begin_try(sub, &f->seq);
	else
		err = mmn_range_read_begin_timed(sub, f->deadline, &f->seq);
	if (err == -EAGAIN)
		return -ETIMEDOUT;
	if (!err && !f->seq)
		return -ESTALE;
	return err;
}

/* Look at [start, last]; @words are outputs from *@ret_next down. */
static int look(struct filling *f, uintptr_t start, uintptr_t last,
		uint64_t *words, uint64_t request, uintptr_t *ret_next)
{
	struct mmn_range_fault fault = {
		.size = sizeof(fault),
		.flags = MMN_FAULT_SETTLE,
		.sub = &f->mirror->sub,
		.seq = f->seq,
		.start = start,
		.last = last,
		.words = words,
		.default_flags = request,
	};
	int err = mmn_range_fault(f->pages, &fault);

	*ret_next = fault.next;
	return err;
}

/*
 * After the device took hold: which frames does it hold?  What was writable
 * stays so; a page that is gone again makes the attempt worthless.
 */
static int look_after(struct filling *f, struct run *run)
{
	uintptr_t next;
	uint32_t i;
	int err;

	for (i = 0; i < run->nr_pages; i++)
		run->words[i] =
			run->words[i] & MMN_PFN_WRITE ? MMN_PFN_MARK1 : 0;
	err = look(f, run->node.start, run->node.last, run->words, 0, &next);
	if (err)
		return err;
	for (i = 0; i < run->nr_pages; i++) {
		if (!(run->words[i] & MMN_PFN_VALID))
			return -EBUSY;
		if (run->words[i] & MMN_PFN_MARK1)
			run->words[i] |= MMN_PFN_WRITE;
		run->words[i] &= ~MMN_PFN_MARK1;
	}
	return 0;
}

static void fill_skip(struct filling *f, uintptr_t start, uintptr_t last)
{
	f->skipped += page_count(f->mirror, start, last);
}

/* The words are there: let the device take hold. */
static int hold_run(struct filling *f, struct run *run)
{
	const struct mmn_mirror_config *config = &f->mirror->config;
	uint32_t i;
	int err;

	if (mmn_range_check_retry(&f->mirror->sub, f->seq))
		return -EBUSY;
	err = mmn_device_map(config->device, run->node.start, run->node.last,
			     config->access, &run->map);
	if (err)
		return err;
	if (config->flags & MMN_MIRROR_WORDS_AFTER)
		err = look_after(f, run);
	if (err) {
		mmn_device_unmap_begin(run->map);
		mmn_device_unmap_finish(run->map);
		return err;
	}
	for (i = 0; i < run->nr_pages; i++)
		run->words[i] |= MMN_PFN_DEVICE_MAPPED;
	chain_add(&f->pending, run);
	return 0;
}

/*
 * Fault in, look and hold [start, last].  When a page of it cannot be had,
 * *@ret_bad is that page, otherwise 0.
 */
static int fill_run(struct filling *f, uintptr_t start, uintptr_t last,
		    uintptr_t *ret_bad)
{
	uint64_t request = MMN_PFN_REQ_FAULT;
	struct run *run;
	int err;

	if (f->mirror->config.access & MMN_DEVICE_WRITE)
		request |= MMN_PFN_REQ_WRITE;
	run = run_alloc(f->mirror, start, last);
	if (!run)
		return -ENOMEM;
	*ret_bad = start;
	err = look(f, start, last, run->words, request, ret_bad);
	if (!err) {
		*ret_bad = 0;
		err = hold_run(f, run);
	}
	if (err)
		mmn_callback_free(run);
	return err;
}

/* FILL_PRESENT: hold what can be held of pages that are all there. */
static int fill_present_run(struct filling *f, uintptr_t start, uintptr_t last)
{
	uintptr_t page = (uintptr_t)1 << f->mirror->page_shift;
	uintptr_t bad;
	int err;

	for (;;) {
		err = fill_run(f, start, last, &bad);
		if (err != -EFAULT && err != -EPERM)
			return err;
		if (!bad) {
			/* the device cannot hold this kind of memory */
			fill_skip(f, start, last);
			return 0;
		}
		if (bad != start) {
			err = fill_present_run(f, start, bad - 1);
			if (err)
				return err;
		}
		fill_skip(f, bad, bad + page - 1);
		if (last - bad < page)
			return 0;
		start = bad + page;
	}
}

/* FILL_PRESENT: find what is there in a piece of a grid cell. */
static int fill_present(struct filling *f, uintptr_t start, uintptr_t last)
{
	uintptr_t page = (uintptr_t)1 << f->mirror->page_shift;
	uint64_t nr = page_count(f->mirror, start, last);
	uint64_t i, end;
	uintptr_t next;
	int err;

	err = look(f, start, last, f->scratch, 0, &next);
	for (i = 0; !err && i < nr; i = end) {
		bool there = f->scratch[i] & MMN_PFN_VALID;

		for (end = i + 1; end < nr; end++)
			if (!(f->scratch[end] & MMN_PFN_VALID) == there)
				break;
		if (there)
			err = fill_present_run(f, start + i * page,
					       start + end * page - 1);
		else
			f->skipped += end - i;
	}
	return err;
}

/*
 * The first piece of [*@start, *@last] that is not in the table; false when
 * there is none.
 */
static bool find_gap(struct mmn_mirror *mirror, uintptr_t *start,
		     uintptr_t *last)
{
	struct mmn_sigmask saved;
	struct run *run;
	bool found = true;

	table_lock(mirror, &saved);
	while ((run = run_of(
			itree_first_overlap(&mirror->tree, *start, *last)))) {
		if (run->node.start > *start) {
			*last = run->node.start - 1;
			break;
		}
		if (run->node.last >= *last) {
			found = false;
			break;
		}
		*start = run->node.last + 1;
	}
	table_unlock(mirror, &saved);
	return found;
}

/* One cell of the grid, or the part of it that was asked for. */
static int fill_cell(struct filling *f, uintptr_t start, uintptr_t last)
{
	uintptr_t gap, gap_last, bad;
	int err;

	for (;;) {
		gap = start;
		gap_last = last;
		if (!find_gap(f->mirror, &gap, &gap_last))
			return 0;
		if (fill_wants_present(f))
			err = fill_present(f, gap, gap_last);
		else
			err = fill_run(f, gap, gap_last, &bad);
		if (err || gap_last == last)
			return err;
		start = gap_last + 1;
	}
}

static int fill_cells(struct filling *f)
{
	const struct mmn_mirror *mirror = f->mirror;
	uintptr_t bytes = (uintptr_t)mirror->config.run_pages
			  << mirror->page_shift;
	uintptr_t start = f->fill->start;
	uintptr_t last, to_edge;
	int err;

	for (;;) {
		to_edge = bytes - 1 - (start - mirror->start) % bytes;
		last = f->fill->last;
		if (last - start > to_edge)
			last = start + to_edge;
		err = fill_cell(f, start, last);
		if (err || last == f->fill->last)
			return err;
		if (f->fill->budget_ns && fill_is_late(f))
			return -ETIMEDOUT;
		start = last + 1;
	}
}

static uint64_t pages_inside(const struct mmn_mirror *mirror, uintptr_t start,
			     uintptr_t last)
{
	struct itree_node *node;
	uint64_t pages = 0;

	itree_for_each_overlap (node, &mirror->tree, start, last)
		pages += page_count(mirror,
				    node->start < start ? start : node->start,
				    node->last > last ? last : node->last);
	return pages;
}

/*
 * Lock held.  Has somebody filled what we bring, or evicted what we found there?
 * Neither moves the sequence.
 */
static bool is_overtaken(const struct filling *f)
{
	const struct mmn_mirror_fill *fill = f->fill;
	const struct mmn_mirror *mirror = f->mirror;
	const struct run *run;
	uint64_t pages;

	pages = pages_inside(mirror, fill->start, fill->last);
	for (run = f->pending.first; run; run = run->next) {
		if (itree_first_overlap(&mirror->tree, run->node.start,
					run->node.last))
			return true;
		pages += run->nr_pages;
	}
	return !fill_wants_present(f) &&
	       pages != page_count(mirror, fill->start, fill->last);
}

/* Lock held. */
static void install(struct filling *f)
{
	struct mmn_mirror *mirror = f->mirror;
	struct mmn_mirror_fill *fill = f->fill;
	struct run *run, *next;

	fill->new_pages = 0;
	for (run = f->pending.first; run; run = next) {
		next = run->next;
		fill->new_pages += run->nr_pages;
		table_insert(mirror, run);
	}
	fill->pages = pages_inside(mirror, fill->start, fill->last);
	fill->skipped = f->skipped;
	mirror->stats.fills++;
	mirror->stats.filled_pages += fill->new_pages;
	table_check(mirror);
}

static void pause_before_install(const struct mmn_mirror *mirror)
{
	struct timespec ts = mmn_timespec(mirror->config.install_delay_ns);

	if (mirror->config.install_delay_ns)
		mmn_syscall4(__NR_clock_nanosleep, CLOCK_MONOTONIC, 0, &ts, 0);
	MMN_INJECT_PAUSE();
}

static int fill_attempt(struct filling *f)
{
	struct mmn_mirror *mirror = f->mirror;
	struct mmn_sigmask saved;
	int err;

	chain_init(&f->pending);
	f->skipped = 0;
	err = fill_begin(f);
	if (err)
		return err;
	err = fill_cells(f);
	if (!err) {
		pause_before_install(mirror);
		table_lock(mirror, &saved);
		if (mmn_range_read_retry(&mirror->sub, f->seq) ||
		    is_overtaken(f))
			err = -EBUSY;
		else
			install(f);
		table_unlock(mirror, &saved);
	}
	if (err)
		chain_undo(&f->pending);
	return err;
}

static int fill_loop(struct filling *f, uint64_t *ret_collisions)
{
	uint64_t collisions = 0;
	int err;

	for (;;) {
		err = fill_attempt(f);
		if (err != -EBUSY)
			break;
		collisions++;
		MMN_PROBE(mirror_collision, f->mirror, f->fill->start,
			  f->fill->last);
		if (fill_is_late(f)) {
			err = -ETIMEDOUT;
			break;
		}
	}
	*ret_collisions = collisions;
	return err;
}

static int check_fill(const struct mmn_mirror *mirror,
		      const struct mmn_mirror_fill *fill)
{
	uintptr_t in_page = ((uintptr_t)1 << mirror->page_shift) - 1;
	struct mmn_mirror_fill known;
	int err;

	err = config_copy(&known, sizeof(known), sizeof(known), fill,
			  fill->size);
	if (err)
		return err;
	if (fill->flags & ~MMN_MIRROR_FILL_PRESENT)
		return -EINVAL;
	if ((fill->start & in_page) || (fill->last & in_page) != in_page ||
	    fill->last < fill->start)
		return -EINVAL;
	if (fill->start < mirror->start || fill->last > mirror->last)
		return -EINVAL;
	return 0;
}

int mmn_mirror_fill(struct mmn_mirror *mirror, struct mmn_pages *pages,
		    struct mmn_mirror_fill *fill)
{
	struct filling f = { .mirror = mirror, .pages = pages, .fill = fill };
	struct mmn_sigmask saved;
	uint64_t collisions;
	uint64_t now;
	int err;

	if (!mirror || !pages || !fill)
		return -EINVAL;
	err = check_fill(mirror, fill);
	if (err)
		return err;
	if (!mirror_is_live(mirror))
		return -ESTALE;
	now = mmn_now_ns();
	f.deadline = fill->budget_ns > UINT64_MAX - now ? UINT64_MAX
							: now + fill->budget_ns;
	if (fill_wants_present(&f)) {
		f.scratch = mmn_callback_alloc(mirror->config.run_pages *
					       sizeof(f.scratch[0]));
		if (!f.scratch)
			return -ENOMEM;
	}
	err = fill_loop(&f, &collisions);
	mmn_callback_free(f.scratch);

	table_lock(mirror, &saved);
	mirror->stats.collisions += collisions;
	mirror->stats.timeouts += err == -ETIMEDOUT;
	table_unlock(mirror, &saved);
	if (!err)
		fill->collisions = collisions;
	return err;
}

int mmn_mirror_evict(struct mmn_mirror *mirror, uintptr_t start, uintptr_t last,
		     uint64_t *ret_pages)
{
	struct mmn_sigmask saved, outer;
	struct chain taken;
	uint64_t pages;

	if (last < start)
		return -EINVAL;
	if (!mirror_is_live(mirror))
		return -ESTALE;
	chain_init(&taken);
	/* To the end: a handler's change would wait for the runs we took. */
	mmn_signals_block(&outer);
	table_lock(mirror, &saved);
	pages = table_take(mirror, start, last, &taken);
	mirror->stats.evicted_pages += pages;
	table_unlock(mirror, &saved);
	chain_finish(taken.first);
	mmn_signals_restore(&outer);
	if (ret_pages)
		*ret_pages = pages;
	return 0;
}

/* ------------------------------------------------------------------ */
/* Looking up                                                         */
/* ------------------------------------------------------------------ */

/* In a fork child the lock may be held for ever by a thread that is not there. */
void mmn_mirror_access_begin(struct mmn_mirror *mirror,
			     struct mmn_mirror_access *access)
{
	struct mmn_sigmask saved;

	mmn_signals_block(&saved);
	access->mirror = mirror;
	access->private_[0] = saved.bits;
	access->private_[1] = mirror_is_live(mirror);
	if (access->private_[1])
		mirror->lock_ops.lock(mirror->lock_arg);
}

void mmn_mirror_access_end(struct mmn_mirror_access *access)
{
	struct mmn_sigmask saved = { access->private_[0] };
	struct mmn_mirror *mirror = access->mirror;

	if (access->private_[1])
		mirror->lock_ops.unlock(mirror->lock_arg);
	mmn_signals_restore(&saved);
}

static uint64_t word_index(const struct mmn_mirror *mirror,
			   const struct run *run, uintptr_t addr)
{
	return (addr - run->node.start) >> mirror->page_shift;
}

static int entry_at(const struct mmn_mirror *mirror, uintptr_t addr,
		    uintptr_t last, struct mmn_mirror_entry *ret_entry)
{
	const struct run *run;

	if (!mirror_is_live(mirror))
		return -ENOENT;
	mmn_bug_on(!table_is_locked(mirror),
		   "mirror looked up without its lock");
	run = run_of(itree_first_overlap(&mirror->tree, addr, last));
	if (!run)
		return -ENOENT;
	if (addr < run->node.start)
		addr = run->node.start;
	addr &= ~(((uintptr_t)1 << mirror->page_shift) - 1);
	*ret_entry = (struct mmn_mirror_entry){
		.start = run->node.start,
		.last = run->node.last,
		.map = run->map,
		.addr = addr,
		.word = run->words[word_index(mirror, run, addr)],
		.words = run->words,
	};
	return 0;
}

int mmn_mirror_lookup(struct mmn_mirror *mirror, uintptr_t addr,
		      struct mmn_mirror_entry *ret_entry)
{
	return entry_at(mirror, addr, addr, ret_entry);
}

int mmn_mirror_next(struct mmn_mirror *mirror, uintptr_t addr,
		    struct mmn_mirror_entry *ret_entry)
{
	return entry_at(mirror, addr, UINTPTR_MAX, ret_entry);
}

static bool may_write(const struct mmn_mirror *mirror,
		      const struct mmn_mirror_entry *entry, uintptr_t start,
		      uintptr_t last)
{
	uintptr_t i = (start - entry->start) >> mirror->page_shift;
	uintptr_t end = (last - entry->start) >> mirror->page_shift;

	for (; i <= end; i++)
		if (!(entry->words[i] & MMN_PFN_WRITE))
			return false;
	return true;
}

int mmn_mirror_submit_locked(struct mmn_mirror *mirror, uintptr_t addr,
			     struct mmn_device_transfer *transfer)
{
	struct mmn_mirror_entry entry;
	int err;

	err = mmn_mirror_lookup(mirror, addr, &entry);
	if (err)
		return err;
	if (!transfer->length)
		return -EINVAL;
	if (transfer->length - 1 > entry.last - addr)
		return -ERANGE;
	if ((transfer->access & MMN_DEVICE_WRITE) &&
	    !may_write(mirror, &entry, addr, addr + transfer->length - 1))
		return -EPERM;
	transfer->map = entry.map;
	transfer->offset = addr - entry.start;
	return mmn_device_submit(transfer);
}

int mmn_mirror_submit(struct mmn_mirror *mirror, uintptr_t addr,
		      struct mmn_device_transfer *transfer)
{
	struct mmn_mirror_access access;
	int err;

	mmn_mirror_access_begin(mirror, &access);
	err = mmn_mirror_submit_locked(mirror, addr, transfer);
	mmn_mirror_access_end(&access);
	return err;
}

int mmn_mirror_get_stats(struct mmn_mirror *mirror,
			 struct mmn_mirror_stats *stats)
{
	uint32_t size = stats->size;
	struct mmn_mirror_access access;
	struct mmn_mirror_stats known;

	if (size < sizeof(stats->size))
		return -EINVAL;
	mmn_mirror_access_begin(mirror, &access);
	known = mirror->stats;
	mmn_mirror_access_end(&access);
	/* relaxed: a statistic */
	known.refused = mmn_load_relaxed(&mirror->refused);
	known.size = size;
	memset(stats, 0, size);
	memcpy(stats, &known, size < sizeof(known) ? size : sizeof(known));
	return 0;
}

/* ------------------------------------------------------------------ */
/* Life                                                               */
/* ------------------------------------------------------------------ */

static int check_lock(const struct mmn_mirror_lock *lock)
{
	switch (lock->kind) {
	case MMN_MIRROR_LOCK_MANAGED:
		return lock->lock || lock->ops ? -EINVAL : 0;
	case MMN_MIRROR_LOCK_MUTEX:
		return !lock->lock || lock->ops ? -EINVAL : 0;
	case MMN_MIRROR_LOCK_OPS:
		if (!lock->ops || !lock->ops->lock || !lock->ops->unlock ||
		    !lock->ops->trylock)
			return -EINVAL;
		return 0;
	default:
		return -EINVAL;
	}
}

static int check_config(struct mmn_mirror_config *c,
			const struct mmn_mirror_config *config)
{
	int err;

	err = config_copy(c, sizeof(*c), sizeof(*c), config, config->size);
	if (err)
		return err;
	if ((c->flags & ~MMN_MIRROR_WORDS_AFTER) || !c->device)
		return -EINVAL;
	if (!c->access || (c->access & ~ACCESS_ALL))
		return -EINVAL;
	if (c->run_pages > RUN_PAGES_MAX)
		return -EINVAL;
	if (!c->run_pages)
		c->run_pages = RUN_PAGES_DEFAULT;
	return check_lock(&c->lock);
}

static void bind_lock(struct mmn_mirror *mirror)
{
	const struct mmn_mirror_lock *lock = &mirror->config.lock;

	mmn_mutex_init(&mirror->managed, MMN_RANK_DRIVER);
	mirror->lock_arg = lock->lock;
	switch (lock->kind) {
	case MMN_MIRROR_LOCK_MUTEX:
		mirror->lock_ops = mutex_ops;
		break;
	case MMN_MIRROR_LOCK_OPS:
		mirror->lock_ops = *lock->ops;
		break;
	default:
		mirror->lock_ops = managed_ops;
		mirror->lock_arg = &mirror->managed;
		break;
	}
}

static int subscribe(struct mmn_mirror *mirror, struct mmn_state *state)
{
	struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = &range_ops,
		.lock = driver_lock(mirror),
		.owner = mirror->config.owner,
	};
	int err;

	err = mmn_range_subscription_init(&mirror->sub, &config);
	if (err)
		return err;
	return mmn_range_subscription_insert(&mirror->sub, state, mirror->start,
					     mirror->last);
}

static void mirror_free(struct mmn_mirror *mirror)
{
	mmn_mutex_fini(&mirror->managed);
	free(mirror);
}

int mmn_mirror_create(struct mmn_state *state, uintptr_t start, uintptr_t last,
		      const struct mmn_mirror_config *config,
		      struct mmn_mirror **ret_mirror)
{
	uintptr_t in_page = mmn_page_size() - 1;
	struct mmn_mirror_config c;
	struct mmn_mirror *mirror;
	int err;

	if (!state || !config || !ret_mirror)
		return -EINVAL;
	err = check_config(&c, config);
	if (err)
		return err;
	if ((start & in_page) || (last & in_page) != in_page || last < start)
		return -EINVAL;

	/* a whole number of alignments, as aligned_alloc() wants it */
	mirror = aligned_alloc(_Alignof(struct mmn_mirror), sizeof(*mirror));
	if (!mirror)
		return -ENOMEM;
	memset(mirror, 0, sizeof(*mirror));
	mirror->config = c;
	mirror->start = start;
	mirror->last = last;
	mirror->page_shift = (uint32_t)__builtin_ctzl(mmn_page_size());
	mirror->generation = mmn_process_adopt();
	bind_lock(mirror);
	err = subscribe(mirror, state);
	if (err)
		mirror_free(mirror);
	else
		*ret_mirror = mirror;
	return err;
}

/* A fork child's copy: the maps and the device are the parent's. */
static void forget_copy(struct mmn_mirror *mirror)
{
	struct run *run;

	while ((run = run_of(itree_first(&mirror->tree)))) {
		itree_remove(&mirror->tree, &run->node);
		mmn_callback_free(run);
	}
}

void mmn_mirror_destroy(struct mmn_mirror *mirror)
{
	int err;

	if (!mirror)
		return;
	/* First what the device holds: after the removal nobody is told. */
	mmn_mirror_evict(mirror, 0, UINTPTR_MAX, NULL);
	err = mmn_range_subscription_remove(&mirror->sub);
	if (!mirror_is_live(mirror)) {
		forget_copy(mirror);
		mirror_free(mirror);
		return;
	}
	/* Reported by remove; the callback that we are in needs the mirror. */
	if (err == -EDEADLK)
		return;
	mirror_free(mirror);
}
