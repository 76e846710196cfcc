/* SPDX-License-Identifier: MIT */
/*
 * Each errno that <mmn/notifier.h> names and that no other conformance test
 * provokes on its way.
 */
#include "unit/conformance.h"

#include <string.h>

#include <mmn/inject.h>

static bool accept(struct mmn_range_subscription *sub,
		   const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	return true;
}

static const struct mmn_range_ops ops = { .invalidate = accept };

static bool is_held(void *lock)
{
	return true;
}

static int init_with_lock(struct mmn_driver_lock lock)
{
	struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = &ops,
		.lock = lock,
	};
	struct mmn_range_subscription sub;

	return mmn_range_subscription_init(&sub, &config);
}

TEST(init_wants_a_lock_for_each_kind_that_needs_one)
{
	struct mmn_driver_lock lock = mmn_driver_no_lock();
	pthread_rwlock_t rwlock;
	pthread_mutex_t mutex;

	t_err(init_with_lock(mmn_driver_no_lock()), 0);
	t_err(init_with_lock(mmn_driver_mutex(&mutex)), 0);
	t_err(init_with_lock(mmn_driver_rwlock(&rwlock)), 0);
	t_err(init_with_lock(mmn_driver_predicate(is_held, NULL)), 0);
	t_err(init_with_lock(mmn_driver_predicate(is_held, &mutex)), 0);

	t_err(init_with_lock(mmn_driver_mutex(NULL)), -EINVAL);
	t_err(init_with_lock(mmn_driver_rwlock(NULL)), -EINVAL);
	t_err(init_with_lock(mmn_driver_predicate(NULL, &mutex)), -EINVAL);
	lock.kind = MMN_DRIVER_LOCK_PREDICATE + 1;
	lock.lock = &mutex;
	lock.is_held = is_held;
	t_err(init_with_lock(lock), -EINVAL);
}

TEST(init_refuses_unknown_flags)
{
	struct mmn_range_config config = {
		.size = sizeof(config),
		.flags = 2,
		.ops = &ops,
	};
	struct mmn_range_subscription sub;

	t_err(mmn_range_subscription_init(&sub, &config), -EINVAL);
	config.flags = 1u << 31;
	t_err(mmn_range_subscription_init(&sub, &config), -EINVAL);
}

TEST(init_takes_a_newer_config_that_asks_for_nothing_new)
{
	struct {
		struct mmn_range_config config;
		uint64_t newer[4];
	} future = { .config = { .size = sizeof(future), .ops = &ops } };
	struct mmn_range_subscription sub;

	t_err(mmn_range_subscription_init(&sub, &future.config), 0);
	future.newer[3] = UINT64_C(1) << 63;
	t_err(mmn_range_subscription_init(&sub, &future.config), -E2BIG);
	future.newer[3] = 0;
	future.newer[0] = 1;
	t_err(mmn_range_subscription_init(&sub, &future.config), -E2BIG);
}

TEST(init_takes_an_older_config_without_its_last_members)
{
	struct mmn_range_config config = {
		.size = offsetof(struct mmn_range_config, lock),
		.ops = &ops,
		/* Beyond the size: not looked at. */
		.lock = { .kind = 77 },
		.owner = &config,
	};
	struct mmn_range_subscription sub;

	t_err(mmn_range_subscription_init(&sub, &config), 0);
}

TEST(init_refuses_a_config_that_has_no_room_for_the_ops)
{
	struct mmn_range_config config = { .ops = &ops };
	struct mmn_range_subscription sub;

	t_err(mmn_range_subscription_init(&sub, &config), -EINVAL);
	config.size = offsetof(struct mmn_range_config, ops);
	t_err(mmn_range_subscription_init(&sub, &config), -EINVAL);
}

TEST(release_of_a_state_happens_once)
{
	struct mmn_state *state = new_state();

	t_err(mmn_state_release(state), 0);
	t_err(mmn_state_release(state), -EALREADY);
	t_err(mmn_state_release(state), -EALREADY);
	mmn_state_put(state);
}

