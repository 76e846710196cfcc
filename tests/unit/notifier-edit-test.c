/* SPDX-License-Identifier: MIT */
/*
 * Resizes, and edits of several subscriptions in one step.
 */
#include "unit/conformance.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/compiler.h"

static struct mmn_range_edit edit_of(uint32_t op, struct driver *driver,
				     uintptr_t start, uintptr_t last)
{
	struct mmn_range_edit edit = {
		.op = op,
		.sub = &driver->sub,
		.start = start,
		.last = last,
	};

	return edit;
}

static int resize(struct driver *driver, uintptr_t start, uintptr_t last)
{
	return mmn_range_subscription_resize(&driver->sub, start, last);
}

/* Is exactly [start, last] subscribed to by it? */
static void expect_range(struct driver *driver, struct mmn_state *state,
			 uintptr_t start, uintptr_t last)
{
	driver_calls(driver);
	change(state, start - 1, start - 1);
	change(state, last + 1, last + 1);
	t_eq(driver_calls(driver), 0);
	change(state, start, start);
	t_eq(driver_calls(driver), 1);
	change(state, last, last);
	t_eq(driver_calls(driver), 1);
	t_eq(mmn_range_subscription_start(&driver->sub), start);
	t_eq(mmn_range_subscription_last(&driver->sub), last);
}

/* ------------------------------------------------------------------ */
/* Resize                                                             */
/* ------------------------------------------------------------------ */

TEST(resize_takes_effect_at_once_and_readers_start_over)
{
	struct mmn_state *state = new_state();
	struct driver a;
	uint64_t seq;

	driver_add(&a, NULL, state, 1000, 1999);
	seq = begin(&a);
	t_err(resize(&a, 1500, 2999), 0);
	t_ok(mmn_range_check_retry(&a.sub, seq));
	t_ok(!driver_install(&a, seq));
	t_ok(driver_install(&a, begin(&a)));
	expect_range(&a, state, 1500, 2999);
	/* the same range again: the readers start over all the same */
	seq = begin(&a);
	t_err(resize(&a, 1500, 2999), 0);
	t_ok(driver_retry(&a, seq));
	/* next to nothing, and everything */
	t_err(resize(&a, 7, 7), 0);
	expect_range(&a, state, 7, 7);
	t_err(resize(&a, EVERYTHING), 0);
	change(state, UINTPTR_MAX, UINTPTR_MAX);
	t_eq(driver_calls(&a), 1);
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(resize_while_changes_are_open_counts_those_over_the_new_range)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc low, high;
	struct driver a;

	driver_add(&a, NULL, state, 1000, 1999);
	change_open(&low, state, 1000, 1000);
	change_open(&high, state, 5000, 5000);
	t_ok(must_wait(&a));
	t_err(resize(&a, 1001, 1999), 0);
	t_ok(!must_wait(&a));
	t_err(resize(&a, 1001, 5000), 0);
	t_ok(must_wait(&a));
	t_err(resize(&a, 0, 9999), 0);
	change_end(&high);
	t_ok(must_wait(&a));
	change_end(&low);
	t_ok(!must_wait(&a));
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(resize_wakes_a_reader_that_need_not_wait_any_longer)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct reader reader;
	struct driver a;

	driver_add(&a, NULL, state, 1000, 1999);
	change_open(&desc, state, 1000, 1000);
	reader_start(&reader, &a.sub);
	reader_expect_asleep(&reader);
	t_err(resize(&a, 1500, 1999), 0);
	t_ok(!driver_retry(&a, reader_join(&reader)));
	change_end(&desc);
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(resize_leaves_a_reader_asleep_that_has_to_wait)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct reader reader;
	struct driver a;

	driver_add(&a, NULL, state, 1000, 1999);
	change_open(&desc, state, 1000, 1000);
	reader_start(&reader, &a.sub);
	reader_expect_asleep(&reader);
	t_err(resize(&a, 900, 1000), 0);
	reader_expect_asleep(&reader);
	change_end(&desc);
	t_ok(!driver_retry(&a, reader_join(&reader)));
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(a_callback_under_way_does_not_undo_a_resize)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;
	uint64_t old, seq;

	driver_add(&a, NULL, state, 1000, 1999);
	old = begin(&a);
	change_open(&desc, state, 1000, 1000);
	t_err(resize(&a, 1500, 1999), 0);
	seq = begin(&a);
	/* what a callback that was late would do */
	pthread_mutex_lock(&a.lock);
	mmn_range_set_seq(&a.sub, a.cur_seq);
	pthread_mutex_unlock(&a.lock);
	t_ok(!driver_retry(&a, seq));
	t_ok(driver_retry(&a, old));
	t_err(resize(&a, 1000, 1999), 0);
	t_ok(must_wait(&a));
	change_end(&desc);
	t_ok(!driver_retry(&a, begin(&a)));
	driver_remove(&a);
	mmn_state_put(state);
}

