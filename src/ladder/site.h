/* SPDX-License-Identifier: MIT */
#ifndef MMN_LADDER_SITE_H
#define MMN_LADDER_SITE_H
/* Where an ordered access stands in the source. */

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

#endif
