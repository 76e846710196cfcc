/* SPDX-License-Identifier: MIT */
#include "cache/hold.h"

#include <linux/membarrier.h>
#include <pthread.h>

#include "base/arena.h"
#include "base/process.h"
#include "base/rcu.h"
#include "base/syscall.h"
#include "base/wait.h"
#include "cache/cache.h"

__thread struct holder *hold_mine
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

/* atomic: every holder there is, newest first */
static struct holder *holders;

uint32_t hold_own_barriers;

/* atomic: the process that the sections belong to; see base/process.h */
static uint32_t generation;

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_key;

static void kick_if_dying(struct region *region)
{
	/* relaxed: ordered by the grace period, see hold.h */
	if (mmn_load_relaxed(&region->state) == REGION_DYING)
		region_kick_soon(region);
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
	/* relaxed: the release below orders it */
	mmn_fetch_add_relaxed(&region->shared, (int32_t)(value & HOLD_COUNT));
	/*
	 * pair(cache_put): release, with the acquire in count_in().  Without it
	 * the worker finds the references in neither place.
	 */
	mmn_store_release(place, 0);
	kick_if_dying(region);
}

static void leave(void *mine)
{
	struct holder *holder = mine;
	uint32_t i;

	hold_enter(holder);
	for (i = 0; i < NR_HOLDS; i++)
		move_place(&holder->places[i]);
	hold_leave(holder);
	hold_mine = NULL;
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

#define BEING_RESET UINT32_MAX

/*
 * In a fork child: whose copies of sections and owners are those of threads that
 * are not there.  Nothing of this process is inside yet.
 */
static void reset_holders(void)
{
	/* relaxed: what is there was there before the fork */
	struct holder *holder = mmn_load_relaxed(&holders);

	for (; holder; holder = holder->next)
		/* relaxed: the release in hold_init() orders it */
		mmn_store_relaxed(&holder->section, 0);
}

void hold_init(void)
{
	uint32_t now = mmn_process_adopt();
	uint32_t seen = mmn_load_relaxed(&generation); /* relaxed: a guess */

	if (seen != now && seen != BEING_RESET &&
	    mmn_cmpxchg_relaxed(&generation, &seen, BEING_RESET)) {
		reset_holders();
		if (mmn_syscall3(__NR_membarrier,
				 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0,
				 0))
			/* relaxed: before the first section */
			mmn_store_relaxed(&hold_own_barriers, 1);
		/*
		 * pair(hold_generation): release, with the acquire below in
		 * hold_init().  Without it another thread's section is reset.
		 */
		mmn_store_release(&generation, now);
	}
	/*
	 * pair(hold_generation): acquire, with the release above in hold_init().
	 * Without it this thread's section is reset.
	 */
	while (mmn_load_acquire(&generation) != now)
		mmn_cpu_relax();
}

/* Once outside is enough: a section that it begins later is not waited for. */
static void wait_for_section(const struct holder *holder)
{
	uint32_t turn = 0;

	/*
	 * pair(hold_section): acquire, with the release in hold_leave().
	 * Without it the worker misses a reference that was taken inside.
	 */
	while (mmn_load_acquire(&holder->section))
		mmn_give_way(turn++);
}

void hold_barrier(void)
{
	/* atomic: the value is of no matter */
	static uint32_t turn;

	/*
	 * pair(hold_barrier): release and acquire, with itself in another
	 * hold_barrier().  Without it neither thread sees what the other has
	 * stored: the worker no section, the section no DYING.
	 */
	mmn_fetch_or_acq_rel(&turn, 0);
}

void hold_synchronize(void)
{
	struct holder *holder;

	/* Also where threads have no table, and where fences come in. */
	mmn_rcu_synchronize();
	hold_barrier();
	/* And, without their doing, one in every other thread. */
	mmn_syscall3(__NR_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	/*
	 * pair(hold_list): acquire, with the release in hold_join().  Without
	 * it a holder is followed before it is filled in.
	 */
	for (holder = mmn_load_acquire(&holders); holder; holder = holder->next)
		wait_for_section(holder);
}

/* Which of the two places may count @region; NULL for none. */
static uint64_t *place_for(struct holder *holder, struct region *region)
{
	uint64_t name = hold_name(region);
	uint32_t home = hold_home(region), i;
	uint64_t *place;
	uint64_t value;

	for (i = 0; i < 2; i++) {
		place = &holder->places[home ^ i];
		value = mmn_load_relaxed(place); /* relaxed: this thread's */
		if (!(value & HOLD_COUNT) || value - name < HOLD_COUNT)
			return place;
	}
	return NULL;
}

void hold_get(struct holder *holder, struct region *region)
{
	uint64_t *place = place_for(holder, region);
	uint64_t value;

	if (!place) {
		/* relaxed: the end of the section, or the lock, orders it */
		mmn_fetch_add_relaxed(&region->shared, 1);
		return;
	}
	value = mmn_load_relaxed(place); /* relaxed: this thread's */
	hold_set(place, value & HOLD_COUNT ? value + 1 : hold_name(region) + 1);
}

void hold_put(struct holder *holder, struct region *region)
{
	uint32_t home = hold_home(region), i;
	uint64_t *place;
	uint64_t value;

	for (i = 0; i < 2; i++) {
		place = &holder->places[home ^ i];
		value = mmn_load_relaxed(place); /* relaxed: this thread's */
		if (value - hold_name(region) - 1 < HOLD_COUNT) {
			hold_set(place, value - 1);
			return;
		}
	}
	hold_put_shared(region);
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
