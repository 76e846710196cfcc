/* SPDX-License-Identifier: MIT */
/*
 * A block of the arena on its way through a stack of free ones.  This is
 * base/arena.c itself, under other names: the explorer has a heap of its own.
 */
#define mmn_callback_alloc arena_alloc_
#define mmn_callback_zalloc arena_zalloc_
#define mmn_callback_free arena_free_
#define mmn_callback_footprint arena_footprint_
#define mmn_callback_in_use arena_in_use_
#define mmn_callback_reserve arena_reserve_
/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "base/arena.c"

#include "ladder/gallery/gallery.h"
#include "ladder/scenario.h"

static struct {
	struct header header;
	uint32_t content;
} block;

static void set_up(void)
{
	chunks[0] = (char *)&block;
	tops[0] = 0;
	block.header.unit = 0;
	block.header.class = 0;
	ladder_name(&tops[0], "top");
	ladder_name(&block.header.next, "next");
	ladder_name(&block.content, "content");
}

static void use_and_push(void)
{
	block.content = 1;
	push(&block.header);
}

static void pop_and_use(void)
{
	if (pop(0))
		block.content = 2;
}

const struct ladder_scenario arena_block = {
	.name = "arena-block",
	.what = "a block is freed by one thread and taken by another",
	.explanation = "The last writes of one owner come before the first of "
		       "the next.",
	.setup = set_up,
	.threads = { use_and_push, pop_and_use },
	.titles = { "push", "pop" },
};

/* The first is free, the second is freed; where a thread got one is its own. */
static struct {
	struct header header;
	char content[HEADER_BYTES];
} pair[2];

static struct header *popped;

static void set_up_pair(void)
{
	chunks[0] = (char *)pair;
	tops[0] = 0;
	popped = NULL;
	pair[0].header.unit = 0;
	pair[0].header.class = 0;
	pair[1].header.unit = 1;
	pair[1].header.class = 0;
	pair[1].header.next = 0;
	push(&pair[0].header);
	ladder_name(&tops[0], "top");
	ladder_name(&pair[0].header.next, "first.next");
	ladder_name(&pair[1].header.next, "second.next");
}

static void pop_one(void)
{
	popped = pop(0);
}

static void push_second(void)
{
	push(&pair[1].header);
}

static void other_is_left(void)
{
	struct header *left = pop(0);

	ladder_assert(popped && left && popped != left);
	ladder_assert(!pop(0));
}

const struct ladder_scenario arena_retry = {
	.name = "arena-retry",
	.what = "a block is freed while another thread takes one",
	.explanation =
		"Who has to try again has found a block that was freed "
		"meanwhile: he reads its\nsuccessor as it was when the block "
		"was pushed.",
	.setup = set_up_pair,
	.threads = { pop_one, push_second },
	.titles = { "pop", "push" },
	.check = other_is_left,
};
