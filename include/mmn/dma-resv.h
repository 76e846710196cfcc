/* SPDX-License-Identifier: MIT */
#ifndef MMN_DMA_RESV_H
#define MMN_DMA_RESV_H
/*
 * Reservation objects: who still uses a piece of memory, and how.
 *
 * A buffer has one, or shares one with others.  It is a lock and a set of fences,
 * each with the way its operation uses the buffer.  Whoever submits work takes the
 * lock, reserves a place, and adds the fence of the work; whoever wants to touch
 * the buffer waits for the fences that are in his way, with the lock or without.
 * Names, argument order and return values are those of Linux 6.12.
 *
 * What differs from the kernel, on purpose:
 *
 * - dma_resv_test_signaled() takes no reference and writes nothing that others
 *   read, as long as it need not ask a producer.  It never starts over.
 * - dma_resv_test_signaled_strict() gives the guarantee that Linux lost in 5.19.
 * - A fence keeps its place while it is there.  So a walk without the lock does
 *   not start over when the set grows: it ends after as many steps as there were
 *   fences at its beginning.
 * - Fences of recycling pools are never mistaken for others.
 * - Fences that have signalled leave whenever one is added or a place reserved.
 * - Without a reservation a fence is not lost: that is reported, and room is made,
 *   if need be by waiting for a fence.
 *
 * Misuse marked "reported" goes to mmn_debug_set_handler() in builds with
 * self-checks.
 */
#include <mmn/dma-fence.h>
#include <mmn/ww-mutex.h>

MMN_BEGIN_DECLS

/**
 * dma_resv_class - the class of every reservation object's lock
 *
 * The kernel's name of it, for ww_acquire_init(), is below.
 *
 * Context: any.
 * Return: a class of the wait-die kind.
 */
MMN_PUBLIC
struct ww_class *dma_resv_class(void);

#define reservation_ww_class (*dma_resv_class())

/**
 * enum dma_resv_usage - how an operation uses the buffer
 * @DMA_RESV_USAGE_KERNEL: moves or clears the memory; everybody waits for it
 * @DMA_RESV_USAGE_WRITE: writes; readers and writers wait for it
 * @DMA_RESV_USAGE_READ: reads; writers wait for it
 * @DMA_RESV_USAGE_BOOKKEEP: nobody waits for it but who takes the memory away
 *
 * A question for one usage is about the fences of this and all that stand before
 * it.
 */
enum dma_resv_usage {
	DMA_RESV_USAGE_KERNEL,
	DMA_RESV_USAGE_WRITE,
	DMA_RESV_USAGE_READ,
	DMA_RESV_USAGE_BOOKKEEP
};

struct dma_resv_list;

/**
 * struct dma_resv - a lock and a set of fences
 * @fences: private
 * @seq: private
 * @room: private: place for four fences
 * @nr_reserved: private
 * @lock: use dma_resv_lock()
 *
 * Embed it.
 */
struct dma_resv {
	struct dma_resv_list *fences;
	uint64_t seq;
	uint64_t room[5];
	uint32_t nr_reserved;
	struct ww_mutex lock;
};

/**
 * struct dma_resv_iter - where a walk over the fences is
 * @obj: what is walked over
 * @usage: which fences are wanted
 * @fence: the present one, with a reference, in a walk without the lock
 * @fence_usage: how it uses the buffer
 * @index: the next place
 * @fences: names the numbering of the places; anything else put here makes the
 *	walk start over
 * @num_fences: how many places there were at the beginning
 * @is_restarted: this is the first fence of a pass
 */
struct dma_resv_iter {
	struct dma_resv *obj;
	enum dma_resv_usage usage;
	struct dma_fence *fence;
	enum dma_resv_usage fence_usage;
	unsigned int index;
	struct dma_resv_list *fences;
	unsigned int num_fences;
	bool is_restarted;
};

/* Life and lock */

