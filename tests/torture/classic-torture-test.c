/* SPDX-License-Identifier: MIT */
/*
 * Classic subscribers under stress.
 *
 * Threads register and unregister their own subscribers, share others by get
 * and put, and open and end changes of every kind, all at random.  Each
 * subscriber keeps a list of the changes it was told the start of, and checks
 * what the contract promises:
 *
 *   - an end comes only for a change whose start it was told of and accepted,
 *     and once;
 *   - no callback comes before register, after unregister, or after the free;
 *   - release is called once, free once, and synchronize waits for it.
 *
 * T_TORTURE_SECONDS and T_TORTURE_SEED in the environment: longer, or again.
 */
#include "t/tap.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <mmn/inject.h>
#include <mmn/memory.h>
#include <mmn/notifier.h>

#include "base/atomic.h"

enum {
	CHANGERS = 3,
	REGISTRARS = 3,
	SHARERS = 2,
	THREADS = CHANGERS + REGISTRARS + SHARERS,
	/* Changes that one changer leaves for another to end. */
	PARKED = 6,
	/* More than can be open at once. */
	MAX_OPEN = PARKED + CHANGERS + 1,
	LIVE = 0x6c697665,
};

struct subscriber {
	struct mmn_subscription sub;
	pthread_mutex_t lock;
	/* lock */
	const struct mmn_invalidate_desc *open[MAX_OPEN];
	/* atomic: LIVE from before register to after unregister */
	uint32_t magic;
	/* atomic */
	uint32_t releases;
};

static struct world {
	struct mmn_state *state;
	/* atomic */
	uint32_t stop, next_thread;
	uint64_t seed;
	pthread_mutex_t parked_lock;
	struct mmn_invalidate_desc *parked[PARKED];
	/* atomic */
	uint32_t starts, ends, refused, registered, allocated, freed;
} world;

struct thread {
	uint64_t random;
};

static unsigned int below(struct thread *thread, unsigned int limit)
{
	thread->random ^= thread->random >> 12;
	thread->random ^= thread->random << 25;
	thread->random ^= thread->random >> 27;
	return (thread->random * UINT64_C(0x2545f4914f6cdd1d) >> 33) % limit;
}

static bool one_in(struct thread *thread, unsigned int n)
{
	return below(thread, n) == 0;
}

static void linger(struct thread *thread)
{
	unsigned int spins = below(thread, 64);

	if (one_in(thread, 3))
		sched_yield();
	while (spins--)
		mmn_cpu_relax();
}

static void count(uint32_t *counter)
{
	/* relaxed: looked at when the threads are joined */
	mmn_fetch_add_relaxed(counter, 1);
}

/* --- the subscribers ------------------------------------------------------ */

static struct subscriber *subscriber_of(struct mmn_subscription *sub)
{
	struct subscriber *subscriber = (struct subscriber *)sub;

	/* relaxed: a callback that comes too late is not ordered, but wrong */
	t_eq(mmn_load_relaxed(&subscriber->magic), LIVE);
	return subscriber;
}

/* Where @desc is in the list, or an empty place for NULL; lock held. */
static unsigned int find(struct subscriber *subscriber,
			 const struct mmn_invalidate_desc *desc)
{
	for (unsigned int i = 0; i < MAX_OPEN; i++)
		if (subscriber->open[i] == desc)
			return i;
	return MAX_OPEN;
}

static int told_start(struct mmn_subscription *sub,
		      const struct mmn_invalidate_desc *desc)
{
	struct subscriber *subscriber = subscriber_of(sub);
	unsigned int at;

	count(&world.starts);
	pthread_mutex_lock(&subscriber->lock);
	t_eq(find(subscriber, desc), MAX_OPEN);
	at = find(subscriber, NULL);
	t_lt(at, MAX_OPEN);
	subscriber->open[at] = desc;
	pthread_mutex_unlock(&subscriber->lock);
	return 0;
}

