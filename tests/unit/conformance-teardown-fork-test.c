/* SPDX-License-Identifier: MIT */
/*
 * Conformance group X: the end of an address space, fork, many address spaces,
 * and the classic subscribers.
 */
#include "unit/conformance.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <mmn/memory.h>

/* case 101 */
TEST(release_calls_everybody_once_over_everything)
{
	struct mmn_state *state = new_state();
	struct driver a, b;
	uint64_t seq;

	driver_add(&b, "b", state, 4096, 8191);
	driver_add(&a, "a", state, 0, 0);
	seq = begin(&a);
	t_err(mmn_state_release(state), 0);
	t_streq(journal(), "a b");
	t_eq(a.seen.event, MMN_EVENT_RELEASE);
	t_ok(mmn_invalidate_is_blockable(&a.seen));
	t_eq(a.seen.start, 0);
	t_eq(a.seen.last, UINTPTR_MAX);
	t_eq(a.seen.state, state);
	t_ok(driver_retry(&a, seq));
	/* The change has been closed, and they are still there. */
	t_ok(!must_wait(&a));
	t_ok(!must_wait(&b));
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/* case 102 */
TEST(change_after_release_still_calls)
{
	struct mmn_state *state = new_state();
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	t_err(mmn_state_release(state), 0);
	t_eq(driver_calls(&a), 1);
	change(state, EVERYTHING);
	t_eq(driver_calls(&a), 1);
	t_eq(a.seen.event, MMN_EVENT_UNMAP);
	t_ok(!driver_retry(&a, begin(&a)));
	driver_remove(&a);
	change(state, EVERYTHING);
	t_eq(driver_calls(&a), 0);
	mmn_state_put(state);
}

/* case 103 */
TEST(release_while_another_holds_a_change_open_completes)
{
	struct mmn_state *state = new_state();
	struct changer changer;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	changer_start(&changer, state, 0, 99);
	t_err(changer_join(&changer), 0);
	t_eq(driver_calls(&a), 1);
	t_err(mmn_state_release(state), 0);
	t_eq(driver_calls(&a), 1);
	t_ok(must_wait(&a));
	change_end(&changer.desc);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(state);
}

struct contest {
	pthread_barrier_t barrier;
	struct mmn_state *state;
	struct driver *driver;
	int result;
};

enum { ROUNDS = 1000 };

static void *insert_in_rounds(void *arg)
{
	struct contest *contest = arg;

	for (int i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(&contest->barrier);
		if (i & 1)
			sched_yield();
		contest->result = mmn_range_subscription_insert(
			&contest->driver->sub, contest->state, 0, 99);
		pthread_barrier_wait(&contest->barrier);
	}
	return NULL;
}

/* case 104 */
TEST(insert_that_races_with_release_is_called_or_refused)
{
	unsigned int won = 0, refused = 0;
	struct contest contest;
	pthread_t thread;
	struct driver a;

	contest.driver = &a;
	pthread_barrier_init(&contest.barrier, NULL, 2);
	t_eq(pthread_create(&thread, NULL, insert_in_rounds, &contest), 0);
	for (int i = 0; i < ROUNDS; i++) {
		contest.state = new_state();
		driver_init(&a, NULL);
		pthread_barrier_wait(&contest.barrier);
		t_err(mmn_state_release(contest.state), 0);
		pthread_barrier_wait(&contest.barrier);
		if (contest.result) {
			t_err(contest.result, -EINVAL);
			t_eq(driver_calls(&a), 0);
			refused++;
		} else {
			unsigned int calls = driver_calls(&a);

			/*
			 * Inserted before it was released, or between the
			 * two: then held back until the release was over.
			 */
			t_le(calls, 1);
			t_ok(!must_wait(&a));
			driver_remove(&a);
			won++;
		}
		mmn_state_put(contest.state);
	}
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&contest.barrier);
	t_note("%u inserts won, %u were refused", won, refused);
}

static void *remove_in_rounds(void *arg)
{
	struct contest *contest = arg;

	for (int i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(&contest->barrier);
		contest->result =
			mmn_range_subscription_remove(&contest->driver->sub);
		memset(&contest->driver->sub, 0xa5,
		       sizeof(contest->driver->sub));
		pthread_barrier_wait(&contest->barrier);
	}
	return NULL;
}

/* case 105 */
TEST(remove_that_races_with_release_is_called_before_or_not_at_all)
{
	unsigned int called = 0;
	struct contest contest;
	pthread_t thread;
	struct driver a;

	contest.driver = &a;
	pthread_barrier_init(&contest.barrier, NULL, 2);
	t_eq(pthread_create(&thread, NULL, remove_in_rounds, &contest), 0);
	for (int i = 0; i < ROUNDS; i++) {
		unsigned int calls;

		contest.state = new_state();
		driver_add(&a, NULL, contest.state, 0, 99);
		pthread_barrier_wait(&contest.barrier);
		t_err(mmn_state_release(contest.state), 0);
		pthread_barrier_wait(&contest.barrier);
		t_err(contest.result, 0);
		calls = driver_calls(&a);
		t_le(calls, 1);
		called += calls;
		mmn_state_put(contest.state);
	}
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&contest.barrier);
	t_note("called in %u of %u rounds", called, ROUNDS);
}

