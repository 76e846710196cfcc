/* SPDX-License-Identifier: MIT */
#include "cache/hold.h"

#include <pthread.h>

#include "base/arena.h"
#include "base/rcu.h"
#include "cache/cache.h"

__thread struct holder *hold_mine
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

/* atomic: every holder there is, newest first */
static struct holder *holders;

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_key;

static void kick_if_dying(struct region *region)
{
	/* relaxed: ordered by the grace period, see hold.h */
	if (mmn_load_relaxed(&region->state) == REGION_DYING)
		region_kick(region);
}

/* References that outlive the thread move to the region. */
static void move_place(uint64_t *place)
{
	uint64_t value = mmn_load_relaxed(place); /* relaxed: our own */
	struct region *region;

	if (!(value & HOLD_COUNT))
		return;
	region = (struct region *)(uintptr_t)((value & ~HOLD_COUNT) >>
					      HOLD_SHIFT);
	mmn_rcu_read_lock();
	/* relaxed: the release below orders it */
	mmn_fetch_add_relaxed(&region->shared, (int32_t)(value & HOLD_COUNT));
	/*
	 * pair(cache_put): release, with the acquire in count_in().  Without it
	 * the worker finds the references in neither place.
	 */
	mmn_store_release(place, 0);
	kick_if_dying(region);
	mmn_rcu_read_unlock();
}

static void leave(void *mine)
{
	struct holder *holder = mine;
	uint32_t i;

	hold_mine = NULL;
	for (i = 0; i < NR_HOLDS; i++)
		move_place(&holder->places[i]);
	/*
	 * pair(hold_taken): release, with the acquire in take_over().  Without
	 * it the next thread's counts mix with the last one's.
	 */
	mmn_store_release(&holder->taken, 0);
}

static void make_key(void)
{
	pthread_key_create(&thread_key, leave);
}

static struct holder *take_over(void)
{
	struct holder *holder;
	uint32_t taken;

	/*
	 * pair(hold_list): acquire, with the release in hold_join().  Without
	 * it a holder is followed before it is filled in.
	 */
	holder = mmn_load_acquire(&holders);
	for (; holder; holder = holder->next) {
		taken = 0;
		/*
		 * pair(hold_taken): acquire, with the release in leave().
		 * Without it the last owner's stores come after ours.
		 */
		if (mmn_cmpxchg_acquire(&holder->taken, &taken, 1))
			return holder;
	}
	return NULL;
}

struct holder *hold_join(void)
{
	struct holder *holder = take_over();
	uintptr_t block;

	if (!holder) {
		block = (uintptr_t)mmn_callback_zalloc(sizeof(*holder) + 64);
		if (!block)
			return NULL;
		holder = (struct holder *)((block + 63) & ~(uintptr_t)63);
		holder->taken = 1;
		holder->next =
			mmn_load_relaxed(&holders); /* relaxed: a guess */
		/*
		 * pair(hold_list): release, with the acquires in take_over()
		 * and hold_sum().  Without it the next one is not filled in.
		 */
		while (!mmn_cmpxchg_release(&holders, &holder->next, holder))
			;
	}
	pthread_once(&key_once, make_key);
	pthread_setspecific(thread_key, holder);
	hold_mine = holder;
	return holder;
}

void hold_shared(struct region *region)
{
	/* relaxed: the grace period, or the lock, orders it */
	mmn_fetch_add_relaxed(&region->shared, 1);
}

void hold_put_shared(struct region *region)
{
	/*
	 * pair(cache_put): release, with the acquire in hold_sum().  Without it
	 * the region is deregistered while its user still reads it.
	 */
	mmn_fetch_sub_release(&region->shared, 1);
}

static int64_t count_in(const uint64_t *place, uint64_t name)
{
	/*
	 * pair(cache_put): acquire, with the releases in hold_put() and
	 * move_place().  Without it the region is deregistered while its user
	 * still reads it, or moved references are not found.
	 */
	uint64_t value = mmn_load_acquire(place);

	return (value & ~HOLD_COUNT) == name ? (int64_t)(value & HOLD_COUNT)
					     : 0;
}

int64_t hold_sum(const struct region *region)
{
	uint64_t name = hold_name(region);
	uint32_t home = hold_home(region);
	struct holder *holder;
	int64_t sum = 0;

	/*
	 * pair(hold_list): acquire, with the release in hold_join().  Without it
	 * a holder is followed before it is filled in.
	 */
	holder = mmn_load_acquire(&holders);
	for (; holder; holder = holder->next) {
		sum += count_in(&holder->places[home], name);
		sum += count_in(&holder->places[home ^ 1], name);
	}
	/*
	 * pair(cache_put): acquire, with the release in hold_put_shared().
	 * Without it the region is deregistered while its user still reads it.
	 */
	return sum + mmn_load_acquire(&region->shared);
}
