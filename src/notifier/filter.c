/* SPDX-License-Identifier: MIT */
#include "notifier/filter.h"

#include <string.h>

#include "base/arena.h"
#include "tree/itree.h"

#define COUNT_END 15u
/*
 * What one insert or remove does for the next map.  It has room for as much again
 * as there is: before that is there all are in it, unless most are wide.
 */
#define NODES_PER_STEP 12

/* The level of a range; the last one when it is too large for those before. */
static uint32_t level_of(uintptr_t start, uintptr_t last)
{
	uint32_t i;

	for (i = 0; i < FILTER_LEVELS - 1; i++) {
		uint32_t shift = filter_shift(i);

		if ((last >> shift) - (start >> shift) < FILTER_MAX_ADDED)
			break;
	}
	return i;
}

static bool is_wide(uintptr_t start, uintptr_t last)
{
	return level_of(start, last) == FILTER_LEVELS - 1;
}

static void store_bound(uintptr_t *bound, uintptr_t value)
{
	/*
	 * pair(open_insert): the insert's stores, with the loads in
	 * filter_overlaps().  Without it the insert may look at the slots before
	 * a change that opens at the same time can see it.
	 */
	if (*bound != value)
		mmn_store_seq_cst(bound, value);
}

static void set_used(struct filter *filter, uint32_t level)
{
	uint32_t used = filter->used | 1u << level;

	/*
	 * pair(open_insert): as in store_bound(), with filter_overlaps().
	 * Without it as there.
	 */
	if (used != filter->used)
		mmn_store_seq_cst(&filter->used, used);
}

static void set_unused(struct filter *filter, uint32_t level)
{
	/* relaxed: a change that still sees it takes a lock for nothing */
	mmn_store_relaxed(&filter->used, filter->used & ~(1u << level));
}

/* ------------------------------------------------------------------ */
/* One map                                                            */
/* ------------------------------------------------------------------ */

static uintptr_t map_word(const struct filter_map *map)
{
	return (uintptr_t)map->lines | map->order;
}

static size_t map_granules(uint32_t order)
{
	return (size_t)FILTER_LINE_GRANULES << order;
}

/* All zero except for the addresses. */
static void map_init(struct filter_map *map, uint32_t order)
{
	map->order = order;
	map->nr = 0;
	map->nr_removed = 0;
	map->nr_stuck = 0;
	map->older = NULL;
}

static struct filter_map *map_alloc(uint32_t order)
{
	size_t bytes =
		sizeof(struct filter_map) + FILTER_LINE +
		((sizeof(struct filter_line) + FILTER_LINE_COUNTS) << order);
	struct filter_map *map = mmn_callback_zalloc(bytes);
	uintptr_t lines;

	if (!map)
		return NULL;
	lines = ((uintptr_t)(map + 1) + FILTER_LINE - 1) &
		~(uintptr_t)(FILTER_LINE - 1);
	map_init(map, order);
	map->lines = (struct filter_line *)lines;
	map->counts = (uint8_t *)(map->lines + ((size_t)1 << order));
	map->block = map;
	map->bytes = bytes;
	return map;
}

static void set_bit(uint64_t *word, uint64_t bit)
{
	if (*word & bit)
		return;
	/*
	 * pair(open_insert): as in store_bound(), with filter_block_has()
	 * and filter_guess_misses().  Without it as there.
	 */
	mmn_store_seq_cst(word, *word | bit);
}

static void clear_bit(uint64_t *word, uint64_t bit)
{
	/* relaxed: a change that still sees it takes a lock for nothing */
	mmn_store_relaxed(word, *word & ~bit);
}

/* One of the bits of a granule: where it is and what it counts. */
struct place {
	uint64_t *word;
	uint64_t bit;
	uint8_t *counts;
	uint32_t shift;
};

static struct place find_place(const struct filter_map *map, uintptr_t granule,
			       uint64_t hash)
{
	uint64_t *word = filter_word_of(map_word(map), hash, granule / 64);
	uint32_t bit = (granule + filter_rotation(hash)) % 64;
	struct place place = {
		.word = word,
		.bit = UINT64_C(1) << bit,
		.counts =
			&map->counts[(word - map->lines->words) * 32 + bit / 2],
		.shift = bit % 2 * 4,
	};

	return place;
}

static uint32_t place_count(const struct place *place)
{
	return *place->counts >> place->shift & COUNT_END;
}

static void add_granule(struct filter_map *map, uint32_t level,
			uintptr_t granule)
{
	uint64_t hash = filter_hash(level, granule / 64);
	uint32_t i;

	for (i = 0; i < FILTER_LOOKS; i++, hash = filter_hash_again(hash)) {
		struct place place = find_place(map, granule, hash);
		uint32_t count = place_count(&place);

		if (count < COUNT_END)
			*place.counts += (uint8_t)(1u << place.shift);
		if (count == COUNT_END - 1)
			map->nr_stuck++;
		set_bit(place.word, place.bit);
	}
	map->nr++;
}

