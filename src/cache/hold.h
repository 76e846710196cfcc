/* SPDX-License-Identifier: MIT */
#ifndef MMN_CACHE_HOLD_H
#define MMN_CACHE_HOLD_H
/*
 * References that do not share a line.
 *
 * Each thread counts the references it takes in a table of its own; only the
 * thread itself writes it.  A reference that is put by another thread, or for
 * which the table has no room, is counted in the region.  The number of
 * references is the sum, so a region's own count may be negative.
 *
 * The sum is taken by the worker when a grace period has passed since the region
 * was taken out of the index: since then every part of it only goes down.  It reads
 * the tables first and the region's count last: what an ending thread moves
 * from the first to the second is then counted once or twice, never not at all.
 *
 *	CPU0: put                            CPU1: the worker
 *
 *	rcu_read_lock()                      state is DYING, nr_dying > 0
 *	[W] count - 1                        grace period
 *	[R] nr_dying, state: DYING? kick     [R] counts
 *	rcu_read_unlock()
 *
 * Either the section was over before the grace period, and the worker sees the
 * count, or it began after DYING was written, and the put kicks.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/compiler.h"

struct region;

/*
 * A place: the address of the region, which is a multiple of 64, shifted up, and
 * the count below.  Free when the count is 0.
 */
#define HOLD_SHIFT 7
#define HOLD_COUNT ((UINT64_C(1) << (HOLD_SHIFT + 6)) - 1)
#define HOLD_BITS 6
#define NR_HOLDS (1u << HOLD_BITS)

/*
 * struct holder - what one thread holds
 *
 * Never freed: another thread takes it over when the first one has ended.
 */
struct holder {
	/* atomic: written by the thread that has it */
	uint64_t places[NR_HOLDS];
	/* const once it is on the list */
	struct holder *next;
	/* atomic: a thread has it */
	uint32_t taken;
} __attribute__((aligned(64)));

extern __thread struct holder *hold_mine
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

/* The first get of a thread; NULL when there is no memory. */
struct holder *hold_join(void);

/* Where the table has no room; put where it has no reference. */
void hold_shared(struct region *region);
void hold_put_shared(struct region *region);

/* All references; exact when they can only go down, else a hint. */
int64_t hold_sum(const struct region *region);

static inline uint32_t hold_home(const struct region *region)
{
	return (uint32_t)(((uint64_t)(uintptr_t)region *
			   UINT64_C(0x9e3779b97f4a7c15)) >>
			  (64 - HOLD_BITS));
}

static inline uint64_t hold_name(const struct region *region)
{
	return (uint64_t)(uintptr_t)region << HOLD_SHIFT;
}

/* In an RCU read section, or with the cache's lock held. */
static inline void hold_get(struct region *region)
{
	struct holder *holder = hold_mine;
	uint64_t name = hold_name(region);
	uint32_t home = hold_home(region);
	uint64_t *place;
	uint64_t value;

	if (unlikely(!holder)) {
		holder = hold_join();
		if (!holder) {
			hold_shared(region);
			return;
		}
	}
	/* relaxed: this thread's own; the grace period orders it for others */
	place = &holder->places[home];
	value = mmn_load_relaxed(place);
	if ((value & HOLD_COUNT) && (value & ~HOLD_COUNT) != name) {
		place = &holder->places[home ^ 1];
		value = mmn_load_relaxed(place);
	}
	if (!(value & HOLD_COUNT))
		value = name;
	else if ((value & ~HOLD_COUNT) != name ||
		 (value & HOLD_COUNT) == HOLD_COUNT) {
		hold_shared(region);
		return;
	}
	/*
	 * pair(cache_put): release, with the acquire in count_in().  Without it
	 * the worker that finds another region here does not see what was done
	 * with its own before it was put.
	 */
	mmn_store_release(place, value + 1);
}

/* In an RCU read section. */
static inline void hold_put(struct region *region)
{
	struct holder *holder = hold_mine;
	uint64_t name = hold_name(region);
	uint32_t home = hold_home(region);
	uint64_t *place;
	uint64_t value;

	if (unlikely(!holder)) {
		hold_put_shared(region);
		return;
	}
	/* relaxed: this thread's own */
	place = &holder->places[home];
	value = mmn_load_relaxed(place);
	if (unlikely(value - name - 1 >= HOLD_COUNT)) {
		place = &holder->places[home ^ 1];
		value = mmn_load_relaxed(place);
		if (value - name - 1 >= HOLD_COUNT) {
			hold_put_shared(region);
			return;
		}
	}
	/*
	 * pair(cache_put): release, with the acquire in count_in().  Without it
	 * the region is deregistered while its user still reads it.
	 */
	mmn_store_release(place, value - 1);
}

#endif