/* case 106: the leak and address checkers of the build judge. */
TEST(last_remove_after_release_frees_the_state)
{
	for (int i = 0; i < 1000; i++) {
		struct mmn_state *state = new_state();
		struct driver a, b;

		driver_add(&a, NULL, state, 0, 99);
		driver_add(&b, NULL, state, 0, 99);
		t_err(mmn_state_release(state), 0);
		mmn_state_put(state);
		driver_remove(&a);
		change(state, 0, 99);
		t_eq(driver_calls(&b), 2);
		driver_remove(&b);
	}
}

TEST(references_are_counted)
{
	struct mmn_state *state = new_state();

	t_eq(mmn_state_get(state), state);
	mmn_state_put(state);
	change(state, 0, 99);
	t_ok(!mmn_state_has_subscriptions(state));
	mmn_state_put(state);
}

/* case 107 */
TEST(readers_asleep_when_release_runs_wake_when_the_changes_end)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct reader one, two;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	change_open(&desc, state, 0, 99);
	reader_start(&one, &a.sub);
	reader_start(&two, &a.sub);
	reader_expect_asleep(&one);
	reader_expect_asleep(&two);
	t_err(mmn_state_release(state), 0);
	reader_expect_asleep(&one);
	reader_expect_asleep(&two);
	change_end(&desc);
	t_ok(!driver_retry(&a, reader_join(&one)));
	t_ok(!driver_retry(&a, reader_join(&two)));
	driver_remove(&a);
	mmn_state_put(state);
}

/* --- fork ------------------------------------------------------------------ */

/* Run @child in a fork child; expectations there count here. */
static void in_child(void (*child)(void *arg), void *arg)
{
	int status = -1;
	pid_t pid = fork();

	t_ge(pid, 0);
	if (!pid) {
		alarm(10);
		child(arg);
		_exit(0);
	}
	t_eq(waitpid(pid, &status, 0), pid);
	t_eq(status, 0);
}

static const struct mmn_subscription_ops shared_ops;

struct family {
	struct mmn_state *state;
	struct driver a, fresh;
	struct classic x;
	struct mmn_invalidate_desc *open;
	uint64_t seq;
};

static void expect_inert(void *arg)
{
	struct family *family = arg;
	struct mmn_subscription *sub = NULL;
	struct mmn_invalidate_desc desc;
	uint64_t seq = 5;
	int err;

	/* No callback runs, of either kind. */
	change(family->state, 0, 99);
	t_err(change_open_nonblock(&desc, family->state, 0, 99), 0);
	change_end(&desc);
	t_eq(driver_calls(&family->a), 0);
	t_eq(count_of(&family->x.starts), 0);
	t_ok(!mmn_clear_young(family->state, 0, 99));
	mmn_invalidate_secondary_tlbs(family->state, 0, 99);

	/* Nobody reads. */
	t_eq(mmn_range_read_begin(&family->a.sub), 0);
	t_err(mmn_range_read_begin_try(&family->a.sub, &seq), 0);
	t_eq(seq, 0);
	seq = 5;
	t_err(mmn_range_read_begin_timed(&family->a.sub, UINT64_MAX, &seq), 0);
	t_eq(seq, 0);
	t_ok(mmn_range_check_retry(&family->a.sub, family->seq));
	t_ok(driver_retry(&family->a, family->seq));

	t_err(mmn_subscription_get(&shared_ops, family->state, &sub), -ESTALE);

	/* Nothing new, and what is there goes away quietly. */
	t_err(mmn_range_subscription_insert(&family->fresh.sub, family->state,
					    0, 99),
	      -ESTALE);
	t_err(mmn_subscription_register(
		      &(struct mmn_subscription){ .ops = &classic_ops },
		      family->state),
	      -ESTALE);
	err = mmn_range_subscription_remove(&family->a.sub);
	t_ok(err == 0 || err == -ENOENT);
	t_eq(count_of(&family->a.releases), 0);
}

static void family_init(struct family *family)
{
	memset(family, 0, sizeof(*family));
	family->state = new_state();
	driver_add(&family->a, NULL, family->state, 0, 99);
	driver_init(&family->fresh, NULL);
	family->seq = begin(&family->a);
}

static void family_fini(struct family *family)
{
	/* The parent is unaffected. */
	t_eq(driver_calls(&family->a), 0);
	t_ok(!driver_retry(&family->a, family->seq));
	change(family->state, 0, 99);
	t_eq(driver_calls(&family->a), 1);
	driver_remove(&family->a);
	mmn_state_put(family->state);
}

