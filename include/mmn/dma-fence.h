/* SPDX-License-Identifier: MIT */
#ifndef MMN_DMA_FENCE_H
#define MMN_DMA_FENCE_H
/*
 * Fences: when a device has finished.
 *
 * A fence is signalled once, by whoever watches the device, and stays so.  Others
 * ask whether it is, have a callback called, or sleep.  Names, argument order and
 * return values are the ones of Linux 6.12, with what its 2026 generation added;
 * code written against those headers needs a shim for kernel primitives only
 * (spinlock_t is struct spinlock, ktime_t is int64_t, HZ is DMA_FENCE_HZ).
 *
 * What differs from the kernel, on purpose:
 *
 * - Callbacks run without the fence's lock, unless the caller of a _locked form
 *   holds it, in the order they were added.  A callback may signal other fences,
 *   remove callbacks of its own fence, and drop references.  A fence that is
 *   signalled in a callback runs its own callbacks after the present ones, from
 *   the outermost dma_fence_signal() of the thread: the stack does not grow.
 * - The fence's lock is taken to enable signalling and for nothing else: adding
 *   and removing callbacks does not contend for the lock of a timeline.
 * - A wait whose fence has signalled is never reported as a timeout.
 * - Signalling a fence that nobody waits for takes no lock and makes no system
 *   call.
 * - In a fork child fences are copies.  dma_fence_test_signaled_flag() looks at them,
 *   and they may be dropped; their memory is not given back, and nobody is waited
 *   for who did not come along.  The thread that has forked may have read sections;
 *   for others there liburcu's lock may be held for ever.
 * - Memory of fences is freed after a grace period.  So this is right for each
 *   fence that does not come from a pool that recycles:
 *
 *	rcu_read_lock();
 *	fence = rcu_dereference(slot);
 *	idle = !fence || dma_fence_test_signaled_flag(fence);
 *	rcu_read_unlock();
 *
 * What every producer promises: its fences signal in bounded time; on the way
 * there it takes no lock that anybody holds while waiting for a fence, and does
 * not wait for memory; from the moment others can see a fence, it is on that way.
 * What is freed first, a fence or a list of a reservation object, starts a thread,
 * by the heap, which a fork that waits for a signal may have locked: a program whose
 * forks are told to subscribers calls dma_fence_barrier() before it has fences, which
 * ends the process where no thread is to be had.  Who has made a pool, or a timeline
 * of sync.h, has started it, or was told that there is none.
 * What every consumer may do: wait while holding such locks, and while a change of
 * memory is being announced.
 *
 * What nobody does: use fences in a signal handler, but as far as the Context says.
 * Where handlers of the program change memory, callbacks of <mmn/notifier.h> run in
 * them, which may wait for a fence.  So a thread blocks these signals while it is on
 * the way to a signal, or in the middle of a call from here that such a callback
 * makes, too.
 *
 * Misuse marked "reported" goes to mmn_debug_set_handler() in builds with
 * self-checks.
 */
#include <errno.h>
#include <limits.h>
#include <mmn/common.h>
#include <mmn/spinlock.h>

/* The kernel's own "interrupted", which C libraries do not name. */
#ifndef ERESTARTSYS
#define ERESTARTSYS 512
#endif

MMN_BEGIN_DECLS

/* Relative timeouts count milliseconds; this one is for ever. */
#define DMA_FENCE_HZ 1000
#define DMA_FENCE_TIMEOUT_MAX LONG_MAX
/* Absolute times are nanoseconds of CLOCK_MONOTONIC; this one is never. */
#define DMA_FENCE_NEVER INT64_MAX

struct dma_fence;
struct dma_fence_cb;
struct seq_file;