static void drop_granule(struct filter_map *map, uint32_t level,
			 uintptr_t granule)
{
	uint64_t hash = filter_hash(level, granule / 64);
	uint32_t i;

	for (i = 0; i < FILTER_LOOKS; i++, hash = filter_hash_again(hash)) {
		struct place place = find_place(map, granule, hash);
		uint32_t count = place_count(&place);

		if (count < COUNT_END)
			*place.counts -= (uint8_t)(1u << place.shift);
		if (count == 1)
			clear_bit(place.word, place.bit);
	}
	map->nr--;
	map->nr_removed++;
}

static void map_change(struct filter_map *map, uintptr_t start, uintptr_t last,
		       void (*change)(struct filter_map *map, uint32_t level,
				      uintptr_t granule))
{
	uint32_t level = level_of(start, last), i;
	uintptr_t granule;

	for (i = level; i < level + 2; i++)
		for (granule = start >> filter_shift(i);
		     granule <= last >> filter_shift(i); granule++)
			change(map, i, granule);
}

static void map_clear(struct filter_map *map)
{
	size_t lines = (size_t)1 << map->order, i, j;

	for (i = 0; i < lines; i++)
		for (j = 0; j < FILTER_LINE_WORDS; j++)
			/* relaxed: as in clear_bit() */
			mmn_store_relaxed(&map->lines[i].words[j], 0);
	memset(map->counts, 0, (size_t)FILTER_LINE_COUNTS << map->order);
	map_init(map, map->order);
}

/* ------------------------------------------------------------------ */
/* Another map                                                        */
/* ------------------------------------------------------------------ */

/*
 * The order that a map should have; that of the current one when it will do.
 * While a map is retired none gets smaller, so that each is twice the one before
 * and F4 holds.
 */
static uint32_t wanted_order(const struct filter *filter)
{
	const struct filter_map *map = filter->current;
	size_t room = map_granules(map->order), wanted = map->nr * 2;
	uint32_t order = FILTER_MIN_ORDER;

	if (map->nr <= room && (map->nr > room / 16 || filter->retired))
		return map->order;
	if (map->nr <= room)
		wanted *= 2;
	while (order < FILTER_MAX_ORDER && map_granules(order) < wanted)
		order++;
	return order;
}

/* Have removes left enough bits behind (F2) that a new map is worth its work? */
static bool is_worn(const struct filter *filter)
{
	const struct filter_map *map = filter->current;

	return map->nr_stuck >> map->order && map->nr_removed > map->nr &&
	       !filter->retired && map->block;
}

static void begin_next(struct filter *filter, uint32_t order)
{
	struct filter_map *map = filter->current;

	/* No more than a little has changed since the last time. */
	if (map->nr > filter->refused_at / 2 &&
	    map->nr < filter->refused_at * 2)
		return;
	filter->refused_at = 0;
	if (order == FILTER_MIN_ORDER) {
		map_clear(&filter->small);
		map = &filter->small;
	} else {
		map = map_alloc(order);
	}
	if (!map) {
		filter->refused_at = filter->current->nr;
		return;
	}
	filter->next = map;
	filter->epoch++;
	filter->cursor_start = 0;
	filter->cursor_birth = 0;
}

static void publish(struct filter *filter)
{
	struct filter_map *old = filter->current;

	old->older = filter->retired;
	filter->retired = old;
	filter->current = filter->next;
	filter->next = NULL;
	/*
	 * pair(open_insert): as in store_bound(), with filter_overlaps(): an
	 * insert that stores into the new map only comes later.  Without it as
	 * there.
	 * pair(filter_map): release, with the load in filter_overlaps().
	 * Without it a change looks at a map that is not filled yet.
	 */
	mmn_store_seq_cst(&filter->map, map_word(filter->current));
}

/* True when there is nothing left to be done. */
static bool fill_next(struct filter *filter, struct itree *tree)
{
	struct itree_node *nodes[NODES_PER_STEP];
	struct itree_iter iter;
	uint32_t nr, i;

	iter.start = 0;
	iter.last = UINTPTR_MAX;
	itree_iter_seek(&iter, tree, filter->cursor_start,
			filter->cursor_birth);
	nr = itree_iter_take(&iter, nodes, NODES_PER_STEP);
	for (i = 0; i < nr; i++) {
		struct itree_node *node = nodes[i];

		filter->cursor_start = node->start;
		filter->cursor_birth = node->birth;
		if (node->mark == filter->epoch ||
		    is_wide(node->start, node->last))
			continue;
		map_change(filter->next, node->start, node->last, add_granule);
		node->mark = filter->epoch;
	}
	return nr < NODES_PER_STEP;
}

