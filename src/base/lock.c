/* SPDX-License-Identifier: MIT */
#include "base/lock.h"

#include "base/bug.h"
#include "base/lock-order.h"

void mmn_mutex_init(struct mmn_mutex *m, enum mmn_lock_rank rank)
{
	pthread_mutex_init(&m->mutex, NULL);
	m->rank = rank;
#if MMN_SELFCHECK
	m->owner = NULL;
#endif
}

void mmn_mutex_fini(struct mmn_mutex *m)
{
	mmn_bug_on(mmn_mutex_is_held(m), "a lock is destroyed while held");
	pthread_mutex_destroy(&m->mutex);
}

#if MMN_SELFCHECK

static struct mmn_held_lock held_lock(const struct mmn_mutex *m,
				      const struct mmn_site *site)
{
	return (struct mmn_held_lock){
		.lock = m,
		/* Short locks are never held across a wait. */
		.kind = m->rank < MMN_RANK_SHORT
				? (const void *)(uintptr_t)m->rank
				: NULL,
		.place = mmn_place(site),
		.rank = m->rank,
	};
}

static void note_taken(struct mmn_mutex *m, const struct mmn_held_lock *held,
		       const struct mmn_site *site)
{
	/* relaxed: read by others only to compare with themselves */
	mmn_store_relaxed(&m->owner, mmn_context_self());
	mmn_order_taken(held, site);
}

void mmn_mutex_lock_at(struct mmn_mutex *m,
		       const struct mmn_site *site) MMN_NO_LOCK_ANALYSIS
{
	struct mmn_held_lock held = held_lock(m, site);

	mmn_order_taking(&held, site);
	if (m->rank < MMN_RANK_SHORT && mmn_context_in_nonblocking_callback())
		mmn_bug_report(
			site->file, site->line, site->function,
			"a blocking lock in a callback that must not sleep");
	pthread_mutex_lock(&m->mutex);
	note_taken(m, &held, site);
}

/* No order to check: who does not wait cannot deadlock. */
bool mmn_mutex_trylock_at(struct mmn_mutex *m,
			  const struct mmn_site *site) MMN_NO_LOCK_ANALYSIS
{
	struct mmn_held_lock held = held_lock(m, site);

	if (pthread_mutex_trylock(&m->mutex))
		return false;
	note_taken(m, &held, site);
	return true;
}

void mmn_mutex_unlock(struct mmn_mutex *m) MMN_NO_LOCK_ANALYSIS
{
	if (!mmn_mutex_is_held(m)) {
		mmn_bug("a lock is released by a thread that does not hold it");
		return;
	}
	/* relaxed: as in note_taken() */
	mmn_store_relaxed(&m->owner, NULL);
	mmn_order_released(m);
	pthread_mutex_unlock(&m->mutex);
}

bool mmn_mutex_is_held(const struct mmn_mutex *m)
{
	/* relaxed: equal to our own name only if we stored it ourselves */
	return mmn_load_relaxed(&m->owner) == mmn_context_self();
}

#endif