/**
 * dma_resv_init - make an empty one
 * @obj: memory of the caller
 *
 * Context: any.
 */
MMN_PUBLIC
void dma_resv_init(struct dma_resv *obj);

/**
 * dma_resv_fini - drop every fence
 * @obj: not locked; nobody uses it any more
 *
 * Readers without the lock must have ended before the memory of @obj goes away.
 *
 * Context: any but signal handlers.
 */
MMN_PUBLIC
void dma_resv_fini(struct dma_resv *obj);

/**
 * dma_resv_lock - take the lock
 * @obj: what to lock
 * @ctx: what the caller locks together; or NULL
 *
 * See ww_mutex_lock().
 *
 * Context: may sleep.
 * Ordering: what the last holder wrote is visible.
 * Return: 0; -EDEADLK (somebody older wants what @ctx holds: unlock all of it, then
 * dma_resv_lock_slow()); -EALREADY (the caller holds it); -EINVAL (@ctx is of
 * another class or thread, or done; reported).
 */
MMN_PUBLIC
int dma_resv_lock(struct dma_resv *obj, struct ww_acquire_ctx *ctx);

/**
 * dma_resv_lock_interruptible - take the lock, or be interrupted
 * @obj: what to lock
 * @ctx: what the caller locks together; or NULL
 *
 * See ww_mutex_lock_interruptible().
 *
 * Context: may sleep.
 * Return: as dma_resv_lock(); -EINTR (the thread's dma_fence_cancel is
 * raised).
 */
MMN_PUBLIC
MMN_MUST_CHECK int dma_resv_lock_interruptible(struct dma_resv *obj,
					       struct ww_acquire_ctx *ctx);

/**
 * dma_resv_lock_slow - take the lock that was fought for
 * @obj: where -EDEADLK came from
 * @ctx: holds nothing any more
 *
 * Context: may sleep.
 */
MMN_PUBLIC
void dma_resv_lock_slow(struct dma_resv *obj, struct ww_acquire_ctx *ctx);

/**
 * dma_resv_lock_slow_interruptible - likewise, or be interrupted
 * @obj: where -EDEADLK came from
 * @ctx: holds nothing any more
 *
 * Context: may sleep.
 * Return: 0; -EINTR (the thread's dma_fence_cancel is raised).
 */
MMN_PUBLIC
MMN_MUST_CHECK int dma_resv_lock_slow_interruptible(struct dma_resv *obj,
						    struct ww_acquire_ctx *ctx);

/**
 * dma_resv_trylock - take the lock if it is free
 * @obj: may be locked by anybody
 *
 * Without a context: nothing else may be locked in one while it is held.
 *
 * Context: any but signal handlers; never sleeps.
 * Return: true when the caller has it.
 */
MMN_PUBLIC
MMN_MUST_CHECK bool dma_resv_trylock(struct dma_resv *obj);

/**
 * dma_resv_unlock - give the lock back
 * @obj: locked by the caller
 *
 * Reservations end here.
 *
 * Context: the thread that locked it.
 * Ordering: what the caller wrote is visible to the next holder.
 */
MMN_PUBLIC
void dma_resv_unlock(struct dma_resv *obj);

/**
 * dma_resv_is_locked - does anybody hold the lock?
 * @obj: may be locked by anybody
 *
 * Context: any.
 * Return: what was true a moment ago.
 */
MMN_PUBLIC
bool dma_resv_is_locked(struct dma_resv *obj);

/**
 * dma_resv_locking_ctx - in which context is it locked?
 * @obj: may be locked by anybody
 *
 * Only good for comparing.
 *
 * Context: any.
 * Return: the context, or NULL.
 */
MMN_PUBLIC
struct ww_acquire_ctx *dma_resv_locking_ctx(struct dma_resv *obj);

/**
 * dma_resv_held - does the caller hold the lock?
 * @obj: what it is about
 *
 * Context: any.
 * Return: true when the calling thread does.
 */