/* What a callback does to somebody else. */
struct move {
	struct driver *driver;
	uintptr_t start;
	uintptr_t last;
	bool is_done;
};

static void move_once(struct driver *driver,
		      const struct mmn_invalidate_desc *desc)
{
	struct move *move = driver->arg;

	if (!move->is_done)
		t_err(resize(move->driver, move->start, move->last), 0);
	move->is_done = true;
}

TEST(a_change_under_way_finds_who_moves_past_it)
{
	struct mmn_state *state = new_state();
	struct driver a, b, c;
	struct move move = { .driver = &c, .start = 50, .last = 599 };

	driver_add(&a, "a", state, 100, 199);
	driver_add(&b, "b", state, 300, 399);
	driver_add(&c, "c", state, 500, 599);
	a.hook = move_once;
	a.arg = &move;
	journal_clear();
	change(state, 0, 999);
	t_streq(journal(), "a b c");
	/* and who moves up, called or not, is called too */
	move = (struct move){ .driver = &b, .start = 700, .last = 799 };
	journal_clear();
	change(state, 0, 999);
	t_streq(journal(), "c a b");
	move = (struct move){ .driver = &c, .start = 800, .last = 899 };
	journal_clear();
	change(state, 0, 999);
	t_streq(journal(), "c a b c");
	driver_remove(&a);
	driver_remove(&b);
	driver_remove(&c);
	mmn_state_put(state);
}

TEST(a_callback_may_resize_its_own_subscription)
{
	struct mmn_state *state = new_state();
	struct driver a;
	struct move move = { .driver = &a, .start = 100, .last = 149 };

	driver_add(&a, NULL, state, 100, 199);
	a.hook = move_once;
	a.arg = &move;
	change(state, 120, 120);
	t_eq(driver_calls(&a), 2);
	expect_range(&a, state, 100, 149);
	driver_remove(&a);
	mmn_state_put(state);
}

/* ------------------------------------------------------------------ */
/* Edits                                                              */
/* ------------------------------------------------------------------ */

/* A two-pass subscription with one finish, which moves while it is called. */
struct mover {
	struct mmn_range_subscription sub;
	struct mmn_range_finish finish;
	int nr_starts;
	int nr_finishes;
};

static bool mover_start(struct mmn_range_subscription *sub,
			const struct mmn_invalidate_desc *desc, uint64_t seq,
			struct mmn_range_finish **ret_finish)
{
	struct mover *mover = container_of(sub, struct mover, sub);

	(void)desc;
	mmn_range_set_seq(sub, seq);
	if (!mover->nr_starts++)
		t_err(mmn_range_subscription_resize(sub, 5000, 5999), 0);
	*ret_finish = &mover->finish;
	return true;
}

static void mover_finish(struct mmn_range_finish *finish)
{
	container_of(finish, struct mover, finish)->nr_finishes++;
}

static const struct mmn_range_ops mover_ops = {
	.invalidate_start = mover_start,
	.invalidate_finish = mover_finish,
};

TEST(who_is_called_again_by_a_change_has_one_second_pass_in_it)
{
	const struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = &mover_ops,
		.lock = mmn_driver_no_lock(),
	};
	struct mmn_state *state = new_state();
	struct mover mover = { .nr_starts = 0 };

	t_err(mmn_range_subscription_init(&mover.sub, &config), 0);
	t_err(mmn_range_subscription_insert(&mover.sub, state, 1000, 1999), 0);
	change(state, 0, 9999);
	t_eq(mover.nr_starts, 2);
	t_eq(mover.nr_finishes, 1);
	t_err(mmn_range_subscription_remove(&mover.sub), 0);
	mmn_state_put(state);
}