TEST(register_refuses_a_subscriber_without_ops)
{
	struct mmn_state *state = new_state();
	struct mmn_subscription sub = { 0 };

	t_err(mmn_subscription_register(&sub, state), -EINVAL);
	t_err(mmn_subscription_unregister(&sub), -ENOENT);
	mmn_state_put(state);
}

TEST(second_register_is_refused)
{
	struct mmn_state *state = new_state(), *other = new_state();
	struct classic x;

	classic_add(&x, NULL, &classic_ops, state);
	t_err(mmn_subscription_register(&x.sub, state), -EEXIST);
	t_err(mmn_subscription_register(&x.sub, other), -EEXIST);
	change(other, 0, 99);
	t_eq(count_of(&x.starts), 0);
	change(state, 0, 99);
	t_eq(count_of(&x.starts), 1);
	t_eq(count_of(&x.ends), 1);
	t_err(mmn_subscription_unregister(&x.sub), 0);
	t_err(mmn_subscription_unregister(&x.sub), -ENOENT);
	t_eq(count_of(&x.releases), 1);
	mmn_state_put(state);
	mmn_state_put(other);
}

TEST(register_into_a_released_state_is_refused)
{
	struct mmn_state *state = new_state();
	struct classic x;

	t_err(mmn_state_release(state), 0);
	classic_init(&x, NULL, &classic_ops);
	t_err(mmn_subscription_register(&x.sub, state), -EINVAL);
	t_err(mmn_subscription_unregister(&x.sub), -ENOENT);
	t_eq(count_of(&x.releases), 0);
	mmn_state_put(state);
}

TEST(register_inside_an_own_change_is_a_deadlock)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct classic x;
	struct driver a;

	/* Both when the change hit somebody and when it hit nobody. */
	driver_add(&a, NULL, state, 0, 99);
	classic_init(&x, NULL, &classic_ops);
	change_open(&desc, state, 0, 99);
	t_err(mmn_subscription_register(&x.sub, state), -EDEADLK);
	change_end(&desc);
	change_open(&desc, state, 500, 599);
	t_err(mmn_subscription_register(&x.sub, state), -EDEADLK);
	change_end(&desc);
	t_err(mmn_subscription_register(&x.sub, state), 0);
	t_err(mmn_subscription_unregister(&x.sub), 0);
	driver_remove(&a);
	mmn_state_put(state);
}

/* What a callback may not do, asked from a range callback and a classic one. */
struct forbidden {
	struct classic registered, other;
	struct driver removable;
	unsigned int asked;
};

static void try_forbidden(struct forbidden *forbidden,
			  const struct mmn_invalidate_desc *desc)
{
	forbidden->asked++;
	report_expected("remove in a callback");
	t_err(mmn_range_subscription_remove(&forbidden->removable.sub),
	      -EDEADLK);
	report_expected("register in a callback");
	t_err(mmn_subscription_register(&forbidden->other.sub, desc->state),
	      -EDEADLK);
	report_expected("unregister in a callback");
	t_err(mmn_subscription_unregister(&forbidden->registered.sub),
	      -EDEADLK);
	report_expected("synchronize in a callback");
	t_err(mmn_subscription_synchronize(), -EDEADLK);
}

static void try_in_range_callback(struct driver *driver,
				  const struct mmn_invalidate_desc *desc)
{
	try_forbidden(driver->arg, desc);
}

static void try_in_classic_callback(struct classic *classic,
				    const struct mmn_invalidate_desc *desc)
{
	try_forbidden(classic->arg, desc);
}