MMN_PUBLIC
bool dma_resv_held(struct dma_resv *obj);

/**
 * dma_resv_assert_held - report it if the caller does not hold the lock
 * @obj: what it is about
 *
 * Context: any.
 */
MMN_PUBLIC
void dma_resv_assert_held(struct dma_resv *obj);

/* Writers, with the lock */

/**
 * dma_resv_usage_rw - what must be waited for
 * @write: the caller is about to write
 *
 * Not how to add the fence of the operation: that is DMA_RESV_USAGE_WRITE for one
 * that writes.
 *
 * Context: any.
 * Return: DMA_RESV_USAGE_READ for a writer, DMA_RESV_USAGE_WRITE for a reader.
 */
MMN_PUBLIC
enum dma_resv_usage dma_resv_usage_rw(bool write);

/**
 * dma_resv_reserve_fences - make sure that fences can be added
 * @obj: locked by the caller, or it is reported
 * @num_fences: how many, at least 1; 0 is reported
 *
 * Holds until the lock is given back.  Not additive: afterwards there are at least
 * so many places.
 *
 * Context: uses the heap.  May run callbacks of fences whose producers say that
 * they have signalled.
 * Return: 0; -EINVAL (0 fences); -ENOMEM, and nothing has changed.
 */
MMN_PUBLIC
int dma_resv_reserve_fences(struct dma_resv *obj, unsigned int num_fences);

/**
 * dma_resv_add_fence - an operation uses the buffer
 * @obj: locked by the caller, or it is reported; with a place reserved, or that is
 *	reported and room is made
 * @fence: takes a reference; an array or a chain is reported; NULL too, and
 *	ignored
 * @usage: how
 *
 * Takes the place of a fence of the same timeline that is not later and not used
 * for something that fewer wait for; then nothing is taken from the reservation,
 * nor if a fence is found signalled.
 *
 * From here on others can see @fence: it must signal without this lock.
 *
 * Context: may run callbacks of fences whose producers say that they have
 * signalled; may release fences.  Sleeps and uses the heap only without a
 * reservation.
 * Ordering: what was written before is visible to whoever finds @fence.
 */
MMN_PUBLIC
void dma_resv_add_fence(struct dma_resv *obj, struct dma_fence *fence,
			enum dma_resv_usage usage);

/**
 * dma_resv_replace_fences - another fence stands for a timeline
 * @obj: locked by the caller, or it is reported
 * @context: the timeline; every fence of it is replaced
 * @fence: takes references
 * @usage: how
 *
 * Only if the operations of the old fences cannot touch the buffer any more once
 * @fence has signalled.
 *
 * Context: may release fences.
 */
MMN_PUBLIC
void dma_resv_replace_fences(struct dma_resv *obj, uint64_t context,
			     struct dma_fence *fence,
			     enum dma_resv_usage usage);

/**
 * dma_resv_copy_fences - have the same pending fences as another object
 * @dst: locked by the caller, or it is reported; loses its own fences, and its
 *	reservations
 * @src: locked or not
 *
 * Fences that are in both are in @dst at any moment for readers without the lock.
 *
 * Context: uses the heap; else as dma_resv_add_fence().
 * Return: 0; -ENOMEM, and nothing has changed.
 */
MMN_PUBLIC
int dma_resv_copy_fences(struct dma_resv *dst, struct dma_resv *src);

/* Questions, with the lock or without */

/**
 * dma_resv_test_signaled - have all fences signalled?
 * @obj: locked or not
 * @usage: which ones
 *
 * True: each fence that was there at the beginning of the call has signalled, or
 * was taken away meanwhile by dma_resv_replace_fences() or dma_resv_copy_fences().
 * A fence that took its place meanwhile may still be pending, so that perhaps
 * there was no moment without pending fences: see the strict form.  With the lock
 * it is exact.
 *
 * Loads only, while fences are found signalled, or pending and the producer has
 * no signaled op.  Otherwise asks the producer, with a reference, and may run
 * callbacks, as dma_fence_is_signaled().  False when fences of recycling pools
 * come and go faster than it can look.
 *
 * Context: any but signal handlers; never sleeps.
 * Ordering: true: what the producers wrote before they signalled is visible.
 * Return: false when one is pending.
 */