TEST(a_hole_is_punched_in_one_step)
{
	struct mmn_state *state = new_state();
	struct mmn_range_edit edits[2];
	struct driver a, b;

	driver_add(&a, NULL, state, 1000, 3999);
	driver_init(&b, NULL);
	edits[0] = edit_of(MMN_RANGE_RESIZE, &a, 1000, 1999);
	edits[1] = edit_of(MMN_RANGE_INSERT, &b, 3000, 3999);
	t_err(mmn_range_subscription_edit(state, edits, 2), 0);
	expect_range(&a, state, 1000, 1999);
	expect_range(&b, state, 3000, 3999);
	/* and filled again */
	edits[0] = edit_of(MMN_RANGE_REMOVE, &b, 0, 0);
	edits[1] = edit_of(MMN_RANGE_RESIZE, &a, 1000, 3999);
	t_err(mmn_range_subscription_edit(state, edits, 2), 0);
	expect_range(&a, state, 1000, 3999);
	t_err(mmn_range_subscription_remove(&b.sub), -ENOENT);
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(an_edit_of_nothing_does_nothing)
{
	struct mmn_state *state = new_state();

	t_err(mmn_range_subscription_edit(state, NULL, 0), 0);
	mmn_state_put(state);
}

/* Hands A's range over to B while A is called back. */
struct handover {
	struct mmn_state *state;
	struct mmn_range_edit edits[2];
	bool is_done;
};

static void hand_over(struct driver *driver,
		      const struct mmn_invalidate_desc *desc)
{
	struct handover *handover = driver->arg;

	if (!handover->is_done)
		t_err(mmn_range_subscription_edit(handover->state,
						  handover->edits, 2),
		      0);
	handover->is_done = true;
}

TEST(a_change_under_way_calls_who_took_over)
{
	struct mmn_state *state = new_state();
	struct handover handover = { .state = state };
	struct driver a, b, c, first;

	driver_init(&b, "b");
	driver_init(&c, "c");
	driver_add(&first, "first", state, 400, 499);
	driver_add(&a, "a", state, 500, 999);
	/* the part that was not called yet goes to a lower address */
	handover.edits[0] = edit_of(MMN_RANGE_REMOVE_DEFERRED, &a, 0, 0);
	handover.edits[1] = edit_of(MMN_RANGE_INSERT, &b, 300, 599);
	first.hook = hand_over;
	first.arg = &handover;
	journal_clear();
	change(state, 0, 1999);
	t_streq(journal(), "first b");
	t_eq(count_of(&a.releases), 1);

	/* the one that is being called: its entries may have gone over */
	first.hook = NULL;
	handover.edits[0] = edit_of(MMN_RANGE_REMOVE_DEFERRED, &b, 0, 0);
	handover.edits[1] = edit_of(MMN_RANGE_INSERT, &c, 200, 599);
	handover.is_done = false;
	b.hook = hand_over;
	b.arg = &handover;
	journal_clear();
	change(state, 0, 1999);
	t_streq(journal(), "b first c");
	t_eq(count_of(&b.releases), 1);

	/* who takes nothing over is not called, nor who was and stays below */
	handover.edits[0] = edit_of(MMN_RANGE_RESIZE, &c, 200, 299);
	handover.edits[1] = edit_of(MMN_RANGE_INSERT, &a, 1500, 1599);
	handover.is_done = false;
	first.hook = hand_over;
	journal_clear();
	change(state, 0, 1999);
	t_streq(journal(), "c first");
	driver_remove(&a);
	driver_remove(&c);
	driver_remove(&first);
	mmn_state_put(state);
}

static void move_and_hand_over(struct driver *driver,
			       const struct mmn_invalidate_desc *desc)
{
	t_err(resize(driver, 300, 999), 0);
	hand_over(driver, desc);
}

TEST(who_moves_and_hands_over_while_it_is_called_is_not_done_with)
{
	struct mmn_state *state = new_state();
	struct handover handover = { .state = state };
	struct driver a, b;

	driver_init(&b, "b");
	driver_add(&a, "a", state, 500, 999);
	handover.edits[0] = edit_of(MMN_RANGE_REMOVE_DEFERRED, &a, 0, 0);
	handover.edits[1] = edit_of(MMN_RANGE_INSERT, &b, 200, 999);
	a.hook = move_and_hand_over;
	a.arg = &handover;
	journal_clear();
	change(state, 600, 600);
	t_streq(journal(), "a b");
	driver_remove(&b);
	mmn_state_put(state);
}

static void stop_at_gate(struct driver *driver,
			 const struct mmn_invalidate_desc *desc)
{
	gate_pass(driver->arg);
}

struct edit_call {
	struct mmn_state *state;
	struct mmn_range_edit edits[2];
	int result;
};

static void call_edit(void *arg)
{
	struct edit_call *call = arg;

	call->result = mmn_range_subscription_edit(call->state, call->edits, 2);
}

TEST(a_remove_in_an_edit_waits_for_callbacks_and_the_rest_does_not)
{
	struct mmn_state *state = new_state();
	struct gate gate = GATE_INITIALIZER;
	struct edit_call call = { .state = state };
	struct changer changer;
	struct driver a, b;
	struct actor actor;

	driver_add(&a, NULL, state, 1000, 1999);
	a.hook = stop_at_gate;
	a.arg = &gate;
	driver_init(&b, NULL);
	changer_start(&changer, state, 1000, 1000);
	gate_wait_arrived(&gate, 1);
	call.edits[0] = edit_of(MMN_RANGE_REMOVE, &a, 0, 0);
	call.edits[1] = edit_of(MMN_RANGE_INSERT, &b, 3000, 3999);
	actor_start(&actor, call_edit, &call);
	actor_expect_asleep(&actor);
	expect_range(&b, state, 3000, 3999);
	gate_open(&gate);
	actor_join(&actor);
	t_err(call.result, 0);
	t_err(changer_join(&changer), 0);
	change_end(&changer.desc);
	t_eq(driver_calls(&a), 1);
	driver_remove(&b);
	mmn_state_put(state);
}

/* ------------------------------------------------------------------ */
/* Errors                                                             */
/* ------------------------------------------------------------------ */

TEST(wrong_resizes_are_refused_and_change_nothing)
{
	struct mmn_state *state = new_state();
	struct driver a;
	uint64_t seq;

	driver_init(&a, NULL);
	t_err(resize(&a, 1, 2), -ENOENT);
	t_err(mmn_range_subscription_resize(NULL, 1, 2), -EINVAL);
	driver_insert(&a, state, 1000, 1999);
	seq = begin(&a);
	t_err(resize(&a, 2, 1), -EINVAL);
	t_ok(!driver_retry(&a, seq));
	expect_range(&a, state, 1000, 1999);
	driver_remove(&a);
	t_err(resize(&a, 1, 2), -ENOENT);
	mmn_state_put(state);
}

/* @bad as the second of two edits is refused, and the first has no effect. */
static void expect_refused(struct mmn_state *state, struct mmn_range_edit bad,
			   int error)
{
	struct mmn_range_edit edits[3];
	struct driver a, b;
	uint64_t seq;

	driver_add(&a, NULL, state, 1000, 1999);
	driver_init(&b, NULL);
	seq = begin(&a);
	edits[0] = edit_of(MMN_RANGE_RESIZE, &a, 3000, 3999);
	edits[1] = edit_of(MMN_RANGE_INSERT, &b, 5000, 5999);
	edits[2] = bad;
	t_err(mmn_range_subscription_edit(state, edits, 3), error);
	t_ok(!driver_retry(&a, seq));
	expect_range(&a, state, 1000, 1999);
	t_err(mmn_range_subscription_remove(&b.sub), -ENOENT);
	driver_insert(&b, state, 5000, 5999);
	driver_remove(&b);
	driver_remove(&a);
}

TEST(an_edit_that_cannot_be_done_whole_is_not_done_at_all)
{
	struct mmn_state *state = new_state(), *other = new_state();
	struct driver in, out, elsewhere;
	struct mmn_range_edit edits[2];
	struct mmn_range_edit edit;
	uint32_t op;

	driver_add(&in, NULL, state, 10000, 19999);
	driver_init(&out, NULL);
	driver_add(&elsewhere, NULL, other, 10000, 19999);

	edit = edit_of(MMN_RANGE_RESIZE + 1, &in, 1, 2);
	expect_refused(state, edit, -EINVAL);
	edit.op = MMN_RANGE_RESIZE;
	edit.sub = NULL;
	expect_refused(state, edit, -EINVAL);
	expect_refused(state, edit_of(MMN_RANGE_RESIZE, &in, 2, 1), -EINVAL);
	expect_refused(state, edit_of(MMN_RANGE_INSERT, &out, 2, 1), -EINVAL);
	expect_refused(state, edit_of(MMN_RANGE_INSERT, &in, 1, 2), -EEXIST);
	expect_refused(state, edit_of(MMN_RANGE_INSERT, &elsewhere, 1, 2),
		       -EEXIST);
	for (op = MMN_RANGE_REMOVE; op <= MMN_RANGE_RESIZE; op++) {
		expect_refused(state, edit_of(op, &out, 1, 2), -ENOENT);
		expect_refused(state, edit_of(op, &elsewhere, 1, 2), -ENOENT);
	}
	edits[0] = edit_of(MMN_RANGE_REMOVE, &in, 0, 0);
	edits[1] = edits[0];
	t_err(mmn_range_subscription_edit(state, edits, 2), -EINVAL);
	edits[1] = edit_of(MMN_RANGE_INSERT, &in, 1, 2);
	t_err(mmn_range_subscription_edit(state, edits, 2), -EINVAL);
	edits[0] = edit_of(MMN_RANGE_INSERT, &out, 1, 2);
	for (op = MMN_RANGE_INSERT; op <= MMN_RANGE_RESIZE; op++) {
		edits[1] = edit_of(op, &out, 3, 4);
		t_err(mmn_range_subscription_edit(state, edits, 2), -EINVAL);
	}
	t_err(mmn_range_subscription_remove(&out.sub), -ENOENT);
	expect_range(&in, state, 10000, 19999);
	t_err(mmn_range_subscription_edit(NULL, edits, 1), -EINVAL);
	t_err(mmn_range_subscription_edit(state, NULL, 1), -EINVAL);
	memset(&out.sub, 0, sizeof(out.sub));
	expect_refused(state, edit_of(MMN_RANGE_INSERT, &out, 1, 2), -EINVAL);

	driver_remove(&elsewhere);
	driver_remove(&in);
	mmn_state_put(other);
	mmn_state_put(state);
}

static bool accept(struct mmn_range_subscription *sub,
		   const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	return true;
}

TEST(a_deferred_removal_without_a_release_is_refused)
{
	static const struct mmn_range_ops ops = { .invalidate = accept };
	struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = &ops,
	};
	struct mmn_state *state = new_state();
	struct mmn_range_subscription sub;
	struct mmn_range_edit edit = {
		.op = MMN_RANGE_REMOVE_DEFERRED,
		.sub = &sub,
	};

	t_err(mmn_range_subscription_init(&sub, &config), 0);
	t_err(mmn_range_subscription_insert(&sub, state, 1, 2), 0);
	t_err(mmn_range_subscription_edit(state, &edit, 1), -EINVAL);
	t_err(mmn_range_subscription_remove(&sub), 0);
	mmn_state_put(state);
}

