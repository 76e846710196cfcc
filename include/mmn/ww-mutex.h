/* SPDX-License-Identifier: MIT */
#ifndef MMN_WW_MUTEX_H
#define MMN_WW_MUTEX_H
/*
 * Mutexes of which a thread takes several, in any order.
 *
 * Buffers have no natural order, and one job needs many of them.  So a job has an
 * acquire context, whose age decides when two jobs want what the other has: the
 * younger one is told -EDEADLK, gives everything back, waits for the contended
 * lock alone with ww_mutex_lock_slow(), and starts over.  Who is never told is the
 * oldest, so somebody always gets on, and everybody becomes the oldest.
 *
 *	ww_acquire_init(&ctx, &class);
 * retry:
 *	for each object, the contended one first and by ww_mutex_lock_slow():
 *		if (ww_mutex_lock(&object->lock, &ctx) == -EDEADLK)
 *			unlock all that are held, remember this one, goto retry;
 *	ww_acquire_done(&ctx);
 *	...
 *	unlock all;
 *	ww_acquire_fini(&ctx);
 *
 * <mmn/exec.h> does that.  Names, argument order and return values are those of
 * Linux 6.12.  What differs from the kernel, on purpose:
 *
 * - A lock that is released while threads wait is handed to the first of them;
 *   nobody can come between.
 * - After ww_mutex_unlock() has given the lock away it does not touch it any more:
 *   whoever gets it may free it.
 * - Locking what the calling thread has locked already is -EALREADY also if that
 *   was with another context or with none (and reported: the kernel would hang).
 * - An interruptible wait is interrupted by the thread's dma_fence_cancel, see
 *   dma_fence_cancel_bind().
 *
 * Misuse marked "reported" goes to mmn_debug_set_handler() in builds with
 * self-checks; in all builds it harms nobody but the caller.
 */
#include <errno.h>
#include <mmn/common.h>
#include <mmn/spinlock.h>

MMN_BEGIN_DECLS

struct ww_waiter;

/**
 * struct ww_class - locks that one context may hold together
 * @stamp: private: contexts begun so far
 * @acquire_name: for people
 * @mutex_name: for people
 * @is_wait_die: who is told to back off, see DEFINE_WD_CLASS()
 * @reserved: 0
 */
struct ww_class {
	uint64_t stamp;
	const char *acquire_name;
	const char *mutex_name;
	uint32_t is_wait_die;
	uint32_t reserved;
};