TEST(calls_that_would_wait_for_the_callback_are_refused_in_it)
{
	struct mmn_state *state = new_state();
	struct forbidden forbidden = { 0 };
	struct driver asking;
	struct classic asking_too;

	driver_add(&forbidden.removable, NULL, state, 5000, 5999);
	classic_add(&forbidden.registered, NULL, &classic_ops, state);
	classic_init(&forbidden.other, NULL, &classic_ops);

	driver_add(&asking, NULL, state, 0, 99);
	asking.hook = try_in_range_callback;
	asking.arg = &forbidden;
	change(state, 0, 99);
	t_eq(forbidden.asked, 1);
	asking.hook = NULL;

	classic_add(&asking_too, NULL, &classic_ops, state);
	asking_too.hook = try_in_classic_callback;
	asking_too.arg = &forbidden;
	change(state, 0, 99);
	t_eq(forbidden.asked, 2);
	asking_too.hook = NULL;

	/* None of it had an effect. */
	t_eq(count_of(&forbidden.registered.releases), 0);
	change(state, 5000, 5000);
	t_eq(driver_calls(&forbidden.removable), 1);
	t_err(mmn_subscription_unregister(&forbidden.registered.sub), 0);
	t_err(mmn_subscription_unregister(&asking_too.sub), 0);
	t_eq(count_of(&forbidden.other.starts), 0);
	driver_remove(&forbidden.removable);
	driver_remove(&asking);
	mmn_state_put(state);
}

static int alloc_error;

static int fail_to_alloc(struct mmn_state *state,
			 struct mmn_subscription **ret_sub)
{
	return alloc_error;
}

static void never_free(struct mmn_subscription *sub)
{
	t_fail("nothing was allocated");
}

TEST(get_passes_on_what_the_allocation_said)
{
	static const struct mmn_subscription_ops failing = {
		.alloc_subscription = fail_to_alloc,
		.free_subscription = never_free,
	};
	struct mmn_state *state = new_state();
	struct mmn_subscription *sub = NULL;

	alloc_error = -ENOMEM;
	t_err(mmn_subscription_get(&failing, state, &sub), -ENOMEM);
	alloc_error = -EPERM;
	t_err(mmn_subscription_get(&failing, state, &sub), -EPERM);
	t_eq(sub, NULL);
	t_err(mmn_subscription_synchronize(), 0);
	mmn_state_put(state);
}

TEST(get_refuses_ops_that_cannot_allocate)
{
	struct mmn_subscription_ops none = { 0 };
	struct mmn_subscription_ops no_free = {
		.alloc_subscription = fail_to_alloc,
	};
	struct mmn_subscription_ops no_alloc = {
		.free_subscription = never_free,
	};
	struct mmn_state *state = new_state();
	struct mmn_subscription *sub = NULL;

	t_err(mmn_subscription_get(&none, state, &sub), -EINVAL);
	t_err(mmn_subscription_get(&no_free, state, &sub), -EINVAL);
	t_err(mmn_subscription_get(&no_alloc, state, &sub), -EINVAL);
	t_err(mmn_subscription_get(NULL, state, &sub), -EINVAL);
	t_eq(sub, NULL);
	mmn_state_put(state);
}

TEST(get_fails_as_register_does)
{
	static const struct mmn_subscription_ops failing_ops = {
		.alloc_subscription = fail_to_alloc,
		.free_subscription = never_free,
	};
	struct mmn_state *state = new_state();
	struct mmn_subscription *sub = NULL;
	struct mmn_invalidate_desc desc;

	/* Its own change would wait for itself. */
	alloc_error = -EPERM;
	change_open(&desc, state, 0, 99);
	t_err(mmn_subscription_get(&failing_ops, state, &sub), -EDEADLK);
	change_end(&desc);
	t_eq(sub, NULL);
	mmn_state_put(state);
}

TEST(create_without_memory_fails_and_can_be_tried_again)
{
	struct mmn_state *state = NULL;

	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_err(mmn_state_create(&state), -ENOMEM);
	t_eq(state, NULL);
	mmn_inject_clear();
	mmn_state_put(new_state());
}