/**
 * enum dma_fence_flag_bits - bits of dma_fence.flags
 * @DMA_FENCE_FLAG_INITIALIZED_BIT: dma_fence_init() has run
 * @DMA_FENCE_FLAG_INLINE_LOCK_BIT: the lock is inside the fence
 * @DMA_FENCE_FLAG_SEQNO64_BIT: sequence numbers do not wrap at 32 bits
 * @DMA_FENCE_FLAG_SIGNALED_BIT: the end; never taken back
 * @DMA_FENCE_FLAG_TIMESTAMP_BIT: the time of signalling may be read
 * @DMA_FENCE_FLAG_ENABLE_SIGNAL_BIT: somebody wants to know
 * @DMA_FENCE_FLAG_CALLBACK_BIT: private: there are callbacks
 * @DMA_FENCE_FLAG_ENABLING_BIT: private: the enable op is running
 * @DMA_FENCE_FLAG_SLEEPER_BIT: private: somebody sleeps on the flags
 * @DMA_FENCE_FLAG_KEEP_OPS_BIT: private: the ops have release or wait
 * @DMA_FENCE_FLAG_ENABLE_OP_BIT: private: the ops have enable_signaling
 * @DMA_FENCE_FLAG_RECYCLED_BIT: private: belongs to a pool
 * @DMA_FENCE_FLAG_USER_BITS: the first one for producers, up to bit 63
 */
enum dma_fence_flag_bits {
	DMA_FENCE_FLAG_INITIALIZED_BIT,
	DMA_FENCE_FLAG_INLINE_LOCK_BIT,
	DMA_FENCE_FLAG_SEQNO64_BIT,
	DMA_FENCE_FLAG_SIGNALED_BIT,
	DMA_FENCE_FLAG_TIMESTAMP_BIT,
	DMA_FENCE_FLAG_ENABLE_SIGNAL_BIT,
	DMA_FENCE_FLAG_CALLBACK_BIT,
	DMA_FENCE_FLAG_ENABLING_BIT,
	DMA_FENCE_FLAG_SLEEPER_BIT,
	DMA_FENCE_FLAG_KEEP_OPS_BIT,
	DMA_FENCE_FLAG_ENABLE_OP_BIT,
	DMA_FENCE_FLAG_RECYCLED_BIT,
	DMA_FENCE_FLAG_USER_BITS
};

/**
 * struct dma_fence_link - a place in a list of callbacks
 * @next: private
 * @prev: private
 */
struct dma_fence_link {
	struct dma_fence_link *next;
	struct dma_fence_link *prev;
};

/**
 * dma_fence_func_t - what a callback is
 * @fence: has signalled; the caller keeps a reference to it meanwhile
 * @cb: is on no list; the callback may free it
 *
 * Runs in the thread that signals, perhaps inside a read section of that.  It must
 * not wait for this fence, nor for a grace period, nor take a lock that anybody
 * holds while waiting for either, nor drop the last reference to the fence; it
 * should be short.
 */
typedef void (*dma_fence_func_t)(struct dma_fence *fence,
				 struct dma_fence_cb *cb);

/**
 * struct dma_fence_cb - one callback on one fence
 * @node: private
 * @func: private
 *
 * Embed it.  It need not be initialised, and belongs to the fence from
 * dma_fence_add_callback() until it is called or removed.
 */
struct dma_fence_cb {
	struct dma_fence_link node;
	dma_fence_func_t func;
};

/**
 * struct dma_fence_ops - what a producer implements
 * @use_64bit_seqno: sequence numbers do not wrap at 32 bits
 * @get_driver_name: required; valid until the read section ends
 * @get_timeline_name: required; likewise
 * @enable_signaling: called once, before the first callback or wait, with the
 *	fence's lock held; false means that it is done already, or has failed
 *	(with @error set).  If true the producer keeps a reference until it
 *	signals.  Must not sleep.
 * @signaled: has it happened?  With or without the lock, from any thread; true
 *	stays true
 * @wait: instead of dma_fence_default_wait(), with its conventions
 * @release: the last reference is gone; frees the object, after a grace period
 *	when others may find it under RCU: end with dma_fence_free() or defer.
 *	The fence's own lock is not held.
 * @fence_value_str: accepted, not called
 * @timeline_value_str: accepted, not called
 * @set_deadline: a hint when it is wanted; any thread, no lock
 *
 * All but @wait and @release are called inside an RCU read section and only while
 * the fence has not signalled.  A fence whose ops have neither of these two loses
 * its ops pointer when it signals; one grace period later nothing of the producer
 * is used any more, see dma_fence_signal_sync().
 */
struct dma_fence_ops {
	bool use_64bit_seqno;
	const char *(*get_driver_name)(struct dma_fence *fence);
	const char *(*get_timeline_name)(struct dma_fence *fence);
	bool (*enable_signaling)(struct dma_fence *fence);
	bool (*signaled)(struct dma_fence *fence);
	long (*wait)(struct dma_fence *fence, bool intr, long timeout);
	void (*release)(struct dma_fence *fence);
	void (*fence_value_str)(struct dma_fence *fence, char *str, int size);
	void (*timeline_value_str)(struct dma_fence *fence, char *str,
				   int size);
	void (*set_deadline)(struct dma_fence *fence, int64_t deadline);
};