TEST(a_released_state_takes_no_insert_by_an_edit)
{
	struct mmn_state *state = new_state();
	struct driver a, b;

	driver_add(&b, NULL, state, 100, 200);
	t_err(mmn_state_release(state), 0);
	driver_init(&a, NULL);
	expect_range(&b, state, 100, 200);
	{
		struct mmn_range_edit edits[] = {
			edit_of(MMN_RANGE_RESIZE, &b, 300, 400),
			edit_of(MMN_RANGE_INSERT, &a, 100, 200),
		};

		t_err(mmn_range_subscription_edit(state, edits, 2), -EINVAL);
	}
	expect_range(&b, state, 100, 200);
	/* what is there may still be moved and removed */
	t_err(resize(&b, 300, 400), 0);
	expect_range(&b, state, 300, 400);
	driver_remove(&b);
	mmn_state_put(state);
}

static void remove_inside(struct driver *driver,
			  const struct mmn_invalidate_desc *desc)
{
	struct mmn_range_edit edit = edit_of(MMN_RANGE_REMOVE, driver, 0, 0);

	t_err(mmn_range_subscription_edit(driver->arg, &edit, 1), -EDEADLK);
}

TEST(a_remove_by_an_edit_in_a_callback_is_refused)
{
	struct mmn_state *state = new_state();
	struct driver a;

	report_expected("remove in a callback");
	driver_add(&a, NULL, state, 1000, 1999);
	a.hook = remove_inside;
	a.arg = state;
	change(state, 1000, 1000);
	a.hook = NULL;
	expect_range(&a, state, 1000, 1999);
	driver_remove(&a);
	mmn_state_put(state);
}

