/* SPDX-License-Identifier: MIT */
#include "ladder/pairs.h"

#include <stdlib.h>
#include <string.h>

#include "ladder/engine.h"

/* Of an access of several lines compilers know the first or the last one. */
#define LINES_OF_ACCESS 6

static bool is_near(const struct pair *pair, const struct access_site *site)
{
	size_t length = strlen(site->file), end = strlen(pair->file);

	return site->line >= pair->line &&
	       site->line <= pair->line + LINES_OF_ACCESS && length >= end &&
	       !strcmp(site->file + length - end, pair->file) &&
	       !strcmp(site->macro, pair->macro);
}

/* The last that begins before its line: there may be another one above. */
static bool is_at(const struct pair *pair, const struct access_site *site)
{
	const struct pair *other;

	if (!is_near(pair, site))
		return false;
	for (other = pairs; other->tag; other++)
		if (other->line > pair->line && is_near(other, site))
			return false;
	return true;
}

const struct pair *pair_of(const struct access_site *site,
			   const struct pair *after)
{
	const struct pair *pair;

	for (pair = after ? after + 1 : pairs; pair->tag; pair++)
		if (is_at(pair, site))
			return pair;
	return NULL;
}

/* "function", or "function.2": its second access of the tag. */
static bool stands_in(const struct pair *pair, const char *name)
{
	size_t length = strlen(pair->function);
	char *end;

	if (strncmp(name, pair->function, length) != 0)
		return false;
	if (!name[length])
		return true;
	return name[length] == '.' &&
	       strtol(name + length + 1, &end, 10) == pair->nr && !*end;
}

static bool fits(const struct ladder_weakening *weaken, const struct pair *pair)
{
	return !strcmp(weaken->tag, pair->tag) &&
	       (!weaken->function || stands_in(pair, weaken->function));
}

bool ladder_weakening_fits(const struct ladder_weakening *weaken)
{
	const struct pair *pair;

	for (pair = pairs; pair->tag; pair++)
		if (fits(weaken, pair))
			return true;
	return false;
}

/* What remains of an order without one of its sides. */
static uint8_t without(uint8_t order, const char *side)
{
	if (!side)
		return ORDER_RELAXED;
	if (!strcmp(side, "seq_cst"))
		return order == ORDER_SEQ_CST ? ORDER_ACQ_REL : order;
	if (!strcmp(side, "release"))
		return is_acquire(order) ? ORDER_ACQUIRE : ORDER_RELAXED;
	return is_release(order) ? ORDER_RELEASE : ORDER_RELAXED;
}

uint8_t weakened_order(const struct access_site *site, uint8_t order)
{
	const struct ladder_weakening *weaken = &engine->options->weaken;
	const struct pair *pair = NULL;

	if (!weaken->tag || !site || order == ORDER_RELAXED)
		return order;
	while ((pair = pair_of(site, pair))) {
		if (!fits(weaken, pair))
			continue;
		engine->result->weakened++;
		return without(order, weaken->side);
	}
	return order;
}
