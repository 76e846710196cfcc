/* SPDX-License-Identifier: MIT */
/* Nothing grows: states, subscriptions and changes give back what they take. */
#include "unit/conformance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mmn/memory.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Sanitizers keep freed memory on purpose, and take longer. */
enum { SCALE = SANITIZED ? 50 : 1 };

static size_t resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	size_t size = 0, resident = 0;

	t_ne(file, NULL);
	t_eq(fscanf(file, "%zu %zu", &size, &resident), 2);
	fclose(file);
	return resident * sysconf(_SC_PAGESIZE);
}

/* Warm up, then run @once @times and see that nothing was added. */
static void expect_no_growth(void (*once)(unsigned int i), unsigned int times)
{
	size_t before, after;

	times /= SCALE;
	for (unsigned int i = 0; i < times / 10; i++)
		once(i);
	before = resident_bytes();
	for (unsigned int i = 0; i < times; i++)
		once(i);
	after = resident_bytes();
	t_note("%u times: %zu KiB before, %zu KiB after", times, before / 1024,
	       after / 1024);
	/* Less than a byte for each; the kernel counts in lots of pages. */
	if (!SANITIZED)
		t_lt(after, before + times + (256 << 10));
}

static void create_and_put(unsigned int i)
{
	mmn_state_put(new_state());
}

TEST(states_can_be_created_for_ever)
{
	expect_no_growth(create_and_put, 100 * 1000);
}

static struct mmn_state *memory_state;
static struct driver memory_driver;

static void insert_and_remove(unsigned int i)
{
	uintptr_t start = i * 4096UL;

	driver_insert(&memory_driver, memory_state, start, start + 4095);
	driver_remove(&memory_driver);
}

TEST(subscriptions_can_be_inserted_for_ever)
{
	memory_state = new_state();
	driver_init(&memory_driver, NULL);
	expect_no_growth(insert_and_remove, 500 * 1000);
	mmn_state_put(memory_state);
}

static void change_hit_and_miss(unsigned int i)
{
	change(memory_state, 0, 99);
	change(memory_state, 500, 599);
}

TEST(changes_can_be_made_for_ever)
{
	memory_state = new_state();
	driver_add(&memory_driver, NULL, memory_state, 0, 99);
	expect_no_growth(change_hit_and_miss, 200 * 1000);
	driver_remove(&memory_driver);
	mmn_state_put(memory_state);
}

enum { OPEN_AT_ONCE = 1000 };

static void open_many(unsigned int i)
{
	static struct mmn_invalidate_desc desc[OPEN_AT_ONCE];

	for (uintptr_t n = 0; n < OPEN_AT_ONCE; n++)
		change_open(&desc[n], memory_state, n * 50, n * 50 + 9);
	for (uintptr_t n = 0; n < OPEN_AT_ONCE; n++)
		change_end(&desc[(n * 7) % OPEN_AT_ONCE]);
}

TEST(many_open_changes_at_once_leave_nothing_behind)
{
	memory_state = new_state();
	driver_add(&memory_driver, NULL, memory_state, 0, 9999);
	expect_no_growth(open_many, 100);
	t_ok(!must_wait(&memory_driver));
	driver_remove(&memory_driver);
	mmn_state_put(memory_state);
}

static int shared_alloc(struct mmn_state *state,
			struct mmn_subscription **ret_sub)
{
	*ret_sub = mmn_callback_alloc(sizeof(**ret_sub));
	if (!*ret_sub)
		return -ENOMEM;
	memset(*ret_sub, 0, sizeof(**ret_sub));
	return 0;
}

static void shared_free(struct mmn_subscription *sub)
{
	mmn_callback_free(sub);
}

static void get_and_put(unsigned int i)
{
	static const struct mmn_subscription_ops ops = {
		.alloc_subscription = shared_alloc,
		.free_subscription = shared_free,
	};
	struct mmn_subscription *sub;

	t_err(mmn_subscription_get(&ops, memory_state, &sub), 0);
	t_err(mmn_subscription_put(sub), 0);
	if (i % 64 == 0)
		t_err(mmn_subscription_synchronize(), 0);
}

TEST(shared_subscriptions_can_be_taken_and_put_for_ever)
{
	memory_state = new_state();
	expect_no_growth(get_and_put, 100 * 1000);
	t_err(mmn_subscription_synchronize(), 0);
	mmn_state_put(memory_state);
}

static bool accept(struct mmn_range_subscription *sub,
		   const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	return true;
}

static void free_released(struct mmn_range_subscription *sub)
{
	memset(sub, 0xa5, sizeof(*sub));
	free(sub);
}

static void insert_and_remove_deferred(unsigned int i)
{
	static const struct mmn_range_ops ops = { .invalidate = accept,
						  .release = free_released };
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &ops };
	struct mmn_range_subscription *sub = aligned_alloc(64, sizeof(*sub));

	t_ne(sub, NULL);
	t_err(mmn_range_subscription_init(sub, &config), 0);
	t_err(mmn_range_subscription_insert(sub, memory_state, i, i + 99), 0);
	t_err(mmn_range_subscription_remove_deferred(sub), 0);
}

TEST(deferred_removals_free_what_they_remove)
{
	memory_state = new_state();
	expect_no_growth(insert_and_remove_deferred, 100 * 1000);
	mmn_state_put(memory_state);
}
