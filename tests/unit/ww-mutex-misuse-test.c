/* SPDX-License-Identifier: MIT */
/*
 * Errors of locking, and misuse: reported where there are self-checks, and harmless
 * everywhere.  The numbers in comments are those of the conformance cases.
 */
#include "t/tap.h"

#include <mmn/debug.h>
#include <mmn/dma-fence.h>
#include <mmn/inject.h>
#include <mmn/ww-mutex.h>
#include <pthread.h>
#include <unistd.h>

#include "base/atomic.h"
#include "resv/ww-mutex.h"
#include "unit/answer-syscall.h"

static DEFINE_WD_CLASS(wait_die);
static DEFINE_WW_CLASS(wound_wait);
static DEFINE_WW_MUTEX(a, &wait_die);
static DEFINE_WW_MUTEX(b, &wait_die);
static struct ww_acquire_ctx ctx;

/* Announce, where reports are made. */
static void expect(const char *text)
{
	if (mmn_debug_is_enabled())
		t_bug_expected(text);
}

static void lock_ok(struct ww_mutex *lock)
{
	t_err(ww_mutex_lock(lock, &ctx), 0);
}

static void refuse(struct ww_mutex *lock, struct ww_acquire_ctx *with)
{
	t_err(ww_mutex_lock(lock, with), -EINVAL);
	t_err(ww_mutex_lock_interruptible(lock, with), -EINVAL);
	t_eq(ww_mutex_trylock(lock, with), 0);
	t_ok(!ww_mutex_is_locked(lock));
}

/* 97 */
TEST(a_context_of_another_class_is_refused)
{
	int i;

	ww_acquire_init(&ctx, &wound_wait);
	for (i = 0; i < 3; i++)
		expect("two classes");
	refuse(&a, &ctx);
	ww_acquire_fini(&ctx);
}

/* 97 */
TEST(a_context_that_has_ended_is_refused)
{
	int i;

	ww_acquire_init(&ctx, &wait_die);
	ww_acquire_fini(&ctx);
	for (i = 0; i < 3; i++)
		expect("the context has ended");
	refuse(&a, &ctx);
}

/* 97 */
TEST(a_context_that_is_done_is_refused)
{
	int i;

	ww_acquire_init(&ctx, &wait_die);
	lock_ok(&b);
	ww_acquire_done(&ctx);
	for (i = 0; i < 3; i++)
		expect("a context that is done");
	refuse(&a, &ctx);
	expect("done twice");
	ww_acquire_done(&ctx);
	ww_mutex_unlock(&b);
	ww_acquire_fini(&ctx);
}

static void *use_context_of_another_thread(void *unused)
{
	int i;

	for (i = 0; i < 5; i++)
		expect("another thread's acquire context");
	refuse(&a, &ctx);
	ww_acquire_done(&ctx);
	ww_acquire_fini(&ctx);
	return unused;
}

/* 97 */
TEST(a_context_of_another_thread_is_refused)
{
	pthread_t thread;

	ww_acquire_init(&ctx, &wait_die);
	t_err(pthread_create(&thread, NULL, use_context_of_another_thread,
			     NULL),
	      0);
	t_err(pthread_join(thread, NULL), 0);
}

static void *unlock_lock_of_another_thread(void *unused)
{
	expect("by a thread that does not hold it");
	ww_mutex_unlock(&a);
	t_ok(ww_mutex_is_locked(&a));
	return unused;
}

/* 97 */
TEST(an_unlock_by_another_thread_has_no_effect)
{
	pthread_t thread;

	ww_acquire_init(&ctx, &wait_die);
	lock_ok(&a);
	t_err(pthread_create(&thread, NULL, unlock_lock_of_another_thread,
			     NULL),
	      0);
	t_err(pthread_join(thread, NULL), 0);
	ww_mutex_unlock(&a);
	expect("by a thread that does not hold it");
	ww_mutex_unlock(&a);
	t_ok(!ww_mutex_is_locked(&a));
	ww_acquire_fini(&ctx);
}

