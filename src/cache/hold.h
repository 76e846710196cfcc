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
 * Getting and putting are sections: between hold_enter() and hold_leave() the
 * thread's word says so.  hold_synchronize() waits until every section
 * that has begun is over, as a grace period of RCU does, and like that of
 * liburcu-memb it has the kernel put the barriers into the other threads.  It is
 * not RCU itself because the four calls cost as much as all the rest.
 *
 * The sum is taken by the worker when that has been waited for since the region
 * was taken out of the index: since then every part of it only goes down.  It reads
 * the tables first and the region's count last: what an ending thread moves
 * from the first to the second is then counted once or twice, never not at all.
 *
 *	CPU0: put                            CPU1: the worker
 *
 *	hold_enter()                         state is DYING, nr_dying > 0
 *	[W] count - 1                        hold_synchronize()
 *	[R] nr_dying, state: DYING? kick     [R] counts
 *	hold_leave()
 *
 * Either the section was over before the wait, and the worker sees the count, or
 * it began after DYING was written, and the put kicks.
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
/* The explorer has fewer. */
#ifndef HOLD_BITS
#define HOLD_BITS 6
#endif
#define NR_HOLDS (1u << HOLD_BITS)

/*
 * struct holder - what one thread holds
 *
 * Never freed: another thread takes it over when the first one has ended.
 */
struct holder {
	/* atomic: written by the thread that has it */
	uint64_t places[NR_HOLDS];
	/* atomic: written by the thread that has it; 1: getting or putting */
	uint32_t section;
	/* const once it is on the list */
	struct holder *next;
	/* atomic: a thread has it */
	uint32_t taken;
} __attribute__((aligned(64)));

extern __thread struct holder *hold_mine
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

/* atomic: the kernel has no barriers for others, everybody makes their own */
extern uint32_t hold_own_barriers __attribute__((visibility("hidden")));

/*
 * Of two threads that have each stored something and then called this, one sees
 * what the other has stored.
 */
void hold_barrier(void);

/* Before the first section of this process. */
void hold_init(void);

/* The first section of a thread; NULL when there is no memory. */
struct holder *hold_join(void);

/* Wait until every section that has begun is over. */
void hold_synchronize(void);

/* Put by a thread that has no table. */
void hold_put_shared(struct region *region);

/* All references; never too few when they can only go down, else a hint. */
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

/* Sections do not nest, and nothing in them waits. */
static inline void hold_enter(struct holder *holder)
{
	/* relaxed, and a barrier of the compiler: hold_synchronize() has ours */
	mmn_store_relaxed(&holder->section, 1);
	mmn_barrier();
	/* relaxed: constant since before the first section */
	if (unlikely(mmn_load_relaxed(&hold_own_barriers)))
		hold_barrier();
}

/*
 * The same without a call, so that a hit needs no stack: false where this thread
 * has to make the barrier itself.
 */
static inline bool hold_enter_fast(struct holder *holder)
{
	/* relaxed: constant since before the first section */
	if (unlikely(mmn_load_relaxed(&hold_own_barriers)))
		return false;
	/* relaxed, and a barrier of the compiler: hold_synchronize() has ours */
	mmn_store_relaxed(&holder->section, 1);
	mmn_barrier();
	return true;
}

static inline void hold_leave(struct holder *holder)
{
	/*
	 * pair(hold_section): release, with the acquire in wait_for_section().
	 * Without it the worker misses a reference that was taken inside.
	 */
	mmn_store_release(&holder->section, 0);
}

static inline void hold_set(uint64_t *place, uint64_t value)
{
	/*
	 * pair(cache_put): release, with the acquire in count_in().  Without it
	 * the region is deregistered while its user still reads it; also the
	 * worker that finds another region here must see what was done with its
	 * own before it was put.
	 */
	mmn_store_release(place, value);
}

/* The first place only; false when it is somebody else's.  In a section. */
static inline bool hold_get_fast(struct holder *holder, struct region *region)
{
	uint64_t name = hold_name(region);
	uint64_t *place = &holder->places[hold_home(region)];
	uint64_t value = mmn_load_relaxed(place); /* relaxed: this thread's */

	if (!(value & HOLD_COUNT))
		value = name;
	else if (unlikely(value - name >= HOLD_COUNT))
		return false;
	hold_set(place, value + 1);
	return true;
}

/* Likewise: false when the reference is counted elsewhere. */
static inline bool hold_put_fast(struct holder *holder, struct region *region)
{
	uint64_t *place = &holder->places[hold_home(region)];
	uint64_t value = mmn_load_relaxed(place); /* relaxed: this thread's */

	if (unlikely(value - hold_name(region) - 1 >= HOLD_COUNT))
		return false;
	hold_set(place, value - 1);
	return true;
}

/* In a section, or with the cache's lock held. */
void hold_get(struct holder *holder, struct region *region);

/* In a section. */
void hold_put(struct holder *holder, struct region *region);

#endif
