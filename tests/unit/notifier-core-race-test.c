/* SPDX-License-Identifier: MIT */
/*
 * Threads against each other, on purpose at the places where they race: removal
 * in callbacks, classic subscriptions that come and go, shared ones.
 */
#include "t/tap.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mmn/inject.h>
#include <mmn/memory.h>
#include <mmn/notifier.h>

#include "notifier/state.h"

enum { ROUNDS = 2000 };

static struct mmn_state *state;

static void begin(void)
{
	t_may_keep_mapped(4 << 20, "memory for callbacks is kept for reuse");
	t_err(mmn_state_create(&state), 0);
	/* Half of the passes through a race's window are slowed down. */
	t_err(mmn_inject_set(MMN_INJECT_DELAY, 64, 1), 0);
}

static void finish(void)
{
	mmn_inject_clear();
	t_ok(state_is_idle(state));
	t_ok(list_is_empty(&state->classics));
	t_eq(state->refs, 1);
	mmn_state_put(state);
}

static void start_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
	t_eq(pthread_create(thread, NULL, run, arg), 0);
}

static void join(pthread_t thread)
{
	t_eq(pthread_join(thread, NULL), 0);
}

static void change(uintptr_t start, uintptr_t last)
{
	struct mmn_invalidate_desc desc;

	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, start, last);
	t_err(mmn_invalidate_start(&desc), 0);
	t_err(mmn_invalidate_end(&desc), 0);
}

static bool stop;

static bool is_stopped(void)
{
	/* relaxed: a flag */
	return mmn_load_relaxed(&stop);
}

static void stop_all(void)
{
	/* relaxed: a flag */
	mmn_store_relaxed(&stop, true);
}

static void *flood(void *arg)
{
	(void)arg;
	while (!is_stopped())
		change(0, 999);
	return NULL;
}

/* ------------------------------------------------------------------ */
/* Removal in callbacks                                               */
/* ------------------------------------------------------------------ */

struct once {
	struct mmn_range_subscription sub;
	uint32_t calls;
	uint32_t releases;
};

static struct once *once_of(struct mmn_range_subscription *sub)
{
	return container_of(sub, struct once, sub);
}

/* The first call removes it; later ones race with that. */
static bool remove_self(struct mmn_range_subscription *sub,
			const struct mmn_invalidate_desc *desc,
			uint64_t cur_seq)
{
	struct once *once = once_of(sub);

	(void)desc;
	(void)cur_seq;
	/* relaxed: counted only */
	if (mmn_fetch_add_relaxed(&once->calls, 1) == 0)
		t_err(mmn_range_subscription_remove_deferred(sub), 0);
	t_eq(mmn_load_relaxed(&once->releases), 0);
	return true;
}

static uint32_t nr_released;

static void release_self(struct mmn_range_subscription *sub)
{
	struct once *once = once_of(sub);

	t_eq(mmn_fetch_add_relaxed(&once->releases, 1), 0);
	memset(&once->sub, 0xee, sizeof(once->sub));
	/* relaxed: counted only */
	mmn_fetch_add_relaxed(&nr_released, 1);
}

static const struct mmn_range_ops once_ops = {
	.invalidate = remove_self,
	.release = release_self,
};

TEST(a_subscription_that_removes_itself_is_released_once, .timeout = 60)
{
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &once_ops };
	static struct once once[ROUNDS];
	pthread_t threads[2];
	int i;

	begin();
	for (i = 0; i < 2; i++)
		start_thread(&threads[i], flood, NULL);
	for (i = 0; i < ROUNDS; i++) {
		t_err(mmn_range_subscription_init(&once[i].sub, &config), 0);
		t_err(mmn_range_subscription_insert(&once[i].sub, state, 100,
						    199),
		      0);
	}
	while (mmn_load_relaxed(&nr_released) < ROUNDS)
		usleep(100);
	stop_all();
	for (i = 0; i < 2; i++)
		join(threads[i]);
	t_eq(nr_released, ROUNDS);
	finish();
}

static bool take_note(struct mmn_range_subscription *sub,
		      const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	(void)desc;
	mmn_range_set_seq(sub, cur_seq);
	/* freed and poisoned memory would show here */
	t_eq(mmn_load_relaxed(&once_of(sub)->releases), 0);
	return true;
}

static const struct mmn_range_ops note_ops = { .invalidate = take_note };

