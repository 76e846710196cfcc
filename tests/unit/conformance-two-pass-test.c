/* SPDX-License-Identifier: MIT */
/* Conformance group VII: start all devices first, then wait for all. */
#include "unit/conformance.h"

#include <string.h>

static void add_two_pass(struct driver *driver, const char *name,
			 struct mmn_state *state, uintptr_t start,
			 uintptr_t last)
{
	driver_init_two_pass(driver, name);
	driver_insert(driver, state, start, last);
}

/* case 84 */
TEST(second_passes_come_after_all_first_ones_in_the_same_order)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a, b, c;

	add_two_pass(&c, "c", state, 200, 299);
	add_two_pass(&a, "a", state, 0, 99);
	add_two_pass(&b, "b", state, 100, 199);
	change_open(&desc, state, 0, 299);
	t_streq(journal(),
		"a.start b.start c.start a.finish b.finish c.finish");
	t_eq(a.finish.sub, &a.sub);
	t_eq(b.finish.sub, &b.sub);
	t_eq(c.finish.sub, &c.sub);
	change_end(&desc);
	driver_remove(&a);
	driver_remove(&b);
	driver_remove(&c);
	mmn_state_put(state);
}

/* case 85 */
TEST(subscriber_that_asks_for_no_second_pass_gets_none)
{
	struct mmn_state *state = new_state();
	struct driver a, b, c;

	add_two_pass(&a, "a", state, 0, 99);
	add_two_pass(&b, "b", state, 0, 99);
	driver_add(&c, "c", state, 0, 99);
	a.wants_finish = false;
	change(state, 0, 99);
	t_streq(journal(), "a.start b.start c b.finish");
	driver_remove(&a);
	driver_remove(&b);
	driver_remove(&c);
	mmn_state_put(state);
}

/* A device with room for two changes at once; a third is done in one pass. */
struct pooled {
	struct mmn_range_subscription sub;
	pthread_mutex_t lock;
	struct pooled_finish {
		struct mmn_range_finish finish;
		bool in_use;
		unsigned int finishes;
	} pool[2];
	unsigned int one_pass;
	struct gate *gate;
};

static bool pooled_start(struct mmn_range_subscription *sub,
			 const struct mmn_invalidate_desc *desc,
			 uint64_t cur_seq, struct mmn_range_finish **ret_finish)
{
	struct pooled *pooled = (struct pooled *)sub;

	pthread_mutex_lock(&pooled->lock);
	mmn_range_set_seq(sub, cur_seq);
	for (int i = 0; i < 2 && !*ret_finish; i++) {
		if (pooled->pool[i].in_use)
			continue;
		pooled->pool[i].in_use = true;
		*ret_finish = &pooled->pool[i].finish;
	}
	if (!*ret_finish)
		pooled->one_pass++;
	pthread_mutex_unlock(&pooled->lock);
	if (*ret_finish)
		gate_pass(pooled->gate);
	return true;
}

static void pooled_finish(struct mmn_range_finish *finish)
{
	struct pooled *pooled = (struct pooled *)finish->sub;
	struct pooled_finish *own = (struct pooled_finish *)finish;

	pthread_mutex_lock(&pooled->lock);
	t_ok(own == &pooled->pool[0] || own == &pooled->pool[1]);
	t_ok(own->in_use);
	own->in_use = false;
	own->finishes++;
	pthread_mutex_unlock(&pooled->lock);
}

static const struct mmn_range_ops pooled_ops = {
	.invalidate_start = pooled_start,
	.invalidate_finish = pooled_finish,
};

