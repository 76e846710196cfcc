/* SPDX-License-Identifier: MIT */
/*
 * A program as a user writes it: linked with the shared library, a subscriber
 * whose callback uses the heap.
 */
#include "t/tap.h"

#include <mmn/memory.h>
#include <mmn/notifier.h>
#include <stdlib.h>

#include "base/compiler.h"
#include "config.h"

/* As src/base/meson.build decides. */
#define HEAP_IS_CHECKED (MMN_SELFCHECK && !MMN_ASAN && !MMN_TSAN)

static bool invalidate_with_malloc(struct mmn_range_subscription *sub,
				   const struct mmn_invalidate_desc *desc,
				   uint64_t cur_seq)
{
	void *volatile block = malloc(100);

	(void)desc;
	free(block);
	mmn_range_set_seq(sub, cur_seq);
	return true;
}

static bool invalidate_with_arena(struct mmn_range_subscription *sub,
				  const struct mmn_invalidate_desc *desc,
				  uint64_t cur_seq)
{
	void *block = mmn_callback_alloc(100);

	(void)desc;
	mmn_callback_free(block);
	mmn_range_set_seq(sub, cur_seq);
	return block;
}

static void change_under(const struct mmn_range_ops *ops)
{
	struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = ops,
		.lock = mmn_driver_no_lock(),
	};
	struct mmn_range_subscription sub = { .private_ = { 0 } };
	struct mmn_invalidate_desc desc;
	struct mmn_state *state;

	t_err(mmn_state_create(&state), 0);
	t_err(mmn_range_subscription_init(&sub, &config), 0);
	t_err(mmn_range_subscription_insert(&sub, state, 4096, 8191), 0);
	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, 0, 5000);
	t_err(mmn_invalidate_start(&desc), 0);
	t_err(mmn_invalidate_end(&desc), 0);
	t_err(mmn_range_subscription_remove(&sub), 0);
	mmn_state_put(state);
}

TEST(heap_calls_of_a_callback_are_reported)
{
	static const struct mmn_range_ops ops = {
		.invalidate = invalidate_with_malloc,
	};

	if (!HEAP_IS_CHECKED)
		t_skip("the heap is checked in debug builds without sanitizers");
	t_need_kernel("may have a malloc() of its own");
	t_bug_expected("malloc() in a callback");
	t_bug_expected("free() in a callback");
	change_under(&ops);
}

TEST(callback_memory_in_a_callback_is_silent)
{
	static const struct mmn_range_ops ops = {
		.invalidate = invalidate_with_arena,
	};

	change_under(&ops);
}
