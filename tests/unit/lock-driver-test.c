/* SPDX-License-Identifier: MIT */
/* Whether the calling thread holds the lock bound to a subscription. */
#include "t/tap.h"

#include <mmn/notifier.h>
#include <pthread.h>

#include "base/lock.h"

#ifndef __GLIBC__
#error "what is expected here is true for glibc"
#endif

/* What another thread says about the lock. */
struct answer {
	struct mmn_driver_lock lock;
	bool held;
	bool exclusive;
	bool surely;
};

static void ask(struct answer *answer)
{
	answer->held = mmn_driver_lock_is_held(&answer->lock);
	answer->exclusive = mmn_driver_lock_is_held_exclusive(&answer->lock);
	answer->surely = mmn_driver_lock_is_surely_held(&answer->lock);
}

static void *ask_thread(void *answer)
{
	ask(answer);
	return NULL;
}

static struct answer ask_here(struct mmn_driver_lock lock)
{
	struct answer answer = { .lock = lock };

	ask(&answer);
	return answer;
}

static struct answer ask_elsewhere(struct mmn_driver_lock lock)
{
	struct answer answer = { .lock = lock };
	pthread_t thread;

	t_err(pthread_create(&thread, NULL, ask_thread, &answer), 0);
	pthread_join(thread, NULL);
	return answer;
}

static void check_mutex(int type)
{
	struct mmn_driver_lock lock;
	pthread_mutexattr_t attr;
	pthread_mutex_t mutex;

	pthread_mutexattr_init(&attr);
	t_err(pthread_mutexattr_settype(&attr, type), 0);
	t_err(pthread_mutex_init(&mutex, &attr), 0);
	lock = mmn_driver_mutex(&mutex);

	t_ok(!ask_here(lock).held);
	pthread_mutex_lock(&mutex);
	t_ok(ask_here(lock).held);
	t_ok(ask_here(lock).exclusive);
	t_ok(ask_here(lock).surely);
	t_ok(!ask_elsewhere(lock).held);
	pthread_mutex_unlock(&mutex);
	t_ok(!ask_here(lock).held);
	t_ok(!ask_here(lock).exclusive);
	t_ok(!ask_here(lock).surely);
	pthread_mutex_destroy(&mutex);
	pthread_mutexattr_destroy(&attr);
}

TEST(mutex_of_every_type_knows_its_holder)
{
	check_mutex(PTHREAD_MUTEX_NORMAL);
	check_mutex(PTHREAD_MUTEX_RECURSIVE);
	check_mutex(PTHREAD_MUTEX_ERRORCHECK);
	check_mutex(PTHREAD_MUTEX_ADAPTIVE_NP);
}

TEST(rwlock_knows_its_writer)
{
	pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
	struct mmn_driver_lock lock = mmn_driver_rwlock(&rwlock);

	t_ok(!ask_here(lock).held);
	pthread_rwlock_wrlock(&rwlock);
	t_ok(ask_here(lock).held);
	t_ok(ask_here(lock).exclusive);
	t_ok(ask_here(lock).surely);
	t_ok(!ask_elsewhere(lock).held);
	pthread_rwlock_unlock(&rwlock);
	t_ok(!ask_here(lock).held);
}

TEST(rwlock_held_for_reading_is_held_but_not_exclusive)
{
	pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
	struct mmn_driver_lock lock = mmn_driver_rwlock(&rwlock);

	pthread_rwlock_rdlock(&rwlock);
	t_ok(ask_here(lock).held);
	t_ok(!ask_here(lock).exclusive);
	t_ok(!ask_here(lock).surely);
	pthread_rwlock_unlock(&rwlock);
	t_ok(!ask_here(lock).held);
}

static const void *holder;

static bool is_holder(void *arg)
{
	return *(const void **)arg == mmn_context_self();
}

TEST(predicate_is_asked_with_its_argument)
{
	struct mmn_driver_lock lock = mmn_driver_predicate(is_holder, &holder);

	t_ok(!ask_here(lock).held);
	holder = mmn_context_self();
	t_ok(ask_here(lock).held);
	t_ok(ask_here(lock).exclusive);
	t_ok(!ask_elsewhere(lock).held);
}

TEST(no_lock_is_never_complained_about)
{
	t_ok(ask_here(mmn_driver_no_lock()).held);
	t_ok(ask_here(mmn_driver_no_lock()).exclusive);
	t_ok(!ask_here(mmn_driver_no_lock()).surely);
}