/* 97 */
TEST(a_context_that_ends_with_locks_held_is_reported)
{
	ww_acquire_init(&ctx, &wait_die);
	lock_ok(&a);
	expect("ends with locks held");
	ww_acquire_fini(&ctx);
	ww_mutex_unlock(&a);
}

/* 97 */
TEST(a_lock_that_is_destroyed_while_held_is_reported)
{
	t_err(ww_mutex_lock(&a, NULL), 0);
	expect("destroyed while held");
	ww_mutex_destroy(&a);
	ww_mutex_unlock(&a);
}

/* 89, 97 */
TEST(a_lock_is_not_waited_for_by_its_holder)
{
	t_err(ww_mutex_lock(&a, NULL), 0);
	expect("taken twice");
	t_err(ww_mutex_lock(&a, NULL), -EALREADY);
	ww_acquire_init(&ctx, &wait_die);
	expect("two contexts");
	expect("taken twice");
	t_err(ww_mutex_lock(&a, &ctx), -EALREADY);
	ww_mutex_unlock(&a);
	ww_acquire_fini(&ctx);
}

/* 97 */
TEST(two_contexts_of_a_class_are_reported)
{
	struct ww_acquire_ctx second;

	ww_acquire_init(&ctx, &wait_die);
	ww_acquire_init(&second, &wait_die);
	lock_ok(&a);
	expect("two contexts");
	t_err(ww_mutex_lock(&b, &second), 0);
	ww_mutex_unlock(&b);
	expect("two contexts");
	t_err(ww_mutex_lock(&b, NULL), 0);
	ww_mutex_unlock(&b);
	/* Who does not wait is in nobody's way. */
	t_eq(ww_mutex_trylock(&b, NULL), 1);
	ww_mutex_unlock(&b);
	ww_mutex_unlock(&a);
	ww_acquire_fini(&second);
	ww_acquire_fini(&ctx);
}

TEST(sets_of_two_classes_are_held_together)
{
	DEFINE_WW_MUTEX(other, &wound_wait);
	struct ww_acquire_ctx other_ctx;

	ww_acquire_init(&ctx, &wait_die);
	ww_acquire_init(&other_ctx, &wound_wait);
	lock_ok(&a);
	t_err(ww_mutex_lock(&other, &other_ctx), 0);
	lock_ok(&b);
	ww_mutex_unlock(&a);
	ww_mutex_unlock(&other);
	ww_mutex_unlock(&b);
	ww_acquire_fini(&other_ctx);
	ww_acquire_fini(&ctx);
	t_eq(t_bugs_seen(), 0);
}

/* The main thread holds a, and its next lock is refused. */
static void begin_back_off(void)
{
	ww_acquire_init(&ctx, &wait_die);
	lock_ok(&a);
	t_err(mmn_inject_set(MMN_INJECT_WW_DEADLOCK, 1, 0), 0);
	t_err(ww_mutex_lock(&b, &ctx), -EDEADLK);
	mmn_inject_clear();
}

/* 97 */
TEST(another_lock_after_a_back_off_is_reported)
{
	begin_back_off();
	ww_mutex_unlock(&a);
	expect("another lock than the contended one");
	lock_ok(&a);
	ww_mutex_unlock(&a);
	ww_acquire_fini(&ctx);
}

/* 97 */
TEST(locks_held_after_a_back_off_are_reported)
{
	begin_back_off();
	expect("with locks held");
	lock_ok(&b);
	ww_mutex_unlock(&a);
	ww_mutex_unlock(&b);
	ww_acquire_fini(&ctx);
}

/* 97 */
TEST(a_slow_lock_with_locks_held_is_reported)
{
	begin_back_off();
	expect("a slow lock with locks held");
	expect("with locks held");
	ww_mutex_lock_slow(&b, &ctx);
	ww_mutex_unlock(&a);
	ww_mutex_unlock(&b);
	ww_acquire_fini(&ctx);
}

