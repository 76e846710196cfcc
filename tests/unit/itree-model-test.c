/* SPDX-License-Identifier: MIT */
/*
 * The interval index against a model that is too simple to be wrong: an array
 * of what is in, searched from one end to the other.
 *
 * T_SEED in the environment chooses the random sequence; each test prints its.
 */
#include "t/tap.h"

#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "tree/itree.h"

/* Sanitizers make everything slow; the sequence is the same, only shorter. */
#define SCALE(n) ((n) / (MMN_TSAN ? 10 : MMN_ASAN ? 5 : 1))

#define MAX_NODES 512

struct model {
	struct itree tree;
	struct itree_node nodes[MAX_NODES];
	bool is_in[MAX_NODES];
	uint32_t nr;
	/* Keys are drawn from this many starts and births. */
	uint64_t nr_starts;
	uint64_t max_length;
	uint64_t random;
};

static struct model model;

static uint64_t next_random(void)
{
	uint64_t x = model.random += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static void begin(uint32_t nr, uint64_t nr_starts, uint64_t max_length)
{
	const char *seed = getenv("T_SEED");

	memset(&model, 0, sizeof(model));
	itree_init(&model.tree);
	model.nr = nr;
	model.nr_starts = nr_starts;
	model.max_length = max_length;
	model.random = seed ? strtoull(seed, NULL, 0) : 20240229;
	t_note("T_SEED=%llu", (unsigned long long)model.random);
}

static bool overlaps(const struct itree_node *node, uintptr_t start,
		     uintptr_t last)
{
	return node->start <= last && node->last >= start;
}

static bool above(const struct itree_node *node, uintptr_t start,
		  uint64_t birth)
{
	return node->start > start ||
	       (node->start == start && node->birth > birth);
}

/* The model's answer; @cursor NULL means from the beginning. */
static struct itree_node *model_next(const struct itree_node *cursor,
				     uintptr_t start, uintptr_t last)
{
	struct itree_node *best = NULL;
	uint32_t i;

	for (i = 0; i < model.nr; i++) {
		struct itree_node *node = &model.nodes[i];

		if (!model.is_in[i] || !overlaps(node, start, last))
			continue;
		if (cursor && !above(node, cursor->start, cursor->birth))
			continue;
		if (!best || above(best, node->start, node->birth))
			best = node;
	}
	return best;
}

static uintptr_t random_start(void)
{
	return next_random() % model.nr_starts;
}

static uintptr_t random_last(uintptr_t start)
{
	uint64_t length = next_random() % model.max_length;

	return start + length < start ? UINTPTR_MAX : start + length;
}

/* Puts a random node in, or takes it out. */
static void toggle(void)
{
	uint32_t i = (uint32_t)(next_random() % model.nr);
	struct itree_node *node = &model.nodes[i];

	if (model.is_in[i]) {
		itree_remove(&model.tree, node);
	} else {
		node->start = random_start();
		node->last = random_last(node->start);
		/* Unique, and not in the order of insertion. */
		node->birth = i * UINT64_C(0x9e3779b1) % 65537 * 1024 + i;
		itree_insert(&model.tree, node);
	}
	model.is_in[i] = !model.is_in[i];
}

static void compare_searches(void)
{
	uintptr_t start = random_start();
	uintptr_t last = random_last(start);
	struct itree_node cursor = { .start = random_start() };

	cursor.birth = next_random() % (65537 * 1024);
	if (itree_first_overlap(&model.tree, start, last) !=
	    model_next(NULL, start, last))
		t_fail("first overlap of %#lx-%#lx", start, last);
	if (itree_next_overlap(&model.tree, cursor.start, cursor.birth, start,
			       last) != model_next(&cursor, start, last))
		t_fail("next overlap of %#lx-%#lx above %#lx, %#lx", start,
		       last, cursor.start, cursor.birth);
}

/* From @cursor on, or from the first; some at a time, and by searches. */
static void compare_walks(const struct itree_node *cursor)
{
	struct itree_node *expected, *nodes[7];
	uintptr_t start = random_start();
	uintptr_t last = random_last(start);
	uint32_t max, nr, i;
	struct itree_iter iter;

	itree_iter_init(&iter, &model.tree, start, last);
	if (cursor) {
		itree_iter_seek(&iter, &model.tree, cursor->start,
				cursor->birth);
		expected = itree_next_overlap(&model.tree, cursor->start,
					      cursor->birth, start, last);
	} else {
		expected = itree_first_overlap(&model.tree, start, last);
	}
	do {
		max = 1 + (uint32_t)(next_random() % 7);
		nr = itree_iter_take(&iter, nodes, max);
		for (i = 0; i < nr; i++) {
			if (nodes[i] != expected)
				t_fail("walk over %#lx-%#lx", start, last);
			expected =
				itree_next_overlap(&model.tree, nodes[i]->start,
						   nodes[i]->birth, start,
						   last);
		}
	} while (nr == max);
	t_eq(expected, NULL);
	t_eq(itree_iter_take(&iter, nodes, 7), 0);
}

static void compare_hull(void)
{
	uintptr_t lo = UINTPTR_MAX;
	uintptr_t hi = 0;
	uintptr_t tree_lo = 1;
	uintptr_t tree_hi = 2;
	size_t nr = 0;
	uint32_t i;

	for (i = 0; i < model.nr; i++) {
		if (!model.is_in[i])
			continue;
		nr++;
		if (model.nodes[i].start < lo)
			lo = model.nodes[i].start;
		if (model.nodes[i].last > hi)
			hi = model.nodes[i].last;
	}
	t_eq(model.tree.nr, nr);
	t_eq(itree_is_empty(&model.tree), nr == 0);
	t_eq(itree_hull(&model.tree, &tree_lo, &tree_hi), nr > 0);
	t_eq(tree_lo, nr ? lo : 1);
	t_eq(tree_hi, nr ? hi : 2);
}

static void run(uint64_t rounds)
{
	uint64_t round;

	for (round = 0; round < rounds; round++) {
		toggle();
		compare_searches();
		if (round % 16 == 0) {
			struct itree_node cursor = { .start = random_start() };

			cursor.birth = next_random() % (65537 * 1024);
			compare_walks(NULL);
			compare_walks(&cursor);
		}
		if (round % 64)
			continue;
		if (!itree_check(&model.tree))
			t_fail("an invariant is broken after %lu operations",
			       round);
		compare_hull();
	}
}

TEST(crowded_tree_answers_as_the_model, .timeout = 60)
{
	/* Few starts: most keys differ in the birth only. */
	begin(64, 16, 8);
	run(SCALE(1000000));
}

TEST(sparse_tree_answers_as_the_model, .timeout = 60)
{
	begin(64, 1000, 40);
	run(SCALE(1000000));
}

TEST(large_tree_answers_as_the_model, .timeout = 60)
{
	begin(MAX_NODES, 4096, 256);
	run(SCALE(200000));
}

TEST(ranges_at_the_end_of_the_address_space_answer_as_the_model, .timeout = 60)
{
	/* Starts wrap the whole space; every fourth range reaches its end. */
	begin(64, UINTPTR_MAX, UINTPTR_MAX);
	run(SCALE(500000));
}

/* All ways to put @nr ranges with ends in [0, @limit) into a tree. */
static void each_choice(uint32_t nr, uintptr_t limit, uint32_t depth)
{
	struct itree_node *node = &model.nodes[depth];
	struct itree_node cursor;
	uintptr_t start;
	uintptr_t last;

	if (depth == nr) {
		if (!itree_check(&model.tree))
			t_fail("an invariant is broken");
		for (start = 0; start < limit; start++)
			for (last = start; last < limit; last++) {
				struct itree_node *at;

				at = itree_first_overlap(&model.tree, start,
							 last);
				if (at != model_next(NULL, start, last))
					t_fail("first overlap of %lu-%lu",
					       start, last);
				for (; at; at = itree_next_overlap(
						   &model.tree, cursor.start,
						   cursor.birth, start, last)) {
					cursor = *at;
					if (itree_next_overlap(&model.tree,
							       cursor.start,
							       cursor.birth,
							       start, last) !=
					    model_next(&cursor, start, last))
						t_fail("next of %lu-%lu", start,
						       last);
				}
			}
		return;
	}
	for (start = 0; start < limit; start++)
		for (last = start; last < limit; last++) {
			node->start = start;
			node->last = last;
			node->birth = depth;
			itree_insert(&model.tree, node);
			model.is_in[depth] = true;
			each_choice(nr, limit, depth + 1);
			itree_remove(&model.tree, node);
			model.is_in[depth] = false;
		}
}

TEST(every_small_tree_answers_as_the_model, .timeout = 60)
{
	uint32_t nr;

	begin(4, 1, 1);
	for (nr = 0; nr <= 3; nr++)
		each_choice(nr, 4, 0);
	each_choice(4, 3, 0);
	t_ok(itree_is_empty(&model.tree));
}

/* Takes 8 nodes out in every order that begins with any two of them. */
TEST(removal_in_any_order_keeps_the_invariants)
{
	uint32_t first;
	uint32_t second;
	uint32_t i;

	begin(8, 1, 1);
	for (first = 0; first < 8; first++)
		for (second = 0; second < 8; second++) {
			for (i = 0; i < 8; i++) {
				model.nodes[i].start = i * 5 % 8;
				model.nodes[i].last = i * 5 % 8 + i;
				model.nodes[i].birth = 1;
				itree_insert(&model.tree, &model.nodes[i]);
				t_ok(itree_check(&model.tree));
			}
			itree_remove(&model.tree, &model.nodes[first]);
			t_ok(itree_check(&model.tree));
			if (second != first)
				itree_remove(&model.tree, &model.nodes[second]);
			for (i = 0; i < 8; i++) {
				t_ok(itree_check(&model.tree));
				if (i != first && i != second)
					itree_remove(&model.tree,
						     &model.nodes[i]);
			}
			t_eq(model.tree.nr, 0);
		}
}

TEST(whole_address_space_overlaps_everything)
{
	struct itree tree;
	struct itree_node all = { .start = 0, .last = UINTPTR_MAX, .birth = 3 };
	struct itree_node end = { .start = UINTPTR_MAX,
				  .last = UINTPTR_MAX,
				  .birth = 5 };
	struct itree_node begin_ = { .start = 0, .last = 0, .birth = 7 };
	uintptr_t lo;
	uintptr_t hi;

	itree_init(&tree);
	itree_insert(&tree, &all);
	itree_insert(&tree, &end);
	itree_insert(&tree, &begin_);
	t_ok(itree_check(&tree));
	t_ok(itree_first_overlap(&tree, 0, UINTPTR_MAX) == &all);
	t_ok(itree_next(&tree, &all) == &begin_);
	t_ok(itree_next(&tree, &begin_) == &end);
	t_ok(!itree_next(&tree, &end));
	t_ok(itree_first_overlap(&tree, 1, UINTPTR_MAX - 1) == &all);
	t_ok(!itree_next_overlap(&tree, 0, 3, 1, UINTPTR_MAX - 1));
	t_ok(itree_next_overlap(&tree, 0, 3, UINTPTR_MAX, UINTPTR_MAX) == &end);
	t_ok(itree_last(&tree) == &end);
	t_ok(itree_hull(&tree, &lo, &hi));
	t_eq(lo, 0);
	t_eq(hi, UINTPTR_MAX);
}

TEST(empty_tree_has_nothing)
{
	struct itree tree;
	uintptr_t lo = 1;
	uintptr_t hi = 2;

	itree_init(&tree);
	t_ok(itree_check(&tree));
	t_ok(!itree_first(&tree));
	t_ok(!itree_last(&tree));
	t_ok(!itree_first_overlap(&tree, 0, UINTPTR_MAX));
	t_ok(!itree_next_overlap(&tree, 0, 0, 0, UINTPTR_MAX));
	t_ok(!itree_hull(&tree, &lo, &hi));
	t_eq(lo, 1);
	t_eq(hi, 2);
}

TEST(walk_visits_all_in_ascending_order)
{
	struct itree_node *node;
	uintptr_t start = 0;
	uint64_t birth = 0;
	size_t nr = 0;
	int i;

	begin(MAX_NODES, 100, 10);
	for (i = 0; i < 2000; i++)
		toggle();
	itree_for_each (node, &model.tree) {
		t_ok(nr == 0 || above(node, start, birth));
		start = node->start;
		birth = node->birth;
		nr++;
	}
	t_eq(nr, model.tree.nr);
}

TEST(walk_survives_changes_of_the_tree)
{
	struct itree_node *node;
	struct itree_node late = { .start = 50, .last = 50, .birth = 1 };
	struct itree_node missed = { .start = 5, .last = 50, .birth = 1 };
	struct itree tree;
	uint32_t i;
	size_t nr = 0;
	bool late_seen = false;

	itree_init(&tree);
	begin(100, 1, 1);
	for (i = 0; i < 100; i++) {
		model.nodes[i].start = i;
		model.nodes[i].last = i;
		model.nodes[i].birth = 9;
		itree_insert(&tree, &model.nodes[i]);
	}
	itree_for_each_overlap (node, &tree, 10, 89) {
		nr++;
		late_seen |= node == &late;
		t_ok(node != &missed);
		/* Ahead of the walk, behind it, and where it stands. */
		if (node->start == 20 && node != &late) {
			itree_remove(&tree, &model.nodes[30]);
			itree_insert(&tree, &late);
			itree_insert(&tree, &missed);
		}
		itree_remove(&tree, node);
		t_ok(itree_check(&tree));
	}
	/* 80 in range, one taken away, one added ahead. */
	t_eq(nr, 80);
	t_ok(late_seen);
	t_eq(tree.nr, 20 + 1);
}

/* h <= 1.4405 log2(n + 2) for every tree that fulfils T4. */
static void check_height(const struct itree *tree)
{
	double bound = 1.4405 * (64 - __builtin_clzl(tree->nr + 2));

	t_le(tree->root->height, (uint32_t)bound);
}

TEST(height_stays_logarithmic_for_sorted_input)
{
	enum { NR = 100000 };
	struct itree_node *nodes = calloc(NR, sizeof(*nodes));
	struct itree tree;
	int i;

	itree_init(&tree);
	for (i = 0; i < NR; i++) {
		nodes[i].start = (uintptr_t)i * 4096;
		nodes[i].last = nodes[i].start + 4095;
		itree_insert(&tree, &nodes[i]);
	}
	t_ok(itree_check(&tree));
	check_height(&tree);
	/* One end of it goes away. */
	for (i = 0; i < NR - 1000; i++)
		itree_remove(&tree, &nodes[i]);
	t_ok(itree_check(&tree));
	check_height(&tree);
	free(nodes);
}

TEST(second_insert_of_a_key_is_reported)
{
	struct itree_node a = { .start = 1, .last = 2, .birth = 3 };
	struct itree_node b = { .start = 1, .last = 9, .birth = 3 };
	struct itree tree;

	t_bug_expected("a key is inserted twice");
	itree_init(&tree);
	itree_insert(&tree, &a);
	itree_insert(&tree, &b);
	t_eq(t_bugs_seen(), 1);
	t_eq(tree.nr, 1);
	t_ok(itree_check(&tree));
}

TEST(range_that_ends_before_it_starts_is_reported)
{
	struct itree_node node = { .start = 2, .last = 1, .birth = 3 };
	struct itree tree;

	t_bug_expected("a range ends before it starts");
	itree_init(&tree);
	itree_insert(&tree, &node);
	t_ok(itree_is_empty(&tree));
}

TEST(removal_of_a_stranger_is_reported_and_has_no_effect)
{
	struct itree_node a = { .start = 1, .last = 2, .birth = 3 };
	struct itree_node twin = { .start = 1, .last = 2, .birth = 3 };
	struct itree tree;

	t_bug_expected("a tree it is not in");
	itree_init(&tree);
	itree_insert(&tree, &a);
	itree_remove(&tree, &twin);
	t_eq(tree.nr, 1);
	t_ok(itree_first(&tree) == &a);
}

static void return_left(struct itree_node *root, struct itree_node *left,
			struct itree_node *left_left,
			struct itree_node *left_right)
{
	left->left = left_left;
	left->right = left_right;
	left->height = 2;
	left->max_last = left_right->last;
	root->left = left;
}

TEST(check_finds_each_broken_invariant)
{
	struct itree_node nodes[7];
	struct itree_node *root;
	struct itree tree;
	uintptr_t i;

	itree_init(&tree);
	for (i = 0; i < 7; i++) {
		nodes[i].start = i * 10;
		nodes[i].last = i * 10 + 5;
		nodes[i].birth = 1;
		itree_insert(&tree, &nodes[i]);
	}
	root = tree.root;
	t_ok(itree_check(&tree));

	nodes[0].last = 0; /* T5: max_last of node 0 is 5 */
	t_ok(!itree_check(&tree));
	nodes[0].last = 5;

	nodes[0].start = 6; /* T1 */
	t_ok(!itree_check(&tree));
	nodes[0].start = 0;

	nodes[2].start = 0; /* T2: below its parent's left bound */
	t_ok(!itree_check(&tree));
	nodes[2].start = 20;

	root->height++; /* T3 */
	t_ok(!itree_check(&tree));
	root->height--;

	root->max_last--; /* T5 */
	t_ok(!itree_check(&tree));
	root->max_last++;

	root->left->left = NULL; /* T4: the right side stays as it was */
	root->left->right = NULL;
	root->left->height = 1;
	root->left->max_last = root->left->last;
	tree.nr -= 2;
	t_ok(itree_check(&tree));
	root->left = NULL;
	tree.nr--;
	t_ok(!itree_check(&tree));
	return_left(root, &nodes[1], &nodes[0], &nodes[2]);
	tree.nr += 3;

	tree.nr++; /* T6 */
	t_ok(!itree_check(&tree));
	tree.nr--;
	t_ok(itree_check(&tree));
}