TEST(a_fork_child_edits_nothing)
{
	struct mmn_state *state = new_state();
	struct driver a, b;
	int status;
	pid_t pid;

	driver_add(&a, NULL, state, 1000, 1999);
	driver_init(&b, NULL);
	pid = fork();
	if (!pid) {
		struct mmn_range_edit edit =
			edit_of(MMN_RANGE_INSERT, &b, 1, 2);

		_exit(resize(&a, 1, 2) == -ESTALE &&
				      mmn_range_subscription_edit(state, &edit,
								  1) == -ESTALE
			      ? 0
			      : 1);
	}
	t_eq(waitpid(pid, &status, 0), pid);
	t_eq(status, 0);
	expect_range(&a, state, 1000, 1999);
	driver_remove(&a);
	mmn_state_put(state);
}

/* ------------------------------------------------------------------ */
/* Races                                                              */
/* ------------------------------------------------------------------ */

#define NR_ADDRS 64
#define NR_SUBS 4
#define NR_CHANGES 2000

/*
 * Two subscriptions share the range, below and from the border on.  The entries
 * belong to whoever has the address: when the border moves, or one is replaced
 * by a spare, they are handed over under the lock.  A callback tears down what
 * its subscription has at that moment, and no more.
 */
struct world {
	struct mmn_state *state;
	pthread_mutex_t lock;
	/* lock */
	struct mmn_range_subscription subs[NR_SUBS];
	unsigned int half[2];
	uintptr_t border;
	uint32_t entries[NR_ADDRS];
	/* an object is not used again before they have left */
	unsigned int readers[NR_SUBS];
	/* atomic */
	uint32_t memory[NR_ADDRS];
	uint32_t is_spare[NR_SUBS];
	uint32_t stop;
};