/* case 108 */
TEST(fork_child_has_inert_copies_and_the_parent_notices_nothing)
{
	struct family family;

	family_init(&family);
	classic_add(&family.x, NULL, &classic_ops, family.state);
	in_child(expect_inert, &family);
	t_eq(count_of(&family.x.starts), 0);
	t_eq(count_of(&family.x.releases), 0);
	t_err(mmn_subscription_unregister(&family.x.sub), 0);
	family_fini(&family);
}

static void live_in_child(void *arg)
{
	struct family *parents = arg, own;

	/* The child's own address space is live, ... */
	family_init(&own);
	change(own.state, 0, 99);
	t_eq(driver_calls(&own.a), 1);
	own.seq = begin(&own.a);
	/* ... and does not bring the copies back to life, ... */
	expect_inert(parents);
	family_fini(&own);
	/* A grandchild's copy of the child's is as inert. */
	family_init(&own);
	in_child(expect_inert, &own);
	family_fini(&own);
}

/* case 108 */
TEST(fork_child_is_live_with_what_it_makes_itself)
{
	struct family family;

	family_init(&family);
	in_child(live_in_child, &family);
	family_fini(&family);
}

static void end_in_child(void *arg)
{
	struct family *family = arg;

	/* Opened by the parent, known to the child by its copy. */
	mmn_invalidate_end(family->open);
	expect_inert(family);
	mmn_state_put(family->state);
}

/* case 108 */
TEST(fork_inside_an_own_change_leaves_the_parents_change_open)
{
	struct mmn_invalidate_desc desc;
	struct family family;
	struct reader reader;

	family_init(&family);
	mmn_invalidate_desc_init(&desc, family.state, MMN_EVENT_PROTECTION_PAGE,
				 0, 99);
	t_err(mmn_invalidate_start(&desc), 0);
	t_eq(driver_calls(&family.a), 1);
	family.open = &desc;
	in_child(end_in_child, &family);
	t_ok(must_wait(&family.a));
	reader_start(&reader, &family.a.sub);
	reader_expect_asleep(&reader);
	change_end(&desc);
	family.seq = reader_join(&reader);
	family_fini(&family);
}

/* case 109: in the child nobody would ever end it. */
TEST(fork_while_another_thread_has_a_change_open_leaves_no_wait_in_the_child)
{
	struct family family;
	struct changer changer;

	family_init(&family);
	changer_start(&changer, family.state, 0, 99);
	t_err(changer_join(&changer), 0);
	t_eq(driver_calls(&family.a), 1);
	in_child(expect_inert, &family);
	t_ok(must_wait(&family.a));
	change_end(&changer.desc);
	family.seq = begin(&family.a);
	family_fini(&family);
}

static void stop_at_gate(struct driver *driver,
			 const struct mmn_invalidate_desc *desc)
{
	gate_pass(driver->arg);
}

/* case 109, inside the callback: remove would wait for a thread that is not. */
TEST(fork_while_another_thread_is_in_a_callback_leaves_no_wait_in_the_child)
{
	struct gate gate = GATE_INITIALIZER;
	struct family family;
	struct changer changer;

	family_init(&family);
	family.a.hook = stop_at_gate;
	family.a.arg = &gate;
	changer_start(&changer, family.state, 0, 99);
	gate_wait_arrived(&gate, 1);
	in_child(expect_inert, &family);
	gate_open(&gate);
	t_err(changer_join(&changer), 0);
	t_eq(driver_calls(&family.a), 1);
	change_end(&changer.desc);
	family.a.hook = NULL;
	family.seq = begin(&family.a);
	family_fini(&family);
}

struct churn {
	struct mmn_state *state;
	/* atomic */
	uint32_t stop;
};

static void *churn_main(void *arg)
{
	struct churn *churn = arg;
	struct driver a;

	driver_init(&a, NULL);
	while (!count_of(&churn->stop)) {
		driver_insert(&a, churn->state, 0, 99);
		change(churn->state, 0, 99);
		driver_remove(&a);
	}
	return NULL;
}

static void use_in_child(void *arg)
{
	struct churn *churn = arg;
	struct driver a;

	driver_init(&a, NULL);
	change(churn->state, 0, 99);
	t_err(mmn_range_subscription_insert(&a.sub, churn->state, 0, 99),
	      -ESTALE);
}

/* case 109: whatever lock another thread held at the fork is free in the child */
TEST(fork_at_any_moment_leaves_no_lock_held_in_the_child)
{
	struct churn churn = { .state = new_state() };
	pthread_t thread[2];

	for (int i = 0; i < 2; i++)
		t_eq(pthread_create(&thread[i], NULL, churn_main, &churn), 0);
	for (int i = 0; i < 100; i++)
		in_child(use_in_child, &churn);
	count_up(&churn.stop);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	mmn_state_put(churn.state);
}

/* A mirror with rights: PROTECTION_PAGE takes the write, all else everything */
struct mirrored {
	struct mmn_range_subscription sub;
	pthread_mutex_t lock;
	bool can_read, can_write;
};