/* clang-format off */
#define WW_CLASS_INIT_(name, die) \
	{ 0, #name "_acquire", #name "_mutex", (die), 0 }
/* clang-format on */

/*
 * Wait-Die: a context that finds a lock in the hands of an older one backs off
 * at once.  More back-offs, but each holds what it has undisturbed.
 */
#define DEFINE_WD_CLASS(name) struct ww_class name = WW_CLASS_INIT_(name, 1)

/*
 * Wound-Wait: a context that finds a lock in the hands of a younger one wounds
 * that, which backs off when it next has to wait for a lock; until then it does
 * not know.  Fewer back-offs.
 */
#define DEFINE_WW_CLASS(name) struct ww_class name = WW_CLASS_INIT_(name, 0)

/**
 * struct ww_mutex - one lock
 * @word: private: who holds it, and whether anybody waits
 * @guard: private: of the queue
 * @reserved: private
 * @queue: private: who waits
 * @ww_class: private
 * @owner: private: which thread holds it
 */
struct ww_mutex {
	unsigned long word;
	struct spinlock guard;
	uint32_t reserved;
	struct ww_waiter *queue;
	struct ww_class *ww_class;
	const void *owner;
};

/* clang-format off */
#define WW_MUTEX_INIT(class_) { 0, MMN_SPINLOCK_INIT, 0, NULL, (class_), NULL }
/* clang-format on */
#define DEFINE_WW_MUTEX(name, class_) \
	struct ww_mutex name = WW_MUTEX_INIT(class_)

/**
 * struct ww_acquire_ctx - one thread's attempt at a set of locks
 * @stamp: private: its age; less is older
 * @ww_class: private
 * @owner: private: the thread
 * @contending_lock: private: what the last -EDEADLK was about
 * @acquired: private: locks held
 * @state: private: what others tell it
 * @done: private
 * @reserved: private
 */
struct ww_acquire_ctx {
	uint64_t stamp;
	struct ww_class *ww_class;
	const void *owner;
	struct ww_mutex *contending_lock;
	uint32_t acquired;
	uint32_t state;
	uint32_t done;
	uint32_t reserved;
};

/**
 * ww_mutex_init - make it unlocked
 * @lock: not in use
 * @ww_class: outlives it
 *
 * Context: any.
 */
MMN_PUBLIC
void ww_mutex_init(struct ww_mutex *lock, struct ww_class *ww_class);

/**
 * ww_mutex_destroy - nobody will lock it again
 * @lock: not held (reported); or NULL
 *
 * Context: any.
 */
MMN_PUBLIC
void ww_mutex_destroy(struct ww_mutex *lock);

/**
 * ww_acquire_init - begin to acquire a set of locks
 * @ctx: memory of the caller; all other calls with it are made by this thread
 * @ww_class: of all locks of the set
 *
 * From here on it grows older.  A thread that backs off keeps its context.
 *
 * Context: any.
 */
MMN_PUBLIC
void ww_acquire_init(struct ww_acquire_ctx *ctx, struct ww_class *ww_class);

/**
 * ww_acquire_done - the set is complete
 * @ctx: not done yet (reported)
 *
 * Optional: what is locked with it afterwards is reported and refused.
 *
 * Context: the thread of the context.
 */
MMN_PUBLIC
void ww_acquire_done(struct ww_acquire_ctx *ctx);

/**
 * ww_acquire_fini - the end of a context
 * @ctx: without locks (reported)
 *
 * Context: the thread of the context (reported).
 */
MMN_PUBLIC
void ww_acquire_fini(struct ww_acquire_ctx *ctx);

/**
 * ww_mutex_lock - take a lock
 * @lock: of the context's class
 * @ctx: or NULL for a plain mutex, which is never told to back off
 *
 * Who waits is served oldest context first; those without one in the order in
 * which they came.  A context that holds no lock never backs off.
 *
 * After -EDEADLK release everything that @ctx holds and call
 * ww_mutex_lock_slow() for this lock; anything else is reported.
 *
 * Context: may sleep; not in callbacks of the notifier, not on the way to a
 * signal (both reported).
 * Ordering: what the last holder wrote is visible.
 * Return: 0; -EALREADY (the thread holds it; reported unless with @ctx);
 * -EDEADLK (back off); -EINVAL (@ctx is of another class or thread, or done;
 * reported).
 */
MMN_PUBLIC
MMN_MUST_CHECK int ww_mutex_lock(struct ww_mutex *lock,
				 struct ww_acquire_ctx *ctx);

/**
 * ww_mutex_lock_interruptible - take a lock unless interrupted
 * @lock: see ww_mutex_lock()
 * @ctx: see ww_mutex_lock()
 *
 * Only waiting is interrupted: a lock that is free is taken.
 *
 * Context: as ww_mutex_lock().
 * Return: as ww_mutex_lock(); -EINTR (the thread's dma_fence_cancel is raised).
 */
MMN_PUBLIC
MMN_MUST_CHECK int ww_mutex_lock_interruptible(struct ww_mutex *lock,
					       struct ww_acquire_ctx *ctx);

/**
 * ww_mutex_lock_slow - wait for the lock that -EDEADLK was about
 * @lock: the contended one
 * @ctx: holds nothing (reported)
 *
 * Context: as ww_mutex_lock().
 */
MMN_PUBLIC
void ww_mutex_lock_slow(struct ww_mutex *lock, struct ww_acquire_ctx *ctx);

/**
 * ww_mutex_lock_slow_interruptible - likewise unless interrupted
 * @lock: the contended one
 * @ctx: holds nothing (reported)
 *
 * Context: as ww_mutex_lock().
 * Return: 0; -EINTR (the thread's dma_fence_cancel is raised); -EALREADY,
 * -EDEADLK, -EINVAL (misuse, as ww_mutex_lock()).
 */
MMN_PUBLIC
MMN_MUST_CHECK int ww_mutex_lock_slow_interruptible(struct ww_mutex *lock,
						    struct ww_acquire_ctx *ctx);

/**
 * ww_mutex_trylock - take a lock if that needs no waiting
 * @lock: may be held by anybody, also the caller
 * @ctx: or NULL; not done, of the lock's class and this thread (reported)
 *
 * Context: any but signal handlers; never sleeps.
 * Ordering: as ww_mutex_lock().
 * Return: 1 when the caller has it now; 0.
 */
MMN_PUBLIC
MMN_MUST_CHECK int ww_mutex_trylock(struct ww_mutex *lock,
				    struct ww_acquire_ctx *ctx);

/**
 * ww_mutex_unlock - give it back
 * @lock: held by the calling thread (otherwise reported, without effect)
 *
 * Context: any but signal handlers; makes a system call only if somebody waits.
 * Ordering: what the caller wrote is visible to the next holder.
 */
MMN_PUBLIC
void ww_mutex_unlock(struct ww_mutex *lock);

/**
 * ww_mutex_is_locked - does anybody hold it?
 * @lock: may change at any time
 *
 * Context: any.
 */
MMN_PUBLIC
bool ww_mutex_is_locked(struct ww_mutex *lock);

MMN_END_DECLS

#endif
