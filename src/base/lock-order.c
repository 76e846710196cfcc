/* SPDX-License-Identifier: MIT */
#include "base/lock-order.h"

#include "base/bug.h"
#include "base/lock.h"
#include "base/text.h"

#if MMN_SELFCHECK

/*
 * Pairs of places that were reported already, so that a loop reports once.
 * Entries are claimed for ever; when all are in use nothing more is reported,
 * which is plenty for a person to begin with.
 */
#define NR_REPORTED 64
static uint64_t reported_pairs[NR_REPORTED];

/* Kinds of locks that are known; further ones are not judged. */
#define NR_KNOWN 128

/* What is known about one kind; a place of 0 is not known. */
struct known {
	const void *kind;
	struct mmn_place held_across_wait;
	struct mmn_place taken_on_the_way;
	bool reported;
};

/* Guards known[]; nothing is taken inside. */
static struct mmn_mutex known_lock = MMN_MUTEX_INIT(MMN_RANK_LEAF);
/* Filled from the front. */
static struct known known[NR_KNOWN];

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ (hash >> 29);
}

static uint64_t hash_pair(struct mmn_place a, struct mmn_place b)
{
	uint64_t hash = mix((uintptr_t)a.file, a.line);

	return mix(mix(hash, (uintptr_t)b.file), b.line) | 1;
}

bool mmn_order_is_news(struct mmn_place a, struct mmn_place b)
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

static void add_place(struct mmn_text *text, struct mmn_place place)
{
	if (place.file)
		mmn_text_add_place(text, place.file, (uint32_t)place.line);
	else
		mmn_text_add_address(text, place.line);
}

static void add_rank(struct mmn_text *text, uint32_t rank)
{
	if (!rank)
		return;
	mmn_text_add(text, " (rank ");
	mmn_text_add_number(text, rank);
	mmn_text_add(text, ")");
}

static void report_two_places(const char *what, const struct mmn_site *new,
			      uint32_t new_rank,
			      const struct mmn_held_lock *old)
{
	struct mmn_text text;

	if (!mmn_order_is_news(old->place, mmn_place(new)))
		return;
	mmn_text_init(&text);
	mmn_text_add(&text, what);
	mmn_text_add(&text, ": at ");
	add_place(&text, mmn_place(new));
	add_rank(&text, new_rank);
	mmn_text_add(&text, " while holding the one taken at ");
	add_place(&text, old->place);
	add_rank(&text, old->rank);
	mmn_bug_report(new->file, new->line, new->function, text.buffer);
}

static void report_here(const char *text, const struct mmn_site *site)
{
	mmn_bug_report(site->file, site->line, site->function, text);
}

static void check_against(const struct mmn_held_lock *new,
			  const struct mmn_held_lock *held,
			  const struct mmn_site *site)
{
	/* Locks that are taken together have one entry, and no order. */
	bool together = new->rank == MMN_RANK_RESERVATION &&
			held->rank == MMN_RANK_RESERVATION;

	if (together) {
		if (held->lock != new->lock && held->kind == new->kind)
			report_two_places(
				"locks of one class are taken with two contexts, or none",
				site, new->rank, held);
	} else if (held->lock == new->lock) {
		report_two_places("a lock is taken twice", site, new->rank,
				  held);
	} else if (held->rank >= new->rank) {
		report_two_places("lock order", site, new->rank, held);
	}
}

static struct known *find_known(const void *kind)
{
	int i;

	for (i = 0; i < NR_KNOWN; i++) {
		if (!known[i].kind)
			known[i].kind = kind;
		if (known[i].kind == kind)
			return &known[i];
	}
	return NULL;
}

static void report_known(const struct known *it, const struct mmn_site *site)
{
	struct mmn_text text;

	mmn_text_init(&text);
	mmn_text_add(&text, "a lock taken on the way to a signal at ");
	add_place(&text, it->taken_on_the_way);
	mmn_text_add(&text, " is held across a wait, taken at ");
	add_place(&text, it->held_across_wait);
	report_here(text.buffer, site);
}

/* True, with what is known in *@ret_it, when both sides are so for the first time. */
static bool add_known(const struct mmn_held_lock *held, bool on_the_way,
		      struct known *ret_it)
{
	struct known *it = find_known(held->kind);
	struct mmn_place *place;

	if (!it || it->reported)
		return false;
	place = on_the_way ? &it->taken_on_the_way : &it->held_across_wait;
	if (!place->line)
		*place = held->place;
	it->reported = it->taken_on_the_way.line && it->held_across_wait.line;
	*ret_it = *it;
	return it->reported;
}

static void learn(const struct mmn_held_lock *held, bool on_the_way,
		  const struct mmn_site *site)
{
	struct mmn_sigmask saved;
	struct known both;
	bool news;

	if (!held->kind)
		return;
	mmn_signals_block(&saved);
	mmn_mutex_lock(&known_lock);
	news = add_known(held, on_the_way, &both);
	mmn_mutex_unlock(&known_lock);
	mmn_signals_restore(&saved);
	if (news)
		report_known(&both, site);
}

void mmn_order_taking(const struct mmn_held_lock *lock,
		      const struct mmn_site *site)
{
	const struct mmn_context *context = &mmn_context;
	uint32_t i;

	for (i = 0; lock->rank && i < context->nr_held; i++)
		check_against(lock, &context->held[i], site);
	if (context->signalling)
		learn(lock, true, site);
}

static struct mmn_held_lock *find_held(const void *lock)
{
	struct mmn_context *context = &mmn_context;
	uint32_t i;

	for (i = context->nr_held; i > 0; i--)
		if (context->held[i - 1].lock == lock)
			return &context->held[i - 1];
	return NULL;
}

void mmn_order_taken(const struct mmn_held_lock *lock,
		     const struct mmn_site *site)
{
	struct mmn_context *context = &mmn_context;
	struct mmn_held_lock *held = find_held(lock->lock);
	uint32_t i = context->nr_held;

	if (held) {
		held->count++;
		return;
	}
	if (i == MMN_MAX_HELD_LOCKS) {
		if (lock->rank)
			report_here("too many locks are held at once", site);
		return;
	}
	context->held[i] = *lock;
	context->held[i].count = 1;
	/* A signal handler must find a complete entry or none. */
	mmn_barrier();
	context->nr_held = i + 1;
}

void mmn_order_released(const void *lock)
{
	struct mmn_context *context = &mmn_context;
	struct mmn_held_lock *held = find_held(lock);

	if (!held || --held->count)
		return;
	for (held++; held < &context->held[context->nr_held]; held++)
		held[-1] = *held;
	mmn_barrier();
	context->nr_held--;
}

void mmn_order_sleeping(const struct mmn_site *site)
{
	const struct mmn_context *context = &mmn_context;
	uint32_t i;

	if (mmn_context_in_nonblocking_callback())
		report_here("sleeps in a callback that must not", site);
	for (i = 0; i < context->nr_held; i++)
		if (context->held[i].rank >= MMN_RANK_SHORT)
			report_two_places("sleeps with a short lock held", site,
					  0, &context->held[i]);
}

void mmn_order_waiting(const struct mmn_site *site)
{
	const struct mmn_context *context = &mmn_context;
	uint32_t i;

	mmn_order_sleeping(site);
	if (context->signalling)
		report_here("waits on the way to a signal", site);
	for (i = 0; i < context->nr_held; i++)
		learn(&context->held[i], false, site);
}

#endif