/* Private: while it lives. */
struct dma_fence_live {
	struct dma_fence_link cb_list;
	void *run;
	struct dma_fence *next;
};

/* Private: and after. */
union dma_fence_stage {
	struct dma_fence_live live;
	uint64_t rcu[3];
};

/**
 * struct dma_fence - one thing that will have happened
 * @lock: of the producer's timeline, or inside; held around enable_signaling
 * @ops: NULL once it has signalled, if the producer may leave then
 * @flags: enum dma_fence_flag_bits; atomic
 * @refcount: private
 * @error: 0 or a negative errno, final when it signals
 * @context: the ordered timeline it belongs to
 * @seqno: its place there
 * @timestamp: private, use dma_fence_timestamp()
 * @inline_lock: private
 * @list_lock: private
 * @stage: private
 * @turn: private
 * @life: private; counts fences that were in this memory
 *
 * Embed it.  First member of a block from malloc() if the ops have no release.
 */
struct dma_fence {
	struct spinlock *lock;
	const struct dma_fence_ops *ops;
	unsigned long flags;
	uint32_t refcount;
	int error;
	uint64_t context;
	uint64_t seqno;
	int64_t timestamp;
	struct spinlock inline_lock;
	struct spinlock list_lock;
	union dma_fence_stage stage;
	uint32_t turn;
	uint32_t life;
};

/* Lifetime */

/**
 * dma_fence_init - make a fence
 * @fence: memory of the caller; may be recycled memory that others still peek at
 * @ops: with both names; kept
 * @lock: shared by fences of a timeline, outlives them all by a grace period; or
 *	NULL for one inside the fence
 * @context: from dma_fence_context_alloc()
 * @seqno: its place in @context; the low 32 bits count unless @ops says else
 *
 * The caller has one reference.  Missing arguments are reported; the fence then
 * has signalled with -EINVAL.
 *
 * Context: any.
 * Ordering: what is written before is visible to dma_fence_get_rcu().
 */
MMN_PUBLIC
void dma_fence_init(struct dma_fence *fence, const struct dma_fence_ops *ops,
		    struct spinlock *lock, uint64_t context, uint64_t seqno);

/**
 * dma_fence_init64 - make a fence whose sequence numbers never wrap
 * @fence: see dma_fence_init()
 * @ops: see dma_fence_init()
 * @lock: see dma_fence_init()
 * @context: see dma_fence_init()
 * @seqno: all 64 bits count
 *
 * Context: any.
 */
MMN_PUBLIC
void dma_fence_init64(struct dma_fence *fence, const struct dma_fence_ops *ops,
		      struct spinlock *lock, uint64_t context, uint64_t seqno);

/**
 * dma_fence_was_initialized - has dma_fence_init() run on this zeroed memory?
 * @fence: or NULL
 *
 * Context: any.
 * Return: false for NULL.
 */
MMN_PUBLIC
bool dma_fence_was_initialized(struct dma_fence *fence);

/**
 * dma_fence_get - one more reference
 * @fence: the caller has one, or holds a lock that keeps one; or NULL
 *
 * Context: any.
 * Return: @fence.
 */
MMN_PUBLIC
struct dma_fence *dma_fence_get(struct dma_fence *fence);

/**
 * dma_fence_put - one reference less
 * @fence: or NULL
 *
 * The last one releases it.  If there are callbacks and it has not signalled,
 * that is reported, and it signals with -EDEADLK, so that nobody hangs.
 *
 * Context: any but signal handlers; runs the producer's release.
 * Ordering: whoever drops the last reference sees what others did before.
 */
MMN_PUBLIC
void dma_fence_put(struct dma_fence *fence);

/**
 * dma_fence_get_rcu - one more reference, unless the last one is gone
 * @fence: not NULL; the caller is in an RCU read section
 *
 * Says nothing about which fence it is if it comes from a recycling pool: use
 * dma_fence_get_rcu_safe().
 *
 * Context: any.
 * Return: @fence, or NULL when it is being released.
 */
MMN_PUBLIC
struct dma_fence *dma_fence_get_rcu(struct dma_fence *fence);

