/* SPDX-License-Identifier: MIT */
#include "base/lock.h"

#include "base/bug.h"
#include "base/text.h"

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

/*
 * Pairs of places that were reported already, so that a loop reports once.
 * Entries are claimed for ever; when all are in use nothing more is reported,
 * which is plenty for a person to begin with.
 */
#define NR_REPORTED 64
static uint64_t reported_pairs[NR_REPORTED];

static uint64_t hash_pair(const struct mmn_site *a, const struct mmn_site *b)
{
	uint64_t hash = (uintptr_t)a * UINT64_C(0x9e3779b97f4a7c15);

	hash ^= hash >> 32;
	hash += (uintptr_t)b;
	hash *= UINT64_C(0xbf58476d1ce4e5b9);
	hash ^= hash >> 29;
	return hash | 1;
}

static bool report_first_time(const struct mmn_site *a,
			      const struct mmn_site *b)
{
	uint64_t hash = hash_pair(a, b);
	uint32_t i;

	for (i = 0; i < NR_REPORTED; i++) {
		uint64_t found = 0;

		/* relaxed: the word says all, it guards no other data */
		if (mmn_cmpxchg_relaxed(&reported_pairs[i], &found, hash))
			return true;
		if (found == hash)
			return false;
	}
	return false;
}

static void report_two_places(const char *what, const struct mmn_site *new,
			      uint32_t new_rank,
			      const struct mmn_held_lock *old)
{
	struct mmn_text text;

	if (!report_first_time(old->site, new))
		return;
	mmn_text_init(&text);
	mmn_text_add(&text, what);
	mmn_text_add(&text, ": at ");
	mmn_text_add_place(&text, new->file, new->line);
	if (new_rank) {
		mmn_text_add(&text, " (rank ");
		mmn_text_add_number(&text, new_rank);
		mmn_text_add(&text, ")");
	}
	mmn_text_add(&text, " while holding the one taken at ");
	mmn_text_add_place(&text, old->site->file, old->site->line);
	mmn_text_add(&text, " (rank ");
	mmn_text_add_number(&text, old->lock->rank);
	mmn_text_add(&text, ")");
	mmn_bug_report(new->file, new->line, new->function, text.buffer);
}

static void report_here(const char *text, const struct mmn_site *site)
{
	mmn_bug_report(site->file, site->line, site->function, text);
}

static void check_order(const struct mmn_mutex *m, const struct mmn_site *site)
{
	const struct mmn_context *context = &mmn_context;
	uint32_t i;

	for (i = 0; i < context->nr_held; i++) {
		const struct mmn_held_lock *held = &context->held[i];

		if (held->lock == m)
			report_two_places("a lock is taken twice", site,
					  m->rank, held);
		else if (held->lock->rank >= m->rank)
			report_two_places("lock order", site, m->rank, held);
	}
	if (m->rank < MMN_RANK_SHORT && mmn_context_in_nonblocking_callback())
		report_here("a blocking lock in a callback that must not sleep",
			    site);
}

static void push_held(struct mmn_mutex *m, const struct mmn_site *site)
{
	struct mmn_context *context = &mmn_context;
	uint32_t i = context->nr_held;

	/* relaxed: read by others only to compare with themselves */
	mmn_store_relaxed(&m->owner, mmn_context_self());
	if (i == MMN_MAX_HELD_LOCKS) {
		report_here("too many locks are held at once", site);
		return;
	}
	context->held[i].lock = m;
	context->held[i].site = site;
	/* A signal handler must find a complete entry or none. */
	mmn_barrier();
	context->nr_held = i + 1;
}

static void pop_held(struct mmn_mutex *m)
{
	struct mmn_context *context = &mmn_context;
	uint32_t i;

	/* relaxed: as in push_held() */
	mmn_store_relaxed(&m->owner, NULL);
	for (i = context->nr_held; i > 0; i--)
		if (context->held[i - 1].lock == m)
			break;
	if (!i)
		return;
	for (; i < context->nr_held; i++)
		context->held[i - 1] = context->held[i];
	mmn_barrier();
	context->nr_held--;
}

void mmn_mutex_lock_at(struct mmn_mutex *m,
		       const struct mmn_site *site) MMN_NO_LOCK_ANALYSIS
{
	check_order(m, site);
	pthread_mutex_lock(&m->mutex);
	push_held(m, site);
}

/* No order to check: who does not wait cannot deadlock. */
bool mmn_mutex_trylock_at(struct mmn_mutex *m,
			  const struct mmn_site *site) MMN_NO_LOCK_ANALYSIS
{
	if (pthread_mutex_trylock(&m->mutex))
		return false;
	push_held(m, site);
	return true;
}

void mmn_mutex_unlock(struct mmn_mutex *m) MMN_NO_LOCK_ANALYSIS
{
	if (!mmn_mutex_is_held(m)) {
		mmn_bug("a lock is released by a thread that does not hold it");
		return;
	}
	pop_held(m);
	pthread_mutex_unlock(&m->mutex);
}

bool mmn_mutex_is_held(const struct mmn_mutex *m)
{
	/* relaxed: equal to our own name only if we stored it ourselves */
	return mmn_load_relaxed(&m->owner) == mmn_context_self();
}

void mmn_might_sleep_at(const struct mmn_site *site)
{
	const struct mmn_context *context = &mmn_context;
	uint32_t i;

	if (mmn_context_in_nonblocking_callback())
		report_here("sleeps in a callback that must not", site);
	for (i = 0; i < context->nr_held; i++)
		if (context->held[i].lock->rank >= MMN_RANK_SHORT)
			report_two_places("sleeps with a short lock held", site,
					  0, &context->held[i]);
}

#endif