static struct world world = { .lock = PTHREAD_MUTEX_INITIALIZER };

static unsigned int half_of(uintptr_t addr)
{
	return addr >= world.border;
}

static bool tear_down(struct mmn_range_subscription *sub,
		      const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	uintptr_t addr;

	pthread_mutex_lock(&world.lock);
	mmn_range_set_seq(sub, cur_seq);
	for (addr = desc->start; addr <= desc->last; addr++)
		if (sub == &world.subs[world.half[half_of(addr)]])
			world.entries[addr] = 0;
	pthread_mutex_unlock(&world.lock);
	return true;
}

/* May be called by the edit itself, with the lock held. */
static void be_spare(struct mmn_range_subscription *sub)
{
	/*
	 * pair(spare): release, with the acquire in find_spare().  Without it
	 * the next insert may overtake what is left of this life.
	 */
	mmn_store_release(&world.is_spare[sub - world.subs], 1);
}

static const struct mmn_range_ops world_ops = {
	.invalidate = tear_down,
	.release = be_spare,
};

static bool is_stopped(void)
{
	/* relaxed: a flag */
	return mmn_load_relaxed(&world.stop);
}

static void *read_world(void *arg)
{
	uintptr_t addr = 0;

	while (!is_stopped()) {
		struct mmn_range_subscription *sub;
		uint32_t seen;
		uint64_t seq;

		addr = (addr + 7) % NR_ADDRS;
		pthread_mutex_lock(&world.lock);
		sub = &world.subs[world.half[half_of(addr)]];
		world.readers[sub - world.subs]++;
		pthread_mutex_unlock(&world.lock);
		if (mmn_range_read_begin_try(sub, &seq))
			seq = 0;
		/* relaxed: ordered by the protocol, which is what is tested */
		seen = mmn_load_relaxed(&world.memory[addr]);
		pthread_mutex_lock(&world.lock);
		world.readers[sub - world.subs]--;
		if (sub == &world.subs[world.half[half_of(addr)]] &&
		    !mmn_range_read_retry(sub, seq))
			world.entries[addr] = seen;
		pthread_mutex_unlock(&world.lock);
	}
	return NULL;
}

static struct mmn_range_edit half_edit(uint32_t op, unsigned int half,
				       unsigned int nr)
{
	struct mmn_range_edit edit = {
		.op = op,
		.sub = &world.subs[nr],
		.start = half ? world.border : 0,
		.last = half ? NR_ADDRS - 1 : world.border - 1,
	};

	return edit;
}

/* With the lock held. */
static int find_spare(void)
{
	int i;

	for (i = 0; i < NR_SUBS; i++)
		/*
		 * pair(spare): acquire, with the release in be_spare().
		 * Without it as there.
		 */
		if (mmn_load_acquire(&world.is_spare[i]) && !world.readers[i])
			return i;
	return -1;
}