/**
 * dma_fence_get_rcu_safe - a reference to the fence in a slot
 * @slot: holds a reference to its fence; changed by storing with release
 *
 * Right also for fences of a recycling pool: the result is one that the slot held
 * during the call.  May run the release of a fence that was replaced meanwhile.
 *
 * Context: in an RCU read section.
 * Ordering: what was written before the fence was put there is visible.
 * Return: the fence, with a reference, or NULL when the slot is empty.
 */
MMN_PUBLIC
struct dma_fence *dma_fence_get_rcu_safe(struct dma_fence **slot);

/**
 * dma_fence_free - free() the memory at @fence after a grace period
 * @fence: without references; the start of a block from malloc()
 *
 * What release does if there is none.
 *
 * Context: any but signal handlers.
 */
MMN_PUBLIC
void dma_fence_free(struct dma_fence *fence);

/**
 * dma_fence_read_begin - begin an RCU read section
 *
 * For programs that do not use liburcu themselves; with liburcu-memb,
 * urcu_memb_read_lock() in a registered thread is the same.  Such a program
 * registers a thread before that uses this library, and unregisters it when it
 * does not any more.  Sections nest.
 *
 * Context: any; the first one of a thread uses the heap.
 */
MMN_PUBLIC
void dma_fence_read_begin(void);

/**
 * dma_fence_read_end - end an RCU read section
 *
 * Context: as many as there were beginnings.
 */
MMN_PUBLIC
void dma_fence_read_end(void);

/**
 * dma_fence_synchronize - wait until every read section that has begun is over
 *
 * After all fences of a producer have signalled and this has returned, none of
 * its ops without release and wait runs or will run, and its lock is not used.
 *
 * Context: may sleep; not in a read section, not in callbacks.
 */
MMN_PUBLIC
void dma_fence_synchronize(void);

/**
 * dma_fence_barrier - wait until every fence freed so far has gone back to malloc
 *
 * Context: may sleep; not in a read section, not in callbacks.
 */
MMN_PUBLIC
void dma_fence_barrier(void);

/* Signalling */

/**
 * dma_fence_signal - it has happened
 * @fence: the caller has a reference; NULL is reported
 *
 * Runs the callbacks, unless called from a callback: then they run before the
 * outermost call returns.
 *
 * Context: any but signal handlers; the fence's lock is not held.
 * Ordering: what was written before is visible to whoever sees it signalled.
 * Return: 0; -EINVAL (NULL, or it had signalled before).
 */
MMN_PUBLIC
int dma_fence_signal(struct dma_fence *fence);

/**
 * dma_fence_signal_locked - it has happened, and the caller holds the lock
 * @fence: its lock is held
 *
 * As dma_fence_signal(); the callbacks then run with the lock held, as in the
 * kernel, and must not take it.
 *
 * Context: any but signal handlers.
 * Ordering: as dma_fence_signal().
 * Return: 0; -EINVAL (NULL, or it had signalled before).
 */
MMN_PUBLIC
int dma_fence_signal_locked(struct dma_fence *fence);

/**
 * dma_fence_signal_timestamp - it happened at a time that is known
 * @fence: as for dma_fence_signal()
 * @timestamp: CLOCK_MONOTONIC, nanoseconds
 *
 * Context: any but signal handlers; the fence's lock is not held.
 * Return: 0; -EINVAL (NULL, or it had signalled before).
 */
MMN_PUBLIC
int dma_fence_signal_timestamp(struct dma_fence *fence, int64_t timestamp);

/**
 * dma_fence_signal_timestamp_locked - likewise with the lock held
 * @fence: its lock is held
 * @timestamp: CLOCK_MONOTONIC, nanoseconds
 *
 * Context: any but signal handlers.
 * Return: 0; -EINVAL (NULL, or it had signalled before).
 */
MMN_PUBLIC
int dma_fence_signal_timestamp_locked(struct dma_fence *fence,
				      int64_t timestamp);

/**
 * dma_fence_check_and_signal - signal, and say whether that was news
 * @fence: the caller has a reference
 *
 * Context: as dma_fence_signal().
 * Return: true when it had signalled before.
 */
MMN_PUBLIC
bool dma_fence_check_and_signal(struct dma_fence *fence);

