/* SPDX-License-Identifier: MIT */
#ifndef MMN_FENCE_FENCE_H
#define MMN_FENCE_FENCE_H
/*
 * The inside of fences.
 *
 * One word, dma_fence.flags, says everything.  Whoever signals sets SIGNALED in
 * it with one atomic operation, and the value it replaced tells what is left to
 * do:
 *
 *	SLEEPER		somebody sleeps on the word: wake
 *	CALLBACK	there are callbacks: run them
 *	ENABLING	the enable op is running: wait for it
 *	none		nothing: no lock, no system call
 *
 * They are set only while SIGNALED is not, in the same word, so that no barrier
 * between two words is needed.  But for SLEEPER: who waits for the end of the enable
 * op, or for the time of the signal, sets it later and is woken by who brings that.
 *
 *	CPU0: adds a callback              CPU1: signals
 *
 *	lock the list
 *	old = fetch_or(CALLBACK)
 *	                                   old = fetch_or(SIGNALED)
 *	old has SIGNALED: refuse           old has CALLBACK:
 *	otherwise: append                    lock the list (waits for CPU0)
 *	unlock                               run what is there
 *
 * Of the two fetch_or() one is first; if it is CPU0's, CPU1 finds the callback.
 *
 * The list has a lock of its own, inside the fence.  dma_fence.lock may belong to
 * a producer that leaves a grace period after the signal: it is taken to call the
 * enable op, in a read section that has seen the fence pending, and never else.
 *
 * Life of a fence: INITIALIZED -> (ENABLE_SIGNAL) -> SIGNALED -> TIMESTAMP ->
 * refcount 0 -> freed after a grace period.  Invariants:
 *
 * F1  SIGNALED, TIMESTAMP and ENABLE_SIGNAL are never taken back in one life.
 * F2  who sets SIGNALED runs the callbacks, each once, in the order of adding.
 * F3  while the list is not empty CALLBACK is set, or SIGNALED is and who set it
 *     saw CALLBACK.
 * F4  stage.live.run is not NULL exactly while somebody works off the list.
 * F5  on the queue of a thread a fence has a reference more.
 */
#include <mmn/dma-fence.h>

#include "base/atomic.h"
#include "base/bug.h"
#include "base/compiler.h"
#include "base/rcu.h"

#define FENCE_BIT(name) (1ul << DMA_FENCE_FLAG_##name##_BIT)

/* One thread works off the callbacks of one fence; under the list's lock. */
struct callback_run {
	/* mmn_context_self() of that thread */
	const void *thread;
	/* being called, or NULL */
	const struct dma_fence_cb *cb;
	/* somebody sleeps on dma_fence.turn */
	bool awaited;
};

static inline bool link_is_queued(const struct dma_fence_link *link)
{
	return link->next && link->next != link;
}

static inline void link_init(struct dma_fence_link *link)
{
	link->next = link;
	link->prev = link;
}

static inline void link_add_tail(struct dma_fence_link *link,
				 struct dma_fence_link *list)
{
	link->next = list;
	link->prev = list->prev;
	list->prev->next = link;
	list->prev = link;
}

static inline void link_del(struct dma_fence_link *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	link_init(link);
}

/* The half of the flags that all bits of the core are in: futexes are 32 bits. */
static inline uint32_t *fence_futex(struct dma_fence *fence)
{
	uint32_t *halves = (uint32_t *)(void *)&fence->flags;

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return &halves[sizeof(fence->flags) / sizeof(uint32_t) - 1];
#else
	return halves;
#endif
}

static inline unsigned long fence_flags_acquire(const struct dma_fence *fence)
{
	/*
	 * pair(fence_signal): acquire, with the release in mark_signaled().
	 * Without it somebody who sees the fence signalled reads the error, or
	 * the data that the device was to write, from before.
	 */
	return mmn_load_acquire(&fence->flags);
}