TEST(destructors_take_null)
{
	mmn_state_put(NULL);
	t_ok(true);
}

TEST(no_call_touches_errno)
{
	struct mmn_state *state = new_state();
	struct changer changer;
	struct driver a;
	uint64_t seq;

	driver_init(&a, NULL);
	errno = 77;
	t_err(mmn_range_subscription_insert(&a.sub, state, 1, 0), -EINVAL);
	t_err(mmn_range_subscription_insert(&a.sub, state, 0, 99), 0);
	changer_start(&changer, state, 0, 99);
	t_err(changer_join(&changer), 0);
	t_err(mmn_range_read_begin_try(&a.sub, &seq), -EAGAIN);
	t_err(mmn_range_read_begin_timed(&a.sub, 1, &seq), -ETIMEDOUT);
	change_end(&changer.desc);
	change(state, 0, 99);
	t_err(mmn_range_subscription_remove(&a.sub), 0);
	t_err(mmn_range_subscription_remove(&a.sub), -ENOENT);
	t_eq(errno, 77);
	mmn_state_put(state);
}

TEST(set_seq_and_retry_without_the_drivers_lock_are_reported)
{
	struct mmn_state *state = new_state();
	struct driver a;
	bool retry;

	t_need_selfcheck();
	driver_add(&a, NULL, state, 0, 99);
	t_bug_expected("read_retry without the driver's lock");
	retry = mmn_range_read_retry(&a.sub, begin(&a));
	t_ok(!retry);
	a.finds_it_locked = true;
	t_bug_expected("set_seq without the driver's lock");
	change(state, 0, 99);
	t_eq(t_bugs_seen(), 2);
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(change_by_a_thread_that_holds_a_drivers_lock_is_reported)
{
	struct mmn_state *state = new_state();
	struct driver a;

	t_need_selfcheck();
	driver_add(&a, NULL, state, 0, 99);
	a.finds_it_locked = true;
	pthread_mutex_lock(&a.lock);
	t_bug_expected("the lock of its subscriber held");
	change(state, 0, 99);
	t_eq(t_bugs_seen(), 1);
	/* One that does not overlap calls nobody. */
	change(state, 100, 199);
	pthread_mutex_unlock(&a.lock);
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(reader_that_holds_the_drivers_lock_is_reported)
{
	struct mmn_state *state = new_state();
	struct driver a;

	t_need_selfcheck();
	driver_add(&a, NULL, state, 0, 99);
	pthread_mutex_lock(&a.lock);
	t_bug_expected("read_begin with the driver's lock held");
	begin(&a);
	pthread_mutex_unlock(&a.lock);
	t_eq(t_bugs_seen(), 1);
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(remove_by_a_thread_that_holds_the_drivers_lock_is_reported)
{
	struct mmn_state *state = new_state();
	struct driver a;

	t_need_selfcheck();
	driver_add(&a, NULL, state, 0, 99);
	pthread_mutex_lock(&a.lock);
	t_bug_expected("remove with the driver's lock held");
	t_err(mmn_range_subscription_remove(&a.sub), 0);
	pthread_mutex_unlock(&a.lock);
	t_eq(t_bugs_seen(), 1);
	mmn_state_put(state);
}

static void read_in_callback(struct driver *driver,
			     const struct mmn_invalidate_desc *desc)
{
	struct driver *other = driver->arg;

	t_bug_expected("read_begin in a callback");
	t_ok(mmn_range_read_begin(&other->sub) & 1);
}

TEST(reader_in_a_callback_is_reported)
{
	struct mmn_state *state = new_state();
	struct driver a, b;

	t_need_selfcheck();
	driver_add(&a, NULL, state, 0, 99);
	driver_add(&b, NULL, state, 200, 299);
	a.hook = read_in_callback;
	a.arg = &b;
	change(state, 0, 99);
	t_eq(t_bugs_seen(), 1);
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}