bool filter_tend(struct filter *filter, struct itree *tree)
{
	if (!filter->next) {
		uint32_t order = wanted_order(filter);

		if (order == filter->current->order && !is_worn(filter))
			return false;
		begin_next(filter, order);
	}
	if (!filter->next || !fill_next(filter, tree))
		return false;
	publish(filter);
	return true;
}

struct filter_map *filter_take_retired(struct filter *filter)
{
	struct filter_map **at = &filter->retired, *maps;

	/* The one that is a part of the filter is not freed. */
	while (*at)
		if ((*at)->block)
			at = &(*at)->older;
		else
			*at = (*at)->older;
	maps = filter->retired;
	filter->retired = NULL;
	return maps;
}

void filter_free_maps(struct filter_map *maps)
{
	while (maps) {
		struct filter_map *older = maps->older;

		mmn_callback_free(maps->block);
		maps = older;
	}
}

/* ------------------------------------------------------------------ */
/* The whole                                                          */
/* ------------------------------------------------------------------ */

void filter_init(struct filter *filter)
{
	memset(filter, 0, sizeof(*filter));
	filter->hull_lo = UINTPTR_MAX;
	filter->wide_lo = UINTPTR_MAX;
	map_init(&filter->small, FILTER_MIN_ORDER);
	filter->small.lines = filter->small_lines;
	filter->small.counts = filter->small_counts;
	filter->current = &filter->small;
	filter->map = map_word(filter->current);
}

void filter_fini(struct filter *filter)
{
	filter_free_maps(filter_take_retired(filter));
	mmn_callback_free(filter->current->block);
	if (filter->next)
		mmn_callback_free(filter->next->block);
}

void filter_set_hull(struct filter *filter, uintptr_t lo, uintptr_t hi)
{
	store_bound(&filter->hull_lo, lo);
	store_bound(&filter->hull_hi, hi);
}

static void widen(struct filter *filter, uintptr_t start, uintptr_t last)
{
	filter->nr_wide++;
	if (start < filter->wide_lo)
		store_bound(&filter->wide_lo, start);
	if (last > filter->wide_hi)
		store_bound(&filter->wide_hi, last);
}

void filter_add(struct filter *filter, uintptr_t start, uintptr_t last,
		uint32_t *ret_mark)
{
	uint32_t level = level_of(start, last);

	*ret_mark = filter->epoch;
	if (is_wide(start, last)) {
		widen(filter, start, last);
		return;
	}
	map_change(filter->current, start, last, add_granule);
	if (filter->next)
		map_change(filter->next, start, last, add_granule);
	filter->nr_on[level]++;
	set_used(filter, level);
}

void filter_remove(struct filter *filter, uintptr_t start, uintptr_t last,
		   uint32_t mark)
{
	uint32_t level = level_of(start, last);
	struct filter_map *map = filter->current;

	if (is_wide(start, last)) {
		if (--filter->nr_wide)
			return;
		store_bound(&filter->wide_lo, UINTPTR_MAX);
		store_bound(&filter->wide_hi, 0);
		return;
	}
	map_change(map, start, last, drop_granule);
	if (filter->next && mark == filter->epoch)
		map_change(filter->next, start, last, drop_granule);
	if (!--filter->nr_on[level])
		set_unused(filter, level);
	if (!map->nr && map->nr_stuck && !map->block)
		map_clear(map);
}

bool filter_contains(struct filter *filter, uintptr_t start, uintptr_t last)
{
	return filter_passes(filter, start, start) &&
	       filter_passes(filter, last, last) &&
	       filter_passes(filter, start, last);
}

static size_t granules_of(uintptr_t start, uintptr_t last)
{
	uint32_t level = level_of(start, last), i;
	size_t nr = 0;

	for (i = level; i < level + 2; i++)
		nr += (last >> filter_shift(i)) - (start >> filter_shift(i)) +
		      1;
	return nr;
}

bool filter_check(struct filter *filter, struct itree *tree)
{
	size_t nr = 0, nr_marked = 0;
	struct itree_node *node;

	itree_for_each (node, tree) {
		if (is_wide(node->start, node->last))
			continue;
		nr += granules_of(node->start, node->last);
		if (node->mark == filter->epoch)
			nr_marked += granules_of(node->start, node->last);
	}
	return filter->current->nr == nr &&
	       (!filter->next || filter->next->nr == nr_marked);
}

static size_t list_bytes(const struct filter_map *map)
{
	size_t bytes = 0;

	for (; map; map = map->older)
		bytes += map->bytes;
	return bytes;
}

size_t filter_bytes(const struct filter *filter)
{
	return list_bytes(filter->retired) + filter->current->bytes +
	       (filter->next ? filter->next->bytes : 0);
}