static void move_border(uintptr_t border)
{
	struct mmn_range_edit edits[2];
	unsigned int half;

	pthread_mutex_lock(&world.lock);
	world.border = border;
	for (half = 0; half < 2; half++)
		edits[half] =
			half_edit(MMN_RANGE_RESIZE, half, world.half[half]);
	t_err(mmn_range_subscription_edit(world.state, edits, 2), 0);
	pthread_mutex_unlock(&world.lock);
}

static void replace(unsigned int half, uintptr_t border)
{
	struct mmn_range_edit edits[3];
	unsigned int old;
	int spare;

	pthread_mutex_lock(&world.lock);
	spare = find_spare();
	if (spare >= 0) {
		old = world.half[half];
		/* relaxed: nobody else takes it away */
		mmn_store_relaxed(&world.is_spare[spare], 0);
		world.half[half] = (unsigned int)spare;
		world.border = border;
		edits[0] = half_edit(MMN_RANGE_REMOVE_DEFERRED, half, old);
		edits[1] =
			half_edit(MMN_RANGE_INSERT, half, (unsigned int)spare);
		edits[2] =
			half_edit(MMN_RANGE_RESIZE, !half, world.half[!half]);
		t_err(mmn_range_subscription_edit(world.state, edits, 3), 0);
	}
	pthread_mutex_unlock(&world.lock);
}

static void *edit_world(void *arg)
{
	uintptr_t border = NR_ADDRS / 2;
	unsigned int n;

	for (n = 0; !is_stopped(); n++) {
		border = 1 + (border + 13) % (NR_ADDRS - 2);
		if (n % 4)
			move_border(border);
		else
			replace(n / 4 % 2, border);
	}
	return NULL;
}

static void expect_no_entries(uintptr_t start, uintptr_t last)
{
	uintptr_t addr;

	pthread_mutex_lock(&world.lock);
	for (addr = start; addr <= last; addr++)
		t_eq(world.entries[addr], 0);
	pthread_mutex_unlock(&world.lock);
}

static void *change_world(void *arg)
{
	struct mmn_invalidate_desc desc;
	uintptr_t start = 0, last, addr;
	unsigned int n;

	for (n = 0; n < NR_CHANGES; n++) {
		start = (start + 11) % NR_ADDRS;
		last = start + n % 16;
		if (last >= NR_ADDRS)
			last = NR_ADDRS - 1;
		change_open(&desc, world.state, start, last);
		expect_no_entries(start, last);
		for (addr = start; addr <= last; addr++)
			/* relaxed: ordered by the protocol */
			mmn_fetch_add_relaxed(&world.memory[addr], 1);
		expect_no_entries(start, last);
		change_end(&desc);
	}
	return NULL;
}

static void begin_world(void)
{
	struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = &world_ops,
	};
	unsigned int i;

	world.state = new_state();
	world.border = NR_ADDRS / 2;
	for (i = 0; i < NR_ADDRS; i++)
		world.memory[i] = 1;
	for (i = 0; i < NR_SUBS; i++) {
		t_err(mmn_range_subscription_init(&world.subs[i], &config), 0);
		world.is_spare[i] = i >= 2;
	}
	for (i = 0; i < 2; i++) {
		struct mmn_range_edit edit = half_edit(MMN_RANGE_INSERT, i, i);

		world.half[i] = i;
		t_err(mmn_range_subscription_edit(world.state, &edit, 1), 0);
	}
}

TEST(nothing_stale_stays_while_edits_race_with_changes, .timeout = 60)
{
	pthread_t changers[2], reader, editor;
	unsigned int i;

	begin_world();
	t_eq(pthread_create(&reader, NULL, read_world, NULL), 0);
	t_eq(pthread_create(&editor, NULL, edit_world, NULL), 0);
	for (i = 0; i < 2; i++)
		t_eq(pthread_create(&changers[i], NULL, change_world, NULL), 0);
	for (i = 0; i < 2; i++)
		pthread_join(changers[i], NULL);
	/* relaxed: a flag */
	mmn_store_relaxed(&world.stop, 1);
	pthread_join(reader, NULL);
	pthread_join(editor, NULL);
	for (i = 0; i < 2; i++)
		t_err(mmn_range_subscription_remove(&world.subs[world.half[i]]),
		      0);
	mmn_state_put(world.state);
}