TEST(memory_may_be_poisoned_after_remove_under_a_flood, .timeout = 60)
{
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &note_ops };
	pthread_t threads[2];
	int i;

	begin();
	for (i = 0; i < 2; i++)
		start_thread(&threads[i], flood, NULL);
	for (i = 0; i < ROUNDS; i++) {
		struct once *once = aligned_alloc(64, sizeof(*once));

		t_ok(once);
		memset(once, 0, sizeof(*once));
		t_err(mmn_range_subscription_init(&once->sub, &config), 0);
		t_err(mmn_range_subscription_insert(&once->sub, state, 100,
						    199),
		      0);
		t_err(mmn_range_subscription_remove(&once->sub), 0);
		memset(once, 0xee, sizeof(*once));
		free(once);
	}
	stop_all();
	for (i = 0; i < 2; i++)
		join(threads[i]);
	finish();
}

TEST(of_two_removers_one_wins, .timeout = 60)
{
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &note_ops };
	struct once once = { 0 };
	int i;

	begin();
	t_err(mmn_range_subscription_init(&once.sub, &config), 0);
	for (i = 0; i < 3; i++) {
		t_err(mmn_range_subscription_insert(&once.sub, state, 0, 9), 0);
		t_err(mmn_range_subscription_insert(&once.sub, state, 0, 9),
		      -EEXIST);
		t_err(mmn_range_subscription_remove(&once.sub), 0);
		t_err(mmn_range_subscription_remove(&once.sub), -ENOENT);
	}
	finish();
}

/* ------------------------------------------------------------------ */
/* Classic subscriptions                                              */
/* ------------------------------------------------------------------ */

struct balance {
	struct mmn_subscription sub;
	/* starts minus ends */
	int32_t open;
	uint32_t starts;
	uint32_t released;
};

static struct balance *balance_of(struct mmn_subscription *sub)
{
	return container_of(sub, struct balance, sub);
}

static int balance_start(struct mmn_subscription *sub,
			 const struct mmn_invalidate_desc *desc)
{
	struct balance *balance = balance_of(sub);

	(void)desc;
	/* relaxed, both: counted only */
	mmn_fetch_add_relaxed(&balance->open, 1);
	mmn_fetch_add_relaxed(&balance->starts, 1);
	return 0;
}

static void balance_end(struct mmn_subscription *sub,
			const struct mmn_invalidate_desc *desc)
{
	struct balance *balance = balance_of(sub);

	(void)desc;
	/* relaxed: counted only */
	t_gt(mmn_fetch_sub_relaxed(&balance->open, 1), 0);
}

static void balance_release(struct mmn_subscription *sub, struct mmn_state *of)
{
	t_eq(of, state);
	/* relaxed: counted only */
	mmn_fetch_add_relaxed(&balance_of(sub)->released, 1);
}

static const struct mmn_subscription_ops balance_ops = {
	.release = balance_release,
	.invalidate_range_start = balance_start,
	.invalidate_range_end = balance_end,
};

TEST(no_end_comes_without_its_start, .timeout = 60)
{
	struct balance balance;
	pthread_t threads[2];
	uint32_t starts = 0;
	int i;

	begin();
	for (i = 0; i < 2; i++)
		start_thread(&threads[i], flood, NULL);
	for (i = 0; i < ROUNDS / 4; i++) {
		memset(&balance, 0, sizeof(balance));
		balance.sub.ops = &balance_ops;
		t_err(mmn_subscription_register(&balance.sub, state), 0);
		usleep(i % 8 * 10);
		t_err(mmn_subscription_unregister(&balance.sub), 0);
		t_eq(balance.released, 1);
		t_err(mmn_subscription_unregister(&balance.sub), -ENOENT);
		t_ge(balance.open, 0);
		starts += balance.starts;
	}
	/* However busy the machine: it has been told of some in the end. */
	memset(&balance, 0, sizeof(balance));
	balance.sub.ops = &balance_ops;
	t_err(mmn_subscription_register(&balance.sub, state), 0);
	while (!starts && !mmn_load_relaxed(&balance.starts))
		usleep(100);
	t_err(mmn_subscription_unregister(&balance.sub), 0);
	stop_all();
	for (i = 0; i < 2; i++)
		join(threads[i]);
	t_ge(balance.open, 0);
	finish();
}

static void *release_state(void *arg)
{
	(void)arg;
	t_err(mmn_state_release(state), 0);
	return NULL;
}

TEST(release_and_unregister_agree_on_who_calls_release, .timeout = 60)
{
	struct balance balance;
	pthread_t thread;
	int i, ret;

	for (i = 0; i < 200; i++) {
		begin();
		memset(&balance, 0, sizeof(balance));
		balance.sub.ops = &balance_ops;
		t_err(mmn_subscription_register(&balance.sub, state), 0);
		start_thread(&thread, release_state, NULL);
		usleep(i % 10 * 10);
		ret = mmn_subscription_unregister(&balance.sub);
		t_ok(ret == 0 || ret == -ENOENT);
		t_eq(balance.released, 1);
		memset(&balance, 0xee, sizeof(balance));
		join(thread);
		finish();
	}
}