/* 97 */
TEST(a_slow_lock_without_a_back_off_is_reported)
{
	ww_acquire_init(&ctx, &wait_die);
	expect("without -EDEADLK before it");
	t_err(ww_mutex_lock_slow_interruptible(&a, &ctx), 0);
	ww_mutex_unlock(&a);
	ww_acquire_fini(&ctx);
}

struct interrupted {
	struct ww_mutex lock;
	struct dma_fence_cancel cancel;
	bool slow;
};

static void *be_interrupted(void *arg)
{
	struct interrupted *it = arg;
	struct ww_acquire_ctx own;

	dma_fence_cancel_bind(&it->cancel);
	ww_acquire_init(&own, &wait_die);
	if (it->slow) {
		/* As after a back-off. */
		own.contending_lock = &it->lock;
		t_err(ww_mutex_lock_slow_interruptible(&it->lock, &own),
		      -EINTR);
	} else {
		t_err(ww_mutex_lock_interruptible(&it->lock, &own), -EINTR);
	}
	ww_acquire_fini(&own);
	return NULL;
}

static void interrupt(bool slow, bool raise_first)
{
	struct interrupted it = { .lock = WW_MUTEX_INIT(&wait_die),
				  .slow = slow };
	pthread_t thread;

	t_err(ww_mutex_lock(&it.lock, NULL), 0);
	if (raise_first)
		dma_fence_cancel_raise(&it.cancel);
	t_err(pthread_create(&thread, NULL, be_interrupted, &it), 0);
	/* relaxed: nothing is read but this */
	while (!raise_first && !(mmn_load_relaxed(&it.lock.word) & WW_QUEUED))
		usleep(100);
	dma_fence_cancel_raise(&it.cancel);
	t_err(pthread_join(thread, NULL), 0);
	t_ok(!(it.lock.word & WW_QUEUED));
	ww_mutex_unlock(&it.lock);
	t_ok(!ww_mutex_is_locked(&it.lock));
}

TEST(a_wait_for_a_lock_is_interrupted)
{
	interrupt(false, false);
	interrupt(true, false);
	interrupt(false, true);
	interrupt(true, true);
}

TEST(a_wait_for_a_lock_is_interrupted_on_old_systems)
{
	answer_syscall(SYS_futex_waitv, ENOSYS);
	interrupt(false, false);
	interrupt(true, false);
}

TEST(a_lock_that_is_free_is_taken_though_interrupted)
{
	struct dma_fence_cancel cancel = { 0 };

	dma_fence_cancel_bind(&cancel);
	dma_fence_cancel_raise(&cancel);
	ww_acquire_init(&ctx, &wait_die);
	t_err(ww_mutex_lock_interruptible(&a, &ctx), 0);
	ww_mutex_unlock(&a);
	ww_acquire_fini(&ctx);
	dma_fence_cancel_bind(NULL);
}

static void *wait_interruptibly(void *arg)
{
	struct interrupted *it = arg;

	dma_fence_cancel_bind(&it->cancel);
	t_err(ww_mutex_lock_interruptible(&it->lock, NULL), 0);
	ww_mutex_unlock(&it->lock);
	return NULL;
}

TEST(a_wait_that_could_be_interrupted_gets_the_lock)
{
	struct interrupted it = { .lock = WW_MUTEX_INIT(&wait_die) };
	pthread_t thread;

	t_err(ww_mutex_lock(&it.lock, NULL), 0);
	t_err(pthread_create(&thread, NULL, wait_interruptibly, &it), 0);
	/* relaxed: nothing is read but this */
	while (!(mmn_load_relaxed(&it.lock.word) & WW_QUEUED))
		usleep(100);
	ww_mutex_unlock(&it.lock);
	t_err(pthread_join(thread, NULL), 0);
	t_ok(!ww_mutex_is_locked(&it.lock));
}