/*
 * The ops, in a read section, or NULL if the producer may be gone.
 *
 * The pointer is followed and may be NULL.  That it is not does not say enough: a
 * consumer who signals sets the flag first, and the producer goes by the flag.
 *
 *	CPU0: consumer        CPU1: producer        CPU2: reader
 *
 *	flags |= SIGNALED
 *	                      finds SIGNALED
 *	                      synchronize, leave
 *	                                            ops are there
 *	ops = NULL                                  [follows them]
 *
 * A section that does not see the flag is one that the producer has waited for.
 */
static inline const struct dma_fence_ops *fence_ops(struct dma_fence *fence)
{
	/* relaxed: constant from before the fence was published until NULL */
	const struct dma_fence_ops *ops = mmn_load_relaxed(&fence->ops);
	unsigned long flags = fence_flags_acquire(fence);

	if (flags & FENCE_BIT(SIGNALED) && !(flags & FENCE_BIT(KEEP_OPS)))
		return NULL;
	return ops;
}

/*
 * What interrupts waits of the calling thread, or NULL; and whether its word
 * says so.  The word changes whenever that does.
 */
struct dma_fence_cancel *fence_bound_cancel(void);

static inline bool fence_cancel_is_raised(uint32_t word)
{
	return word & 1;
}

/* Begin a life; @flags are the private ones that hold for all of it. */
void fence_init(struct dma_fence *fence, const struct dma_fence_ops *ops,
		struct spinlock *lock, uint64_t context, uint64_t seqno,
		unsigned long flags, uint32_t life);

/* The refcount is 0: give it back to the producer, or to malloc. */
void fence_complete_release(struct dma_fence *fence);

/* The refcount is 0 and callbacks wait: signal, then complete the release. */
void fence_signal_dying(struct dma_fence *fence);

/* Have the producer signal; false when it has signalled. */
bool fence_enable(struct dma_fence *fence);

/*
 * For chains, which arm their nodes in a loop: enable without calling the op.
 * True: the caller does what the op would, and then fence_end_enable().
 */
bool fence_claim_enable(struct dma_fence *fence);
void fence_end_enable(struct dma_fence *fence);

/* Add a callback without enabling; false when it has signalled. */
bool fence_append_callback(struct dma_fence *fence, struct dma_fence_cb *cb,
			   dma_fence_func_t func);

/*
 * Between the two, what this thread signals runs its callbacks later, so that a
 * lock can be held.  Give the second what the first returned.
 */
bool fence_hold_callbacks(void);
void fence_run_callbacks(bool outermost);

/*
 * One word that a thread sleeps on: its own, or the one by which its waits can be
 * cancelled.  Look at the word, then at what is waited for, then sleep.
 */
struct fence_sleeper {
	uint32_t *word;
	/* NULL if it cannot be cancelled */
	const struct dma_fence_cancel *cancel;
	uint32_t own_word;
};

void fence_sleeper_init(struct fence_sleeper *sleeper, bool intr);
void fence_sleeper_wake(struct fence_sleeper *sleeper);
bool fence_sleeper_is_cancelled(const struct fence_sleeper *sleeper);
uint32_t fence_sleeper_look(const struct fence_sleeper *sleeper);
/* 0, or -ETIMEDOUT when @deadline, in nanoseconds, has passed. */
int fence_sleeper_sleep(struct fence_sleeper *sleeper, uint32_t seen,
			int64_t deadline);

/* Make it signalled before anybody knows it. */
void fence_init_signaled(struct dma_fence *fence, int64_t timestamp);

/* The moment @timeout milliseconds from now, or never. */
int64_t fence_deadline_of(long timeout);

/* Wait as a part of a longer wait; if @timeout is 0 only ask. */
int fence_wait_part(struct dma_fence *fence, bool intr, long timeout,
		    int64_t deadline);

/* What a wait that ended with @ret says in the kernel's terms. */
long fence_remaining_time(int ret, long timeout, int64_t deadline);

/* Add text, as far as there is room. */
__attribute__((format(printf, 2, 3))) void fence_print(struct seq_file *seq,
						       const char *format, ...);

#endif
