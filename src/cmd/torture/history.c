/* SPDX-License-Identifier: MIT */
/* What happened before a failure, with one column per actor. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "torture.h"

enum {
	TIME_WIDTH = 13,
	CELL_WIDTH = 15,
	MAX_SHOWN = 4,
	CELL_SIZE = 64,
};

struct happening {
	struct event event;
	uint32_t column;
};

/* Of those that are found, the last ones are kept. */
struct happenings {
	struct happening *at;
	uint32_t nr;
};

static struct event event_read(const struct event *event)
{
	/* relaxed: the ring stood still when the failure was noted */
	return (struct event){
		.ns = mmn_load_relaxed(&event->ns),
		.value = mmn_load_relaxed(&event->value),
		.what = mmn_load_relaxed(&event->what),
		.first = mmn_load_relaxed(&event->first),
		.last = mmn_load_relaxed(&event->last),
	};
}

static bool concerns(const struct event *event, uint32_t place)
{
	if (place == NOWHERE || event->first == NOWHERE)
		return true;
	return event->first <= place && place <= event->last;
}

static int by_time(const void *a, const void *b)
{
	const struct happening *x = a, *y = b;

	return x->event.ns < y->event.ns ? -1 : x->event.ns > y->event.ns;
}

static void collect(struct happenings *all, const struct ring *ring,
		    uint32_t column, uint32_t place, uint64_t until)
{
	/* relaxed: as in event_read() */
	uint64_t written = mmn_load_relaxed(&ring->written), i;

	for (i = written < RING ? 0 : written - RING; i < written; i++) {
		struct event event = event_read(&ring->events[i % RING]);

		if (event.ns > until || !concerns(&event, place))
			continue;
		all->at[all->nr].event = event;
		all->at[all->nr++].column = column;
	}
}

/* Those columns that have something to say, the latest first. */
static uint32_t choose(const struct happenings *all, uint32_t failed,
		       uint32_t *shown)
{
	uint32_t nr = 0, i, j;

	if (failed != NOWHERE)
		shown[nr++] = failed;
	for (i = all->nr; i-- && nr < MAX_SHOWN;) {
		for (j = 0; j < nr; j++)
			if (shown[j] == all->at[i].column)
				break;
		if (j == nr)
			shown[nr++] = all->at[i].column;
	}
	return nr;
}

static uint32_t place_of(uint32_t column, const uint32_t *shown, uint32_t nr)
{
	uint32_t i;

	for (i = 0; i < nr; i++)
		if (shown[i] == column)
			return i;
	return NOWHERE;
}

static void cell_text(char *text, const struct event *event)
{
	int used = snprintf(text, CELL_SIZE, "%s", event->what);

	if (event->first != NOWHERE)
		used += snprintf(text + used, CELL_SIZE - (size_t)used, " %u",
				 event->first);
	if (event->first != NOWHERE && event->last != event->first)
		used += snprintf(text + used, CELL_SIZE - (size_t)used, "-%u",
				 event->last);
	if (event->value != NO_VALUE)
		snprintf(text + used, CELL_SIZE - (size_t)used, " =%" PRIu64,
			 event->value);
}

/* A cell that is too long goes on in a second line. */
static size_t cut(const char *text)
{
	size_t length = strlen(text), at;

	if (length <= CELL_WIDTH)
		return length;
	for (at = CELL_WIDTH; at; at--)
		if (text[at] == ' ')
			return at;
	return CELL_WIDTH;
}

static void print_cell(FILE *to, uint32_t column, const char *text, size_t size)
{
	fprintf(to, "%*s%.*s\n", (int)(column * (CELL_WIDTH + 2)), "",
		(int)size, text);
}

static void print_row(const struct happening *row, uint32_t column,
		      uint64_t until, FILE *to)
{
	char text[CELL_SIZE];
	size_t size;

	cell_text(text, &row->event);
	size = cut(text);
	fprintf(to, "%*.1f  ", TIME_WIDTH - 2,
		-(double)(until - row->event.ns) / 1000);
	print_cell(to, column, text, size);
	if (!text[size])
		return;
	fprintf(to, "%*s", TIME_WIDTH, "");
	print_cell(to, column, text + size, strnlen(text + size, CELL_WIDTH));
}

static void print_heads(const struct column *columns, const uint32_t *shown,
			uint32_t nr, FILE *to)
{
	uint32_t i;

	fprintf(to, "%*s", TIME_WIDTH - 2, "us");
	for (i = 0; i < nr; i++)
		fprintf(to, "  %-*s", i + 1 < nr ? CELL_WIDTH : 0,
			columns[shown[i]].name);
	putc('\n', to);
}

void history_print(const struct column *columns, uint32_t nr_columns,
		   uint32_t failed, uint32_t place, uint64_t until, FILE *to)
{
	struct happenings all = { 0 };
	uint32_t shown[MAX_SHOWN], nr, i, nr_rows = 0, column;

	all.at = calloc((size_t)nr_columns * RING, sizeof(*all.at));
	if (!all.at)
		return;
	for (i = 0; i < nr_columns; i++)
		collect(&all, columns[i].ring, i, place, until);
	qsort(all.at, all.nr, sizeof(*all.at), by_time);
	nr = choose(&all, failed, shown);
	print_heads(columns, shown, nr, to);
	/* From the last backwards, so many as there is room for. */
	for (i = all.nr; i && nr_rows < HISTORY_ROWS; i--)
		nr_rows += place_of(all.at[i - 1].column, shown, nr) != NOWHERE;
	for (; i < all.nr; i++) {
		column = place_of(all.at[i].column, shown, nr);
		if (column != NOWHERE)
			print_row(&all.at[i], column, until, to);
	}
	free(all.at);
}