/* case 86 */
TEST(concurrent_changes_finish_each_with_its_own_object)
{
	struct gate gate = GATE_INITIALIZER;
	struct pooled pooled = { .gate = &gate };
	struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = &pooled_ops,
		.lock = mmn_driver_mutex(&pooled.lock),
	};
	struct mmn_state *state = new_state();
	struct changer one, two;

	pthread_mutex_init(&pooled.lock, NULL);
	t_err(mmn_range_subscription_init(&pooled.sub, &config), 0);
	t_err(mmn_range_subscription_insert(&pooled.sub, state, 0, 99), 0);
	changer_start(&one, state, 0, 99);
	changer_start(&two, state, 0, 99);
	gate_wait_arrived(&gate, 2);
	/* Both objects are taken: all at once, then. */
	change(state, 0, 99);
	t_eq(pooled.one_pass, 1);
	gate_open(&gate);
	t_err(changer_join(&one), 0);
	t_err(changer_join(&two), 0);
	t_eq(pooled.pool[0].finishes, 1);
	t_eq(pooled.pool[1].finishes, 1);
	change_end(&one.desc);
	change_end(&two.desc);
	t_err(mmn_range_subscription_remove(&pooled.sub), 0);
	mmn_state_put(state);
}

/* case 87 */
TEST(release_runs_both_passes_and_then_closes)
{
	struct mmn_state *state = new_state();
	struct driver a, b;

	add_two_pass(&a, "a", state, 0, 99);
	add_two_pass(&b, "b", state, 100, 199);
	t_err(mmn_state_release(state), 0);
	t_streq(journal(), "a.start b.start a.finish b.finish");
	t_eq(a.seen.event, MMN_EVENT_RELEASE);
	t_ok(!must_wait(&a));
	t_ok(!must_wait(&b));
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

/* Devices that become idle only when all of them have been told to stop. */
static struct gate all_stopped = GATE_INITIALIZER;

static void tell_device(void)
{
	pthread_mutex_lock(&all_stopped.lock);
	if (++all_stopped.arrived == 4)
		all_stopped.is_open = true;
	pthread_mutex_unlock(&all_stopped.lock);
}

static void wait_for_devices(struct mmn_range_finish *finish)
{
	gate_pass(&all_stopped);
}

static bool stop_device(struct mmn_range_subscription *sub,
			const struct mmn_invalidate_desc *desc,
			uint64_t cur_seq, struct mmn_range_finish **ret_finish)
{
	struct driver *driver = (struct driver *)sub;

	tell_device();
	*ret_finish = &driver->finish;
	return true;
}

/* case 88: one wait in all, not one after the other. */
TEST(devices_stop_side_by_side)
{
	static const struct mmn_range_ops ops = {
		.invalidate_start = stop_device,
		.invalidate_finish = wait_for_devices,
	};
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &ops };
	struct mmn_state *state = new_state();
	struct driver device[4];

	memset(device, 0, sizeof(device));
	for (int i = 0; i < 4; i++) {
		t_err(mmn_range_subscription_init(&device[i].sub, &config), 0);
		driver_insert(&device[i], state, i * 100, i * 100 + 99);
	}
	change(state, 0, 399);
	t_eq(all_stopped.arrived, 4 + 4);
	for (int i = 0; i < 4; i++)
		driver_remove(&device[i]);
	mmn_state_put(state);
}

TEST(finish_object_may_be_used_again_by_the_next_change)
{
	struct mmn_state *state = new_state();
	struct driver a, b;

	add_two_pass(&a, NULL, state, 0, 99);
	add_two_pass(&b, NULL, state, 0, 99);
	for (unsigned int i = 1; i <= 100; i++) {
		memset(&a.finish, 0xa5, sizeof(a.finish));
		change(state, 0, 99);
		t_eq(a.finishes, i);
		t_eq(b.finishes, i);
	}
	driver_remove(&a);
	driver_remove(&b);
	mmn_state_put(state);
}

TEST(readers_start_over_after_the_first_pass_already)
{
	struct mmn_state *state = new_state();
	struct mmn_invalidate_desc desc;
	struct driver a;
	uint64_t seq;

	add_two_pass(&a, NULL, state, 0, 99);
	seq = begin(&a);
	change_open(&desc, state, 0, 99);
	t_ok(driver_retry(&a, seq));
	t_ok(must_wait(&a));
	change_end(&desc);
	t_ok(!driver_retry(&a, begin(&a)));
	driver_remove(&a);
	mmn_state_put(state);
}