static void told_end(struct mmn_subscription *sub,
		     const struct mmn_invalidate_desc *desc)
{
	struct subscriber *subscriber = subscriber_of(sub);
	unsigned int at;

	count(&world.ends);
	pthread_mutex_lock(&subscriber->lock);
	at = find(subscriber, desc);
	t_lt(at, MAX_OPEN);
	subscriber->open[at] = NULL;
	pthread_mutex_unlock(&subscriber->lock);
}

/* Refuses one change in four that may not sleep. */
static int refuse_start(struct mmn_subscription *sub,
			const struct mmn_invalidate_desc *desc)
{
	subscriber_of(sub);
	if (mmn_invalidate_is_blockable(desc) || desc->start / 4096 % 4)
		return 0;
	return -EAGAIN;
}

static void released(struct mmn_subscription *sub, struct mmn_state *state)
{
	struct subscriber *subscriber = subscriber_of(sub);

	t_eq(state, world.state);
	count(&subscriber->releases);
	t_eq(subscriber->releases, 1);
}

static const struct mmn_subscription_ops telling_ops = {
	.release = released,
	.invalidate_range_start = told_start,
	.invalidate_range_end = told_end,
};

static const struct mmn_subscription_ops refusing_ops = {
	.release = released,
	.invalidate_range_start = refuse_start,
};

static void subscriber_init(struct subscriber *subscriber)
{
	memset(subscriber, 0, sizeof(*subscriber));
	pthread_mutex_init(&subscriber->lock, NULL);
	subscriber->magic = LIVE;
}

static int allocate(struct mmn_state *state, struct mmn_subscription **ret_sub)
{
	struct subscriber *subscriber = mmn_callback_alloc(sizeof(*subscriber));

	t_ne(subscriber, NULL);
	subscriber_init(subscriber);
	count(&world.allocated);
	*ret_sub = &subscriber->sub;
	return 0;
}

static void poison(struct subscriber *subscriber)
{
	/* A change may be open still: an unregistered one sees no end of it. */
	memset(subscriber, 0xa5, sizeof(*subscriber));
}

static void free_shared(struct mmn_subscription *sub)
{
	struct subscriber *subscriber = subscriber_of(sub);

	poison(subscriber);
	mmn_callback_free(subscriber);
	count(&world.freed);
}

static const struct mmn_subscription_ops shared_ops[2] = {
	{
		.invalidate_range_start = told_start,
		.invalidate_range_end = told_end,
		.alloc_subscription = allocate,
		.free_subscription = free_shared,
	},
	{
		.invalidate_range_start = refuse_start,
		.alloc_subscription = allocate,
		.free_subscription = free_shared,
	},
};

/* --- the threads ---------------------------------------------------------- */

static struct mmn_invalidate_desc *swap_parked(struct thread *thread,
					       struct mmn_invalidate_desc *desc)
{
	struct mmn_invalidate_desc **slot, *other;

	slot = &world.parked[below(thread, PARKED)];
	pthread_mutex_lock(&world.parked_lock);
	other = *slot;
	*slot = desc;
	pthread_mutex_unlock(&world.parked_lock);
	return other;
}

static void end(struct mmn_invalidate_desc *desc)
{
	if (!desc)
		return;
	t_err(mmn_invalidate_end(desc), 0);
	free(desc);
}

static void changer(struct thread *thread)
{
	struct mmn_invalidate_desc *desc = malloc(sizeof(*desc));
	uintptr_t page = below(thread, 64);
	int err;

	t_ne(desc, NULL);
	mmn_invalidate_desc_init(desc, world.state, MMN_EVENT_CLEAR,
				 page * 4096, page * 4096 + 4095);
	err = one_in(thread, 2) ? mmn_invalidate_start_nonblock(desc)
				: mmn_invalidate_start(desc);
	if (err) {
		t_err(err, -EAGAIN);
		count(&world.refused);
		free(desc);
		return;
	}
	linger(thread);
	end(one_in(thread, 4) ? swap_parked(thread, desc) : desc);
	/* Nobody who registers shall wait for ever. */
	end(swap_parked(thread, NULL));
}

