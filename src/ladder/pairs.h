/* SPDX-License-Identifier: MIT */
#ifndef MMN_LADDER_PAIRS_H
#define MMN_LADDER_PAIRS_H
/* Which pair(tag) an access belongs to: a table made from the comments. */

#include <stdbool.h>
#include <stdint.h>

#include "ladder/ladder.h"
#include "ladder/site.h"

struct pair {
	const char *tag;
	const char *file;
	/* or the macro that it stands in */
	const char *function;
	const char *macro;
	int line;
	/* which access of the tag in this function, from 1 */
	int nr;
};

/* The pairs of an access: the one behind @after, NULL: the first. */
const struct pair *pair_of(const struct access_site *site,
			   const struct pair *after);

/* All of them, sorted by tag; the last has none. */
extern const struct pair pairs[];

#endif