static bool mirrored_invalidate(struct mmn_range_subscription *sub,
				const struct mmn_invalidate_desc *desc,
				uint64_t cur_seq)
{
	struct mirrored *mirrored = (struct mirrored *)sub;

	pthread_mutex_lock(&mirrored->lock);
	mmn_range_set_seq(sub, cur_seq);
	mirrored->can_write = false;
	if (desc->event != MMN_EVENT_PROTECTION_PAGE)
		mirrored->can_read = false;
	pthread_mutex_unlock(&mirrored->lock);
	return true;
}

/* case 110 */
TEST(copy_on_write_change_takes_the_write_right_of_a_mirror_only)
{
	static const struct mmn_range_ops ops = {
		.invalidate = mirrored_invalidate,
	};
	struct mirrored mirrored = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = &ops,
		.lock = mmn_driver_mutex(&mirrored.lock),
	};
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	uint64_t seq;

	t_err(mmn_range_subscription_init(&mirrored.sub, &config), 0);
	t_err(mmn_range_subscription_insert(&mirrored.sub, state, 0, 99), 0);
	seq = mmn_range_read_begin(&mirrored.sub);
	mirrored.can_read = mirrored.can_write = true;
	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_PROTECTION_PAGE,
				 EVERYTHING);
	t_err(mmn_invalidate_start(&desc), 0);
	t_ok(mirrored.can_read);
	t_ok(!mirrored.can_write);
	change_end(&desc);
	/* A fault that was under way with the write right starts over. */
	t_ok(mmn_range_check_retry(&mirrored.sub, seq));
	change(state, 0, 99);
	t_ok(!mirrored.can_read);
	t_err(mmn_range_subscription_remove(&mirrored.sub), 0);
	mmn_state_put(state);
}

/* case 111 */
TEST(address_spaces_do_not_wait_for_each_other)
{
	struct mmn_state *one = new_state(), *two = new_state();
	struct mmn_invalidate_desc endless;
	struct driver a, b;
	uint64_t seq;

	driver_add(&a, NULL, one, EVERYTHING);
	driver_add(&b, NULL, two, EVERYTHING);
	change_open(&endless, one, EVERYTHING);
	t_eq(driver_calls(&a), 1);
	t_eq(driver_calls(&b), 0);
	for (int i = 0; i < 100; i++) {
		seq = begin(&b);
		t_ok(!driver_retry(&b, seq));
		change(two, 0, 99);
		t_ok(driver_retry(&b, seq));
		driver_remove(&b);
		driver_insert(&b, two, EVERYTHING);
	}
	t_eq(driver_calls(&a), 0);
	t_err(mmn_state_release(two), 0);
	driver_remove(&b);
	mmn_state_put(two);
	t_ok(must_wait(&a));
	change_end(&endless);
	driver_remove(&a);
	mmn_state_put(one);
}

/* --- classic subscribers --------------------------------------------------- */

struct registrar {
	struct actor actor;
	struct classic *classic;
	struct mmn_state *state;
	int result;
};

static void register_run(void *arg)
{
	struct registrar *registrar = arg;

	registrar->result = mmn_subscription_register(&registrar->classic->sub,
						      registrar->state);
}

/* case 112 */
TEST(classic_register_waits_for_open_changes_and_sees_no_end_of_theirs)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc hit, miss;
	struct registrar registrar = { .state = state };
	struct classic x;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	classic_init(&x, NULL, &classic_ops);
	registrar.classic = &x;
	change_open(&hit, state, 0, 99);
	change_open(&miss, state, 500, 599);
	actor_start(&registrar.actor, register_run, &registrar);
	actor_expect_asleep(&registrar.actor);
	change_end(&hit);
	actor_expect_asleep(&registrar.actor);
	change_end(&miss);
	actor_join(&registrar.actor);
	t_err(registrar.result, 0);
	t_eq(count_of(&x.starts), 0);
	t_eq(count_of(&x.ends), 0);
	change(state, 700, 799);
	t_eq(count_of(&x.starts), 1);
	t_eq(count_of(&x.ends), 1);
	t_err(mmn_subscription_unregister(&x.sub), 0);
	driver_remove(&a);
	mmn_state_put(state);
}

