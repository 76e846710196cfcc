/* SPDX-License-Identifier: MIT */
#ifndef MMN_LADDER_SITE_H
#define MMN_LADDER_SITE_H
/* What base/atomic.h tells the explorer: where an ordered access stands. */

struct access_site {
	const char *file;
	const char *function;
	int line;
	/* "mmn_load_acquire" */
	const char *macro;
	/* its first argument */
	const char *word;
};

/* The calling thread is about to make this access. */
void ladder_at(const struct access_site *site);

/* mmn_barrier(): a point of the calling thread that membarrier() knows of. */
void ladder_compiler_barrier(void);

#endif