/**
 * dma_fence_check_and_signal_locked - likewise with the lock held
 * @fence: its lock is held
 *
 * Context: as dma_fence_signal_locked().
 * Return: true when it had signalled before.
 */
MMN_PUBLIC
bool dma_fence_check_and_signal_locked(struct dma_fence *fence);

/**
 * dma_fence_signal_sync - signal, and wait until the producer may leave
 * @fence: as for dma_fence_signal()
 *
 * On return no op of this fence but wait and release runs or will run, and its
 * lock is not used any more: code, strings and lock may be unmapped.  For many
 * fences signal each and call dma_fence_synchronize() once.
 *
 * Context: may sleep; not in a read section, not in callbacks.
 * Return: 0; -EINVAL (NULL, or it had signalled before; it has waited then too).
 */
MMN_PUBLIC
int dma_fence_signal_sync(struct dma_fence *fence);

/**
 * dma_fence_set_error - why it will not have happened
 * @fence: not signalled
 * @error: -4095 to -1
 *
 * Anything else is reported and has no effect.
 *
 * Context: before the producer signals it; not concurrently with that.
 */
MMN_PUBLIC
void dma_fence_set_error(struct dma_fence *fence, int error);

/**
 * dma_fence_is_signaled - has it happened?
 * @fence: the caller has a reference
 *
 * Asks the producer, too; if it says yes the fence is signalled here, and the
 * callbacks run in the caller.  For a look without effects use
 * dma_fence_test_signaled_flag().
 *
 * Context: any but signal handlers; the fence's lock is not held.
 * Ordering: true: what the producer wrote before it signalled is visible.
 * Return: true for good.
 */
MMN_PUBLIC
bool dma_fence_is_signaled(struct dma_fence *fence);

/**
 * dma_fence_is_signaled_locked - likewise with the lock held
 * @fence: its lock is held
 *
 * Context: any but signal handlers; callbacks run with the lock held.
 * Return: true for good.
 */
MMN_PUBLIC
bool dma_fence_is_signaled_locked(struct dma_fence *fence);

/**
 * dma_fence_test_signaled_flag - has it signalled?
 * @fence: a reference, or found in a read section and not recycled
 *
 * Writes nothing, calls nobody.
 *
 * Context: any, also signal handlers.
 * Ordering: true: what the producer wrote before it signalled is visible.
 * Return: true for good.
 */
MMN_PUBLIC
bool dma_fence_test_signaled_flag(struct dma_fence *fence);

/**
 * dma_fence_get_status - pending, done or failed?
 * @fence: the caller has a reference
 *
 * Context: as dma_fence_is_signaled().
 * Return: 0 pending, 1 done, or the negative error it signalled with.
 */
MMN_PUBLIC
int dma_fence_get_status(struct dma_fence *fence);

/**
 * dma_fence_get_status_locked - likewise with the lock held
 * @fence: its lock is held
 *
 * Context: as dma_fence_is_signaled_locked().
 * Return: 0 pending, 1 done, or the negative error it signalled with.
 */
MMN_PUBLIC
int dma_fence_get_status_locked(struct dma_fence *fence);

/**
 * dma_fence_timestamp - when it happened
 * @fence: has signalled, or it is reported
 *
 * Context: any but signal handlers; waits a few instructions for a thread that is
 * just signalling.
 * Return: CLOCK_MONOTONIC, nanoseconds; the present if it has not signalled.
 */
MMN_PUBLIC
int64_t dma_fence_timestamp(struct dma_fence *fence);

/**
 * dma_fence_enable_sw_signaling - tell the producer that somebody wants to know
 * @fence: the caller has a reference
 *
 * Also known as dma_fence_enable_signaling().
 *
 * Context: any but signal handlers; the fence's lock is not held.
 */
MMN_PUBLIC
void dma_fence_enable_sw_signaling(struct dma_fence *fence);

#define dma_fence_enable_signaling(fence) dma_fence_enable_sw_signaling(fence)

/* Callbacks */

/**
 * dma_fence_add_callback - have a function called when it happens
 * @fence: the caller has a reference until @cb was called or removed
 * @cb: on no fence
 * @func: called once; perhaps before this returns
 *
 * Context: any but signal handlers; the fence's lock is not held.
 * Return: 0; -ENOENT (it has signalled, @func will not be called); -EINVAL (NULL,
 * reported).
 */