/* case 112: it waits for those that were open when it was called, only. */
TEST(classic_register_gets_through_a_chain_of_changes)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc first, second;
	struct registrar registrar = { .state = state };
	struct classic x;
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	classic_init(&x, NULL, &classic_ops);
	registrar.classic = &x;
	change_open(&first, state, 0, 99);
	actor_start(&registrar.actor, register_run, &registrar);
	actor_expect_asleep(&registrar.actor);
	change_open(&second, state, 0, 99);
	change_end(&first);
	actor_join(&registrar.actor);
	t_err(registrar.result, 0);
	/* Start and end of the second, or neither. */
	change_end(&second);
	t_eq(count_of(&x.starts), count_of(&x.ends));
	t_err(mmn_subscription_unregister(&x.sub), 0);
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(classic_subscriber_is_told_of_every_change)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct classic x;
	struct driver a;

	driver_add(&a, "a", state, 0, 99);
	classic_add(&x, "x", &classic_ops, state);
	t_ok(mmn_state_has_subscriptions(state));
	change_open(&desc, state, 0, 99);
	t_streq(journal(), "a x.start");
	change_end(&desc);
	t_streq(journal(), "a x.start x.end");
	journal_clear();
	change(state, 5000, 5000);
	t_streq(journal(), "x.start x.end");
	t_err(mmn_subscription_unregister(&x.sub), 0);
	journal_clear();
	change(state, 5000, 5000);
	t_streq(journal(), "");
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(classic_comes_after_every_second_pass)
{
	struct mmn_state *state = new_state();
	struct classic x;
	struct driver a;

	classic_add(&x, "x", &classic_ops, state);
	driver_init_two_pass(&a, "a");
	driver_insert(&a, state, 0, 99);
	change(state, 0, 99);
	t_streq(journal(), "a.start a.finish x.start x.end");
	driver_remove(&a);
	t_err(mmn_subscription_unregister(&x.sub), 0);
	mmn_state_put(state);
}

/* --- shared classic subscriptions ------------------------------------------ */

struct shared {
	struct mmn_subscription sub;
	struct mmn_state *state;
};

/* atomic */
static uint32_t allocations, frees, shared_releases;
static struct gate *shared_gate;

static int shared_alloc(struct mmn_state *state,
			struct mmn_subscription **ret_sub)
{
	struct shared *shared = mmn_callback_alloc(sizeof(*shared));

	t_ne(shared, NULL);
	memset(shared, 0, sizeof(*shared));
	shared->state = state;
	count_up(&allocations);
	*ret_sub = &shared->sub;
	return 0;
}

static void shared_free(struct mmn_subscription *sub)
{
	/* It may run in the middle of a change: not from the heap. */
	memset(sub, 0xa5, sizeof(*sub));
	mmn_callback_free(sub);
	count_up(&frees);
}

static void shared_release(struct mmn_subscription *sub,
			   struct mmn_state *state)
{
	count_up(&shared_releases);
}

static int shared_start(struct mmn_subscription *sub,
			const struct mmn_invalidate_desc *desc)
{
	if (shared_gate)
		gate_pass(shared_gate);
	return 0;
}

static const struct mmn_subscription_ops shared_ops = {
	.release = shared_release,
	.invalidate_range_start = shared_start,
	.alloc_subscription = shared_alloc,
	.free_subscription = shared_free,
};

static const struct mmn_subscription_ops other_shared_ops = {
	.invalidate_range_start = shared_start,
	.alloc_subscription = shared_alloc,
	.free_subscription = shared_free,
};

static struct mmn_subscription *
get_shared(const struct mmn_subscription_ops *ops, struct mmn_state *state)
{
	struct mmn_subscription *sub = NULL;

	t_err(mmn_subscription_get(ops, state, &sub), 0);
	t_ne(sub, NULL);
	t_eq(sub->ops, ops);
	return sub;
}

/* case 113 */
TEST(get_shares_one_subscription_per_state_and_ops)
{
	struct mmn_state *state = new_state(), *other_state = new_state();
	struct mmn_subscription *one, *two, *three, *four;

	one = get_shared(&shared_ops, state);
	two = get_shared(&shared_ops, state);
	t_eq(one, two);
	t_eq(count_of(&allocations), 1);
	three = get_shared(&other_shared_ops, state);
	t_ne(three, one);
	four = get_shared(&shared_ops, other_state);
	t_ne(four, one);
	t_eq(count_of(&allocations), 3);

	t_err(mmn_subscription_put(one), 0);
	t_err(mmn_subscription_synchronize(), 0);
	t_eq(count_of(&frees), 0);
	t_err(mmn_subscription_put(two), 0);
	t_err(mmn_subscription_synchronize(), 0);
	t_eq(count_of(&frees), 1);
	t_err(mmn_subscription_put(three), 0);
	t_err(mmn_subscription_put(four), 0);
	t_err(mmn_subscription_synchronize(), 0);
	t_eq(count_of(&frees), 3);
	/* put does not call release */
	t_eq(count_of(&shared_releases), 0);

	/* A new one after the last put. */
	one = get_shared(&shared_ops, state);
	t_eq(count_of(&allocations), 4);
	t_err(mmn_subscription_put(one), 0);
	t_err(mmn_subscription_synchronize(), 0);
	mmn_state_put(state);
	mmn_state_put(other_state);
}

static struct mmn_subscription static_shared;

static int static_alloc(struct mmn_state *state,
			struct mmn_subscription **ret_sub)
{
	memset(&static_shared, 0, sizeof(static_shared));
	*ret_sub = &static_shared;
	return 0;
}

static void static_free(struct mmn_subscription *sub)
{
	count_up(&frees);
}

/* Its memory stays, so that one put too many can be made. */
static const struct mmn_subscription_ops static_ops = {
	.invalidate_range_start = shared_start,
	.alloc_subscription = static_alloc,
	.free_subscription = static_free,
};