static void registrar(struct thread *thread)
{
	struct subscriber subscriber;

	subscriber_init(&subscriber);
	subscriber.sub.ops = one_in(thread, 3) ? &refusing_ops : &telling_ops;
	t_err(mmn_subscription_register(&subscriber.sub, world.state), 0);
	count(&world.registered);
	for (unsigned int i = below(thread, 20); i; i--)
		linger(thread);
	t_err(mmn_subscription_unregister(&subscriber.sub), 0);
	t_eq(subscriber.releases, 1);
	t_err(mmn_subscription_unregister(&subscriber.sub), -ENOENT);
	poison(&subscriber);
}

static void sharer(struct thread *thread)
{
	struct mmn_subscription *sub[3];
	unsigned int nr = 1 + below(thread, 3);

	for (unsigned int i = 0; i < nr; i++)
		t_err(mmn_subscription_get(&shared_ops[below(thread, 2)],
					   world.state, &sub[i]),
		      0);
	linger(thread);
	while (nr--) {
		subscriber_of(sub[nr]);
		t_err(mmn_subscription_put(sub[nr]), 0);
	}
	if (one_in(thread, 8))
		t_err(mmn_subscription_synchronize(), 0);
}

static bool is_over(void)
{
	/* relaxed: a hint to finish */
	return mmn_load_relaxed(&world.stop);
}

static void *thread_main(void *arg)
{
	/* relaxed: a number for each */
	unsigned int number = mmn_fetch_add_relaxed(&world.next_thread, 1);
	struct thread thread = {
		.random = world.seed + number * UINT64_C(0x9e3779b97f4a7c15),
	};
	void (*run)(struct thread * thread);

	run = number < CHANGERS		       ? changer
	      : number < CHANGERS + REGISTRARS ? registrar
					       : sharer;
	while (!is_over())
		run(&thread);
	if (run == changer)
		for (int i = 0; i < 64 * PARKED; i++)
			end(swap_parked(&thread, NULL));
	return NULL;
}

static unsigned int seconds(void)
{
	const char *longer = getenv("T_TORTURE_SECONDS");

	return longer ? atoi(longer) : 2;
}

static void torture(void)
{
	struct timespec tick = { .tv_nsec = 10 * 1000 * 1000 };
	const char *seed = getenv("T_TORTURE_SEED");
	pthread_t thread[THREADS];

	t_may_keep_mapped(8u << 20, "memory for callbacks is kept");
	pthread_mutex_init(&world.parked_lock, NULL);
	world.seed = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
	world.seed |= 1;
	t_note("torture: seed %#llx, %u s", (unsigned long long)world.seed,
	       seconds());
	t_err(mmn_state_create(&world.state), 0);
	for (int i = 0; i < THREADS; i++)
		t_eq(pthread_create(&thread[i], NULL, thread_main, NULL), 0);
	for (unsigned int i = 0; i < seconds() * 100; i++)
		nanosleep(&tick, NULL);
	/* relaxed: a hint to finish */
	mmn_store_relaxed(&world.stop, 1);
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < PARKED; i++)
		end(world.parked[i]);
	t_err(mmn_subscription_synchronize(), 0);
	t_note("torture: %u starts, %u ends, %u refused, %u registered, "
	       "%u shared",
	       world.starts, world.ends, world.refused, world.registered,
	       world.allocated);
	t_eq(world.allocated, world.freed);
	t_gt(world.starts, 0);
	t_gt(world.ends, 0);
	t_gt(world.refused, 0);
	t_gt(world.registered, 0);
	t_gt(world.allocated, 0);
	t_ok(!mmn_state_has_subscriptions(world.state));
	mmn_state_put(world.state);
}

TEST(classic_subscribers_see_what_they_are_promised, .timeout = 24 * 3600)
{
	torture();
}

TEST(classic_subscribers_see_it_when_threads_are_held_up, .timeout = 24 * 3600)
{
	t_err(mmn_inject_set(MMN_INJECT_DELAY, 20, 1), 0);
	torture();
}