MMN_PUBLIC
int dma_fence_add_callback(struct dma_fence *fence, struct dma_fence_cb *cb,
			   dma_fence_func_t func);

/**
 * dma_fence_remove_callback - make sure that it is not called
 * @fence: the caller has a reference
 * @cb: was added to @fence
 *
 * After it has returned the function does not run and will not: it waits for one
 * that is running, unless the caller is that very function.
 *
 * Context: may sleep for as long as that function runs; the fence's lock is not
 * held.
 * Ordering: false: what the function wrote is visible.
 * Return: true when it was removed before it was called.
 */
MMN_PUBLIC
bool dma_fence_remove_callback(struct dma_fence *fence,
			       struct dma_fence_cb *cb);

/* Waiting */

/**
 * dma_fence_wait_timeout - sleep until it happens
 * @fence: the caller has a reference
 * @intr: give up when the thread's dma_fence_cancel is raised
 * @timeout: milliseconds; 0 asks only; DMA_FENCE_TIMEOUT_MAX waits for ever
 *
 * Context: may sleep; not where the fence's producer needs to get past.
 * Ordering: as dma_fence_is_signaled().
 * Return: what is left of @timeout, at least 1, when it has signalled; 0 when
 * time is up; -ERESTARTSYS (cancelled); -EINVAL (negative @timeout, reported).
 */
MMN_PUBLIC
long dma_fence_wait_timeout(struct dma_fence *fence, bool intr, long timeout);

/**
 * dma_fence_default_wait - the same, for the wait op of a producer
 * @fence: signalling is enabled
 * @intr: see dma_fence_wait_timeout()
 * @timeout: see dma_fence_wait_timeout()
 *
 * Context: may sleep.
 * Return: see dma_fence_wait_timeout().
 */
MMN_PUBLIC
long dma_fence_default_wait(struct dma_fence *fence, bool intr, long timeout);

/**
 * dma_fence_wait - sleep until it happens, however long
 * @fence: the caller has a reference
 * @intr: give up when the thread's dma_fence_cancel is raised
 *
 * Context: may sleep.
 * Return: 0; -ERESTARTSYS (cancelled).
 */
MMN_PUBLIC
long dma_fence_wait(struct dma_fence *fence, bool intr);

/**
 * dma_fence_wait_until - sleep until it happens or a moment has come
 * @fence: the caller has a reference
 * @intr: give up when the thread's dma_fence_cancel is raised
 * @deadline: CLOCK_MONOTONIC, nanoseconds; the past asks only; DMA_FENCE_NEVER
 *
 * Context: may sleep.
 * Return: 0; -ETIMEDOUT; -ERESTARTSYS (cancelled).
 */
MMN_PUBLIC
int dma_fence_wait_until(struct dma_fence *fence, bool intr, int64_t deadline);

/**
 * dma_fence_wait_any_timeout - sleep until one of several happens
 * @fences: the caller has references
 * @count: at least 1
 * @intr: give up when the thread's dma_fence_cancel is raised
 * @timeout: milliseconds; 0 asks only
 * @idx: the lowest index that was found signalled, if positive is returned; or
 *	NULL
 *
 * Context: may sleep; uses the heap for more than 64 fences.
 * Return: what is left of @timeout, at least 1; 0 when time is up; -ERESTARTSYS
 * (cancelled); -ENOMEM; -EINVAL (no fences, NULL, negative @timeout).
 */
MMN_PUBLIC
long dma_fence_wait_any_timeout(struct dma_fence **fences, uint32_t count,
				bool intr, long timeout, uint32_t *idx);

/**
 * dma_fence_wait_all_timeout - sleep until all of several have happened
 * @fences: the caller has references
 * @count: may be 0
 * @intr: give up when the thread's dma_fence_cancel is raised
 * @timeout: milliseconds for all together; 0 asks only
 *
 * Context: may sleep.
 * Return: what is left of @timeout, at least 1; 0 when time is up; -ERESTARTSYS
 * (cancelled); -EINVAL (NULL, negative @timeout).
 */
MMN_PUBLIC
long dma_fence_wait_all_timeout(struct dma_fence **fences, uint32_t count,
				bool intr, long timeout);

/**
 * struct dma_fence_cancel - what interrupts waits
 * @word: private
 *
 * The kernel interrupts a wait when the task has a signal.  Here a thread binds
 * one of these; while it is raised, waits of the thread with @intr return
 * -ERESTARTSYS.  All zero is not raised.  Several threads may bind the same.
 */