/* case 113 */
TEST(one_put_too_many_is_an_error_and_reported)
{
	struct mmn_state *state = new_state();
	struct mmn_subscription *sub = get_shared(&static_ops, state);

	t_err(mmn_subscription_put(sub), 0);
	t_err(mmn_subscription_synchronize(), 0);
	t_eq(count_of(&frees), 1);
	report_expected("put that has no user");
	t_err(mmn_subscription_put(sub), -ENOENT);
	t_err(mmn_subscription_synchronize(), 0);
	t_eq(count_of(&frees), 1);
	mmn_state_put(state);
}

struct putter {
	struct actor actor;
	int result;
};

static void synchronize_run(void *arg)
{
	((struct putter *)arg)->result = mmn_subscription_synchronize();
}

/* cases 113 and 115 */
TEST(free_waits_for_callbacks_and_synchronize_waits_for_the_free)
{
	struct mmn_state *state = new_state();
	struct gate gate = GATE_INITIALIZER;
	struct mmn_subscription *sub;
	struct changer changer;
	struct putter putter;

	sub = get_shared(&shared_ops, state);
	shared_gate = &gate;
	changer_start(&changer, state, 0, 99);
	gate_wait_arrived(&gate, 1);
	/* Does not wait: the callback may be its own. */
	t_err(mmn_subscription_put(sub), 0);
	t_eq(count_of(&frees), 0);
	actor_start(&putter.actor, synchronize_run, &putter);
	actor_expect_asleep(&putter.actor);
	t_eq(count_of(&frees), 0);
	gate_open(&gate);
	actor_join(&putter.actor);
	t_err(putter.result, 0);
	t_eq(count_of(&frees), 1);
	t_err(changer_join(&changer), 0);
	change_end(&changer.desc);
	mmn_state_put(state);
}

/* case 115 */
TEST(synchronize_after_put_means_that_the_free_has_run)
{
	struct mmn_state *state = new_state();

	for (unsigned int i = 1; i <= 200; i++) {
		struct mmn_subscription *sub = get_shared(&shared_ops, state);

		change(state, 0, 99);
		t_err(mmn_subscription_put(sub), 0);
		t_err(mmn_subscription_synchronize(), 0);
		t_eq(count_of(&frees), i);
	}
	mmn_state_put(state);
}

static void put_arg(struct driver *driver,
		    const struct mmn_invalidate_desc *desc)
{
	t_err(mmn_subscription_put(driver->arg), 0);
	driver->hook = NULL;
}

TEST(put_is_allowed_in_a_callback)
{
	struct mmn_state *state = new_state();
	struct driver a;

	driver_add(&a, NULL, state, 0, 99);
	a.hook = put_arg;
	a.arg = get_shared(&shared_ops, state);
	change(state, 0, 99);
	t_err(mmn_subscription_synchronize(), 0);
	t_eq(count_of(&frees), 1);
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(release_of_a_state_with_a_shared_subscription_keeps_it_for_its_users)
{
	struct mmn_state *state = new_state();
	struct mmn_subscription *sub = get_shared(&shared_ops, state);

	t_err(mmn_state_release(state), 0);
	t_eq(count_of(&shared_releases), 1);
	t_eq(count_of(&frees), 0);
	t_err(mmn_subscription_put(sub), 0);
	t_err(mmn_subscription_synchronize(), 0);
	t_eq(count_of(&frees), 1);
	t_eq(count_of(&shared_releases), 1);
	mmn_state_put(state);
}

static void stop_classic(struct classic *classic,
			 const struct mmn_invalidate_desc *desc)
{
	gate_pass(classic->arg);
}

struct unregistrar {
	struct actor actor;
	struct classic *classic;
	int result;
};

static void unregister_run(void *arg)
{
	struct unregistrar *unregistrar = arg;

	unregistrar->result =
		mmn_subscription_unregister(&unregistrar->classic->sub);
}

/* case 114 */
TEST(unregister_waits_for_the_callback_that_runs)
{
	struct mmn_state *state = new_state();
	struct gate gate = GATE_INITIALIZER;
	struct classic *x = malloc(sizeof(*x));
	struct unregistrar unregistrar = { .classic = x };
	struct changer changer;

	t_ne(x, NULL);
	classic_add(x, NULL, &classic_ops, state);
	x->hook = stop_classic;
	x->arg = &gate;
	changer_start(&changer, state, 0, 99);
	gate_wait_arrived(&gate, 1);
	actor_start(&unregistrar.actor, unregister_run, &unregistrar);
	actor_expect_asleep(&unregistrar.actor);
	/* No new callback starts. */
	change(state, 0, 99);
	gate_open(&gate);
	actor_join(&unregistrar.actor);
	t_err(unregistrar.result, 0);
	t_eq(count_of(&x->releases), 1);
	t_eq(count_of(&x->starts), 1);
	memset(x, 0xa5, sizeof(*x));
	free(x);
	t_err(changer_join(&changer), 0);
	change_end(&changer.desc);
	mmn_state_put(state);
}

static void *unregister_in_rounds(void *arg)
{
	struct contest *contest = arg;

	for (int i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(&contest->barrier);
		contest->result =
			mmn_subscription_unregister((void *)contest->driver);
		pthread_barrier_wait(&contest->barrier);
	}
	return NULL;
}

/* case 114 */
TEST(unregister_that_races_with_release_calls_the_release_op_once)
{
	struct contest contest;
	unsigned int first = 0;
	pthread_t thread;
	struct classic x;

	contest.driver = (void *)&x.sub;
	pthread_barrier_init(&contest.barrier, NULL, 2);
	t_eq(pthread_create(&thread, NULL, unregister_in_rounds, &contest), 0);
	for (int i = 0; i < ROUNDS; i++) {
		contest.state = new_state();
		classic_add(&x, NULL, &classic_ops, contest.state);
		pthread_barrier_wait(&contest.barrier);
		t_err(mmn_state_release(contest.state), 0);
		pthread_barrier_wait(&contest.barrier);
		t_ok(contest.result == 0 || contest.result == -ENOENT);
		t_eq(count_of(&x.releases), 1);
		first += contest.result == 0;
		mmn_state_put(contest.state);
	}
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&contest.barrier);
	t_note("unregister came first in %u of %u rounds", first, ROUNDS);
}

