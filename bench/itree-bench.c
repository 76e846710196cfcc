/* SPDX-License-Identifier: MIT */
/*
 * The interval index against what one would write by hand: a linked list that
 * is searched from end to end, and an array sorted by start.
 *
 * The ranges do not overlap each other, which is the best case of the sorted
 * array: where they may, it has no logarithmic search at all.
 */
#include "bench.h"

#include <string.h>

#include "base/list.h"
#include "tree/itree.h"

#define SPACING 16384
#define LENGTH 4096

struct range {
	uintptr_t start;
	uintptr_t last;
};

struct entry {
	struct itree_node node;
	struct list_head link;
};

struct fixture {
	struct itree tree;
	struct list_head list;
	struct entry *entries;
	/* Sorted by start; one more fits. */
	struct range *array;
	size_t nr;
	uint64_t random;
};

static uintptr_t random_start(struct fixture *fixture)
{
	fixture->random = fixture->random * UINT64_C(6364136223846793005) +
			  UINT64_C(1442695040888963407);
	return (fixture->random >> 33) % fixture->nr * SPACING;
}

static void tree_hit(void *arg, uint64_t n)
{
	struct fixture *fixture = arg;

	while (n--) {
		uintptr_t start = random_start(fixture);

		bench_use(itree_first_overlap(&fixture->tree, start, start));
	}
}

static void tree_miss(void *arg, uint64_t n)
{
	struct fixture *fixture = arg;

	while (n--) {
		uintptr_t start = random_start(fixture) + LENGTH;

		bench_use(itree_first_overlap(&fixture->tree, start,
					      start + LENGTH - 1));
	}
}

static struct entry *list_find(struct fixture *fixture, uintptr_t start,
			       uintptr_t last)
{
	struct entry *entry;

	list_for_each (entry, &fixture->list, link)
		if (entry->node.start <= last && entry->node.last >= start)
			return entry;
	return NULL;
}

static void list_hit(void *arg, uint64_t n)
{
	struct fixture *fixture = arg;

	while (n--) {
		uintptr_t start = random_start(fixture);

		bench_use(list_find(fixture, start, start));
	}
}

static void list_miss(void *arg, uint64_t n)
{
	struct fixture *fixture = arg;

	while (n--) {
		uintptr_t start = random_start(fixture) + LENGTH;

		bench_use(list_find(fixture, start, start + LENGTH - 1));
	}
}

/* Index of the first range that does not end before @start. */
static size_t array_find(const struct fixture *fixture, uintptr_t start)
{
	size_t low = 0;
	size_t high = fixture->nr;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (fixture->array[middle].last < start)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void array_hit(void *arg, uint64_t n)
{
	struct fixture *fixture = arg;

	while (n--)
		bench_use(array_find(fixture, random_start(fixture)));
}

static void tree_insert_remove(void *arg, uint64_t n)
{
	struct fixture *fixture = arg;
	struct itree_node node;

	while (n--) {
		node.start = random_start(fixture) + LENGTH;
		node.last = node.start + LENGTH - 1;
		node.birth = 1;
		itree_insert(&fixture->tree, &node);
		itree_remove(&fixture->tree, &node);
	}
}

static void array_insert_remove(void *arg, uint64_t n)
{
	struct fixture *fixture = arg;

	while (n--) {
		uintptr_t start = random_start(fixture) + LENGTH;
		size_t at = array_find(fixture, start);
		struct range *place = &fixture->array[at];
		size_t bytes = (fixture->nr - at) * sizeof(*place);

		memmove(place + 1, place, bytes);
		place->start = start;
		place->last = start + LENGTH - 1;
		bench_use(place);
		memmove(place, place + 1, bytes);
	}
}

static void fill(struct fixture *fixture, size_t nr)
{
	size_t i;

	itree_init(&fixture->tree);
	list_init(&fixture->list);
	fixture->nr = nr;
	fixture->random = 1;
	fixture->entries = calloc(nr, sizeof(*fixture->entries));
	fixture->array = calloc(nr + 1, sizeof(*fixture->array));
	if (!fixture->entries || !fixture->array)
		abort();
	for (i = 0; i < nr; i++) {
		/* Not in the order of the addresses; nr is a power of two. */
		size_t nth = i * 40503 % nr;
		struct itree_node *node = &fixture->entries[nth].node;

		node->start = nth * SPACING;
		node->last = node->start + LENGTH - 1;
		itree_insert(&fixture->tree, node);
		list_add_tail(&fixture->entries[nth].link, &fixture->list);
		fixture->array[nth].start = node->start;
		fixture->array[nth].last = node->last;
	}
}

static void compare(const char *what, size_t nr, struct bench_result ours,
		    const char *alternative, struct bench_result theirs)
{
	char text[64];

	snprintf(text, sizeof(text), "%s of %zu", what, nr);
	bench_line(text, ours, alternative, theirs);
}

static void measure(size_t nr, unsigned int ms)
{
	struct fixture fixture;
	struct bench_result tree;

	fill(&fixture, nr);
	tree = bench_measure(tree_hit, &fixture, ms);
	compare("find one", nr, tree, "list",
		bench_measure(list_hit, &fixture, ms));
	compare("find one", nr, tree, "sorted array",
		bench_measure(array_hit, &fixture, ms));
	tree = bench_measure(tree_miss, &fixture, ms);
	compare("find none", nr, tree, "list",
		bench_measure(list_miss, &fixture, ms));
	tree = bench_measure(tree_insert_remove, &fixture, ms);
	compare("insert+remove", nr, tree, "sorted array",
		bench_measure(array_insert_remove, &fixture, ms));
	free(fixture.entries);
	free(fixture.array);
}

int main(int argc, char **argv)
{
	unsigned int ms = bench_begin("itree", argc, argv);

	measure(16, ms);
	measure(1024, ms);
	measure(131072, ms);
	return 0;
}