struct dma_fence_cancel {
	uint32_t word;
};

/**
 * dma_fence_cancel_bind - what interrupts waits of the calling thread
 * @cancel: outlives the binding; NULL for nothing
 *
 * Context: any.
 * Return: what was bound before, or NULL.
 */
MMN_PUBLIC
struct dma_fence_cancel *dma_fence_cancel_bind(struct dma_fence_cancel *cancel);

/**
 * dma_fence_cancel_raise - interrupt
 * @cancel: stays raised until it is cleared
 *
 * Context: any, also signal handlers.
 */
MMN_PUBLIC
void dma_fence_cancel_raise(struct dma_fence_cancel *cancel);

/**
 * dma_fence_cancel_clear - interrupt no more
 * @cancel: may be raised
 *
 * Context: any.
 * Return: was it raised?
 */
MMN_PUBLIC
bool dma_fence_cancel_clear(struct dma_fence_cancel *cancel);

/* Timelines and order */

/**
 * dma_fence_context_alloc - ids for timelines
 * @num: how many in a row; 0 is reported
 *
 * Context: any.
 * Return: the first; never 0, which belongs to the stub; never twice.
 */
MMN_PUBLIC
uint64_t dma_fence_context_alloc(unsigned int num);

/**
 * dma_fence_seqno_is_later - compare two sequence numbers
 * @f1: one
 * @f2: the other
 * @ops: its use_64bit_seqno decides whether they wrap at 32 bits; NULL: they do
 *
 * The kernel's __dma_fence_is_later() of 6.12.
 *
 * Context: any.
 * Return: true when @f1 is after @f2.
 */
MMN_PUBLIC
bool dma_fence_seqno_is_later(uint64_t f1, uint64_t f2,
			      const struct dma_fence_ops *ops);

#define __dma_fence_is_later(f1, f2, ops) \
	dma_fence_seqno_is_later((f1), (f2), (ops))

/**
 * dma_fence_is_later - compare two fences of one context
 * @f1: one
 * @f2: of the same context; otherwise it is reported
 *
 * Context: any.
 * Return: true when @f1 is after @f2.
 */
MMN_PUBLIC
bool dma_fence_is_later(struct dma_fence *f1, struct dma_fence *f2);

/**
 * dma_fence_is_later_or_same - compare two fences of one context
 * @f1: one
 * @f2: @f1, or of the same context
 *
 * Context: any.
 * Return: true when @f1 is @f2 or after it.
 */
MMN_PUBLIC
bool dma_fence_is_later_or_same(struct dma_fence *f1, struct dma_fence *f2);

/**
 * dma_fence_later - the later one of two
 * @f1: one
 * @f2: of the same context; otherwise it is reported
 *
 * Context: as dma_fence_is_signaled(): asks the later one.
 * Return: the later one, or NULL if that one has signalled.
 */
MMN_PUBLIC
struct dma_fence *dma_fence_later(struct dma_fence *f1, struct dma_fence *f2);

/* Ready made */

/**
 * dma_fence_get_stub - the fence that has always signalled
 *
 * Context 0, sequence number 0, the time of its first use.
 *
 * Context: any but signal handlers.
 * Return: a reference to it.
 */
MMN_PUBLIC
struct dma_fence *dma_fence_get_stub(void);

/**
 * dma_fence_allocate_private_stub - a new fence that has signalled
 * @timestamp: when; CLOCK_MONOTONIC, nanoseconds
 *
 * Context: uses the heap.
 * Return: a reference, or NULL when there is no memory.
 */
MMN_PUBLIC
struct dma_fence *dma_fence_allocate_private_stub(int64_t timestamp);

/* Fences made of fences */

/**
 * dma_fence_is_array - is it an array, see <mmn/dma-fence-array.h>?
 * @fence: or NULL
 *
 * Context: any.
 * Return: true when it is.
 */
MMN_PUBLIC
bool dma_fence_is_array(struct dma_fence *fence);

/**
 * dma_fence_is_chain - is it a node of a chain, see <mmn/dma-fence-chain.h>?
 * @fence: or NULL
 *
 * Context: any.
 * Return: true when it is.
 */
MMN_PUBLIC
bool dma_fence_is_chain(struct dma_fence *fence);