static struct gate release_gate = GATE_INITIALIZER;

static void stop_in_release(struct mmn_subscription *sub,
			    struct mmn_state *state)
{
	gate_pass(&release_gate);
}

static const struct mmn_subscription_ops stopping_ops = {
	.release = stop_in_release,
};

static void state_release_run(void *arg)
{
	t_err(mmn_state_release(arg), 0);
}

/* case 114: who ends the address space may free its memory afterwards. */
TEST(release_of_a_state_waits_for_an_unregister_that_is_under_way)
{
	struct mmn_state *state = new_state();
	struct unregistrar unregistrar;
	struct actor releaser;
	struct classic x;

	classic_add(&x, NULL, &stopping_ops, state);
	unregistrar.classic = &x;
	actor_start(&unregistrar.actor, unregister_run, &unregistrar);
	gate_wait_arrived(&release_gate, 1);
	actor_start(&releaser, state_release_run, state);
	actor_expect_asleep(&releaser);
	gate_open(&release_gate);
	actor_join(&unregistrar.actor);
	t_err(unregistrar.result, 0);
	actor_join(&releaser);
	mmn_state_put(state);
}

/* case 114, the other way round */
TEST(unregister_waits_for_a_release_of_the_state_that_is_under_way)
{
	struct mmn_state *state = new_state();
	struct unregistrar unregistrar;
	struct actor releaser;
	struct classic x;

	classic_add(&x, NULL, &stopping_ops, state);
	unregistrar.classic = &x;
	actor_start(&releaser, state_release_run, state);
	gate_wait_arrived(&release_gate, 1);
	actor_start(&unregistrar.actor, unregister_run, &unregistrar);
	actor_expect_asleep(&unregistrar.actor);
	gate_open(&release_gate);
	actor_join(&unregistrar.actor);
	t_err(unregistrar.result, -ENOENT);
	memset(&x, 0xa5, sizeof(x));
	actor_join(&releaser);
	mmn_state_put(state);
}

static void register_elsewhere(void *arg)
{
	struct registrar *registrar = arg;

	t_eq(mmn_subscription_register(&registrar->classic->sub,
				       registrar->state),
	     0);
}

/*
 * case 112: the thread that opened the change is gone, and the one that comes
 * after it may look the same.
 */
TEST(classic_register_waits_for_the_change_of_a_thread_that_is_gone)
{
	struct mmn_state *state = new_state();
	struct registrar registrar = { .state = state };
	struct changer changer;
	struct classic x;

	classic_init(&x, NULL, &classic_ops);
	registrar.classic = &x;
	changer_start(&changer, state, 0, 99);
	t_err(changer_join(&changer), 0);
	actor_start(&registrar.actor, register_elsewhere, &registrar);
	actor_expect_asleep(&registrar.actor);
	change_end(&changer.desc);
	actor_join(&registrar.actor);
	t_err(mmn_subscription_unregister(&x.sub), 0);
	mmn_state_put(state);
}

TEST(release_of_a_state_unregisters_classic_subscribers)
{
	struct mmn_state *state = new_state();
	struct classic x;

	classic_add(&x, "x", &classic_ops, state);
	t_err(mmn_state_release(state), 0);
	t_eq(count_of(&x.releases), 1);
	t_err(mmn_subscription_unregister(&x.sub), -ENOENT);
	t_eq(count_of(&x.releases), 1);
	journal_clear();
	change(state, 0, 99);
	t_streq(journal(), "");
	mmn_state_put(state);
}

/* --- young, and TLBs ------------------------------------------------------- */