/* ------------------------------------------------------------------ */
/* Shared subscriptions                                               */
/* ------------------------------------------------------------------ */

static uint32_t nr_allocated, nr_freed;

static int shared_start(struct mmn_subscription *sub,
			const struct mmn_invalidate_desc *desc)
{
	(void)sub;
	(void)desc;
	return 0;
}

static int shared_alloc(struct mmn_state *of, struct mmn_subscription **ret_sub)
{
	struct mmn_subscription *sub = mmn_callback_alloc(sizeof(*sub));

	t_eq(of, state);
	if (!sub)
		return -ENOMEM;
	memset(sub, 0, sizeof(*sub));
	mmn_fetch_add_relaxed(&nr_allocated, 1);
	*ret_sub = sub;
	return 0;
}

static void shared_free(struct mmn_subscription *sub)
{
	memset(sub, 0xee, sizeof(*sub));
	mmn_callback_free(sub);
	/* relaxed: counted only */
	mmn_fetch_add_relaxed(&nr_freed, 1);
}

static const struct mmn_subscription_ops shared_ops = {
	.invalidate_range_start = shared_start,
	.alloc_subscription = shared_alloc,
	.free_subscription = shared_free,
};

static void *get_and_put(void *arg)
{
	struct mmn_subscription *sub;
	int i;

	(void)arg;
	for (i = 0; i < ROUNDS / 8; i++) {
		t_err(mmn_subscription_get(&shared_ops, state, &sub), 0);
		t_eq(sub->ops, &shared_ops);
		t_err(mmn_subscription_put(sub), 0);
	}
	return NULL;
}

TEST(shared_subscriptions_are_freed_as_often_as_made, .timeout = 60)
{
	pthread_t flooder, threads[2];
	int i;

	begin();
	start_thread(&flooder, flood, NULL);
	for (i = 0; i < 2; i++)
		start_thread(&threads[i], get_and_put, NULL);
	for (i = 0; i < 2; i++)
		join(threads[i]);
	t_err(mmn_subscription_synchronize(), 0);
	t_gt(nr_allocated, 0);
	t_eq(mmn_load_relaxed(&nr_freed), mmn_load_relaxed(&nr_allocated));
	stop_all();
	join(flooder);
	finish();
}

TEST(two_gets_share_one_object_and_the_last_put_frees_it)
{
	struct mmn_subscription *a, *b;

	begin();
	t_err(mmn_subscription_get(&shared_ops, state, &a), 0);
	t_err(mmn_subscription_get(&shared_ops, state, &b), 0);
	t_eq(a, b);
	classic_of(a)->users = UINT32_MAX;
	t_err(mmn_subscription_get(&shared_ops, state, &b), -EOVERFLOW);
	classic_of(a)->users = 2;
	t_err(mmn_subscription_put(a), 0);
	t_eq(nr_freed, 0);
	t_err(mmn_subscription_put(a), 0);
	t_eq(nr_freed, 1);
	finish();
}

/* ------------------------------------------------------------------ */
/* Signal handlers                                                    */
/* ------------------------------------------------------------------ */

static void change_in_handler(int signal)
{
	(void)signal;
	change(100, 199);
}

TEST(a_handler_may_change_memory_at_any_moment, .timeout = 60)
{
	struct sigaction action = { .sa_handler = change_in_handler };
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &note_ops };
	struct once once = { 0 };
	pthread_t main_thread = pthread_self();
	pthread_t thread;
	int i;

	if (MMN_TSAN)
		t_skip("ThreadSanitizer keeps signals back and runs their "
		       "handlers inside pthread_mutex_lock()");
	begin();
	t_eq(sigaction(SIGUSR1, &action, NULL), 0);
	start_thread(&thread, flood, NULL);
	t_err(mmn_range_subscription_init(&once.sub, &config), 0);
	for (i = 0; i < ROUNDS; i++) {
		pthread_kill(i & 1 ? thread : main_thread, SIGUSR1);
		t_err(mmn_range_subscription_insert(&once.sub, state, 100, 199),
		      0);
		pthread_kill(thread, SIGUSR1);
		change(150, 160);
		t_err(mmn_range_subscription_remove(&once.sub), 0);
	}
	stop_all();
	join(thread);
	finish();
}