/**
 * dma_fence_is_container - is it one of both?
 * @fence: or NULL
 *
 * Context: any.
 * Return: true when it is.
 */
MMN_PUBLIC
bool dma_fence_is_container(struct dma_fence *fence);

/* For people to look at */

/**
 * struct seq_file - text under construction
 * @buf: where it goes
 * @size: bytes there, with room for the zero at the end
 * @count: characters so far; @size when something did not fit
 */
struct seq_file {
	char *buf;
	size_t size;
	size_t count;
};

/**
 * dma_fence_describe - add one line about a fence
 * @fence: the caller has a reference
 * @seq: "context:seqno timeline driver [un]signalled" and a newline is added
 *
 * Context: any but signal handlers.
 */
MMN_PUBLIC
void dma_fence_describe(struct dma_fence *fence, struct seq_file *seq);

/**
 * dma_fence_driver_name - whose fence it is
 * @fence: the caller has a reference
 *
 * Context: in a read section.
 * Return: valid until the section ends; "detached-driver" when the fence has
 * signalled and lost its ops.
 */
MMN_PUBLIC
const char *dma_fence_driver_name(struct dma_fence *fence);

/**
 * dma_fence_timeline_name - which timeline of the driver it belongs to
 * @fence: the caller has a reference
 *
 * Context: in a read section.
 * Return: valid until the section ends; "signaled-timeline" when the fence has
 * signalled and lost its ops.
 */
MMN_PUBLIC
const char *dma_fence_timeline_name(struct dma_fence *fence);

/**
 * dma_fence_set_deadline - hint when it is wanted
 * @fence: the caller has a reference
 * @deadline: CLOCK_MONOTONIC, nanoseconds; the past means now
 *
 * Context: any; nothing happens if it has signalled.
 */
MMN_PUBLIC
void dma_fence_set_deadline(struct dma_fence *fence, int64_t deadline);

/* Annotations; reports in builds with self-checks, nothing in others */

/**
 * dma_fence_begin_signalling - from here on the thread is on the way to a signal
 *
 * Until the end it must not wait for a fence, nor take a lock that anybody holds
 * while waiting for one, nor allocate from the heap (use mmn_callback_alloc()):
 * all are reported.  The library's own locks are known, and so is
 * struct ww_mutex, which is never taken there.  Sections nest.
 *
 * Context: any.
 * Return: a cookie for dma_fence_end_signalling(): true when it is nested.
 */
MMN_PUBLIC
MMN_MUST_CHECK bool dma_fence_begin_signalling(void);

/**
 * dma_fence_end_signalling - the way to a signal ends
 * @cookie: from dma_fence_begin_signalling()
 *
 * Context: the thread that began it.
 */
MMN_PUBLIC
void dma_fence_end_signalling(bool cookie);

/**
 * dma_fence_might_wait - the caller may wait for a fence here
 *
 * Every wait does it by itself; say it where a wait is rare.
 *
 * Context: where waiting is allowed.
 */
MMN_PUBLIC
void dma_fence_might_wait(void);

#define __dma_fence_might_wait() dma_fence_might_wait()

/**
 * dma_fence_lock_acquired - the caller has taken a lock of its own
 * @lock: names the lock, or all locks of a kind
 * @file: where; a string that stays
 * @line: in @file
 *
 * Locks that the library does not know are judged only if it is told.  A lock
 * that was held across a wait and is taken on the way to a signal, in this order
 * or the other, is reported once, with both places.
 *
 * Context: right after taking it; at most 16 are remembered for a thread.
 */
MMN_PUBLIC
void dma_fence_lock_acquired(const void *lock, const char *file, uint32_t line);

/**
 * dma_fence_lock_released - the caller gives a lock of its own back
 * @lock: as given to dma_fence_lock_acquired()
 *
 * Context: right before releasing it.
 */
MMN_PUBLIC
void dma_fence_lock_released(const void *lock);

/* The kernel's spelling of "the fence's lock, wherever it is". */
#define dma_fence_lock_irqsave(fence, irqflags) \
	do {                                    \
		(irqflags) = 0;                 \
		mmn_spin_lock((fence)->lock);   \
	} while (0)
#define dma_fence_unlock_irqrestore(fence, irqflags) \
	do {                                         \
		(void)(irqflags);                    \
		mmn_spin_unlock((fence)->lock);      \
	} while (0)

MMN_END_DECLS

#endif