struct aged {
	struct mmn_subscription sub;
	bool young;
	unsigned int flushed, cleared, tested;
	uintptr_t start, last;
};

static bool aged_clear_flush(struct mmn_subscription *sub,
			     struct mmn_state *state, uintptr_t start,
			     uintptr_t last)
{
	struct aged *aged = (struct aged *)sub;
	bool young = aged->young;

	aged->flushed++;
	aged->young = false;
	aged->start = start;
	aged->last = last;
	return young;
}

static bool aged_clear(struct mmn_subscription *sub, struct mmn_state *state,
		       uintptr_t start, uintptr_t last)
{
	struct aged *aged = (struct aged *)sub;
	bool young = aged->young;

	aged->cleared++;
	aged->young = false;
	aged->start = start;
	aged->last = last;
	return young;
}

static bool aged_test(struct mmn_subscription *sub, struct mmn_state *state,
		      uintptr_t addr)
{
	struct aged *aged = (struct aged *)sub;

	aged->tested++;
	aged->start = addr;
	return aged->young;
}

static const struct mmn_subscription_ops aged_ops = {
	.clear_flush_young = aged_clear_flush,
	.clear_young = aged_clear,
	.test_young = aged_test,
};

/* case 116 */
TEST(young_is_what_any_device_says)
{
	struct mmn_state *state = new_state();
	struct aged aged[2] = { { .sub.ops = &aged_ops },
				{ .sub.ops = &aged_ops } };
	struct classic silent;

	/* One that has none of these ops is passed over. */
	classic_add(&silent, NULL, &classic_ops, state);
	for (int i = 0; i < 2; i++)
		t_err(mmn_subscription_register(&aged[i].sub, state), 0);
	for (int young = 0; young < 2; young++) {
		aged[young].young = true;
		t_ok(mmn_clear_flush_young(state, 10, 19));
		t_ok(!mmn_clear_flush_young(state, 10, 19));
		aged[young].young = true;
		t_ok(mmn_clear_young(state, 20, 29));
		t_ok(!mmn_clear_young(state, 20, 29));
	}
	/* All were asked each time. */
	for (int i = 0; i < 2; i++) {
		t_eq(aged[i].flushed, 4);
		t_eq(aged[i].cleared, 4);
		t_eq(aged[i].start, 20);
		t_eq(aged[i].last, 29);
		t_eq(aged[i].tested, 0);
	}

	/* The test stops at the first that says so. */
	t_ok(!mmn_test_young(state, 5));
	t_eq(aged[0].tested, 1);
	t_eq(aged[1].tested, 1);
	t_eq(aged[0].start, 5);
	aged[0].young = aged[1].young = true;
	t_ok(mmn_test_young(state, 5));
	t_eq(aged[0].tested + aged[1].tested, 3);
	t_ok(aged[0].young && aged[1].young);
	for (int i = 0; i < 2; i++)
		t_err(mmn_subscription_unregister(&aged[i].sub), 0);
	t_ok(!mmn_test_young(state, 5));
	t_err(mmn_subscription_unregister(&silent.sub), 0);
	mmn_state_put(state);
}

static unsigned int tlb_flushes;
static uintptr_t tlb_start, tlb_last;

static void flush_tlb(struct mmn_subscription *sub, struct mmn_state *state,
		      uintptr_t start, uintptr_t last)
{
	tlb_flushes++;
	tlb_start = start;
	tlb_last = last;
}

static int start_nothing(struct mmn_subscription *sub,
			 const struct mmn_invalidate_desc *desc)
{
	return 0;
}

static void end_nothing(struct mmn_subscription *sub,
			const struct mmn_invalidate_desc *desc)
{
}

/* case 117 */
TEST(tlb_op_excludes_start_and_end)
{
	static const struct mmn_subscription_ops with_start = {
		.invalidate_secondary_tlbs = flush_tlb,
		.invalidate_range_start = start_nothing,
	};
	static const struct mmn_subscription_ops with_end = {
		.invalidate_secondary_tlbs = flush_tlb,
		.invalidate_range_end = end_nothing,
	};
	static const struct mmn_subscription_ops alone = {
		.invalidate_secondary_tlbs = flush_tlb,
	};
	struct mmn_state *state = new_state();
	struct mmn_subscription sub = { .ops = &with_start };

	t_err(mmn_subscription_register(&sub, state), -EINVAL);
	sub.ops = &with_end;
	t_err(mmn_subscription_register(&sub, state), -EINVAL);
	sub.ops = &alone;
	t_err(mmn_subscription_register(&sub, state), 0);
	change(state, 0, 99);
	t_eq(tlb_flushes, 0);
	mmn_invalidate_secondary_tlbs(state, 30, 39);
	t_eq(tlb_flushes, 1);
	t_eq(tlb_start, 30);
	t_eq(tlb_last, 39);
	t_err(mmn_subscription_unregister(&sub), 0);
	mmn_invalidate_secondary_tlbs(state, 30, 39);
	t_eq(tlb_flushes, 1);
	mmn_state_put(state);
}