MMN_PUBLIC
bool dma_resv_test_signaled(struct dma_resv *obj, enum dma_resv_usage usage);

/**
 * dma_resv_test_signaled_strict - was there a moment without pending fences?
 * @obj: locked or not
 * @usage: which ones
 *
 * True: there was a moment during the call at which no fence was pending.
 *
 * Starts over when a fence was added meanwhile.  After some attempts it tries to
 * take the lock; if somebody holds it the answer is false: the buffer is busy.
 *
 * Context: any but signal handlers; never sleeps.
 * Ordering: as dma_resv_test_signaled().
 * Return: false when one is pending, or it cannot be known without waiting.
 */
MMN_PUBLIC
bool dma_resv_test_signaled_strict(struct dma_resv *obj,
				   enum dma_resv_usage usage);

/**
 * dma_resv_test_signaled_flag - are all fences known to have signalled?
 * @obj: locked or not
 * @usage: which ones
 *
 * As dma_resv_test_signaled(), but asks no producer and calls nobody.
 *
 * Context: any but signal handlers; never sleeps.
 * Ordering: as dma_resv_test_signaled().
 * Return: false when one is pending as far as is known.
 */
MMN_PUBLIC
bool dma_resv_test_signaled_flag(struct dma_resv *obj,
				 enum dma_resv_usage usage);

/**
 * dma_resv_get_fences - references to all pending fences
 * @obj: locked or not
 * @usage: which ones
 * @num_fences: how many it were
 * @fences: from malloc(), or NULL if there are none; free() and put them
 *
 * Context: uses the heap; else as dma_fence_is_signaled().
 * Return: 0; -ENOMEM, nothing is stored.
 */
MMN_PUBLIC
int dma_resv_get_fences(struct dma_resv *obj, enum dma_resv_usage usage,
			unsigned int *num_fences, struct dma_fence ***fences);

/**
 * dma_resv_get_singleton - all pending fences as one
 * @obj: locked or not
 * @usage: which ones
 * @fence: NULL, the only one, or an array of all; with a reference
 *
 * An array may not be added to a reservation object again.
 *
 * Context: uses the heap; else as dma_fence_is_signaled().
 * Return: 0; -ENOMEM, nothing is stored.
 */
MMN_PUBLIC
int dma_resv_get_singleton(struct dma_resv *obj, enum dma_resv_usage usage,
			   struct dma_fence **fence);

/**
 * dma_resv_wait_timeout - sleep until all fences have signalled
 * @obj: locked or not
 * @usage: which ones
 * @intr: give up when the thread's dma_fence_cancel is raised
 * @timeout: milliseconds for all together; 0 asks only; DMA_FENCE_TIMEOUT_MAX
 *	waits for ever
 *
 * Fences that are added meanwhile are not waited for, or perhaps are.
 *
 * Context: may sleep; not where a fence's producer needs to get past.
 * Ordering: positive: what the producers wrote before they signalled is visible.
 * Return: what is left of @timeout, at least 1; 0 when time is up; -ERESTARTSYS
 * (cancelled).
 */
MMN_PUBLIC
long dma_resv_wait_timeout(struct dma_resv *obj, enum dma_resv_usage usage,
			   bool intr, unsigned long timeout);

/**
 * dma_resv_set_deadline - hint when all of them are wanted
 * @obj: locked or not
 * @usage: which ones
 * @deadline: CLOCK_MONOTONIC, nanoseconds; the past means now
 *
 * Context: any but signal handlers.
 */
MMN_PUBLIC
void dma_resv_set_deadline(struct dma_resv *obj, enum dma_resv_usage usage,
			   int64_t deadline);

/**
 * dma_resv_describe - one line for each fence that somebody would wait for
 * @obj: locked by the caller, or it is reported
 * @seq: "\tkernel fence: " or write or read, then as dma_fence_describe(), is added
 *
 * Those of DMA_RESV_USAGE_BOOKKEEP are left out.
 *
 * Context: any but signal handlers.
 */
MMN_PUBLIC
void dma_resv_describe(struct dma_resv *obj, struct seq_file *seq);

/* Walks */

/**
 * dma_resv_iter_begin - begin a walk
 * @cursor: memory of the caller
 * @obj: what to walk over
 * @usage: which fences
 *
 * Context: any.
 */
MMN_PUBLIC
void dma_resv_iter_begin(struct dma_resv_iter *cursor, struct dma_resv *obj,
			 enum dma_resv_usage usage);

/**
 * dma_resv_iter_end - end a walk
 * @cursor: begun; gives up the reference to the present fence
 *
 * Context: any but signal handlers.
 */
MMN_PUBLIC
void dma_resv_iter_end(struct dma_resv_iter *cursor);

/**
 * dma_resv_iter_usage - how does the present fence use the buffer?
 * @cursor: at a fence
 *
 * Context: any.
 * Return: the usage it was added with.
 */
MMN_PUBLIC
enum dma_resv_usage dma_resv_iter_usage(struct dma_resv_iter *cursor);

/**
 * dma_resv_iter_is_restarted - is this the first fence of a pass?
 * @cursor: at a fence
 *
 * Who adds something up begins anew then.
 *
 * Context: any.
 * Return: true for the very first fence, and when the walk has started over.
 */
MMN_PUBLIC
bool dma_resv_iter_is_restarted(struct dma_resv_iter *cursor);

/**
 * dma_resv_iter_first - the first fence, with the lock
 * @cursor: begun
 *
 * Context: the object is locked by the caller, or it is reported.
 * Return: also one that has signalled; without a reference of its own; or NULL.
 */
MMN_PUBLIC
struct dma_fence *dma_resv_iter_first(struct dma_resv_iter *cursor);

/**
 * dma_resv_iter_next - one step, with the lock
 * @cursor: begun
 *
 * Context: the object is locked by the caller, or it is reported.
 * Return: as dma_resv_iter_first().
 */
MMN_PUBLIC
struct dma_fence *dma_resv_iter_next(struct dma_resv_iter *cursor);

/**
 * dma_resv_iter_first_unlocked - the first pending fence
 * @cursor: begun
 *
 * Context: as dma_fence_is_signaled().
 * Return: the cursor has a reference to it until the next step; or NULL.
 */
MMN_PUBLIC
struct dma_fence *dma_resv_iter_first_unlocked(struct dma_resv_iter *cursor);

/**
 * dma_resv_iter_next_unlocked - one step
 * @cursor: begun
 *
 * A fence that is pending from the first step to the last is found.  One that is
 * added meanwhile may be.
 *
 * Context: as dma_fence_is_signaled().
 * Return: as dma_resv_iter_first_unlocked().
 */
MMN_PUBLIC
struct dma_fence *dma_resv_iter_next_unlocked(struct dma_resv_iter *cursor);

/* Every fence in the order of places; the lock is held all the time. */
#define dma_resv_for_each_fence(cursor, obj, usage, fence)  \
	for (dma_resv_iter_begin((cursor), (obj), (usage)), \
	     (fence) = dma_resv_iter_first(cursor);         \
	     (fence); (fence) = dma_resv_iter_next(cursor))

/* Every pending fence; between dma_resv_iter_begin() and dma_resv_iter_end(). */
#define dma_resv_for_each_fence_unlocked(cursor, fence)               \
	for ((fence) = dma_resv_iter_first_unlocked(cursor); (fence); \
	     (fence) = dma_resv_iter_next_unlocked(cursor))

MMN_END_DECLS

#endif
