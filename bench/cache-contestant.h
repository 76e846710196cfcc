/* SPDX-License-Identifier: MIT */
#ifndef BENCH_CACHE_CONTESTANT_H
#define BENCH_CACHE_CONTESTANT_H
/*
 * A registration cache as cache-bench sees it.  Registering does nothing: what
 * is measured is the cache.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct contestant {
	const char *name;
	void *(*create)(uint64_t regions);
	void *(*get)(void *cache, uintptr_t addr, size_t length);
	void (*put)(void *cache, void *region);
	/* A change of the memory at @addr, from its start to its end. */
	void (*change)(void *cache, uintptr_t addr, size_t length);
	void (*destroy)(void *cache);
	/* Its hits are those of another one. */
	bool changes_only;
};

/*
 * cache-ucx.c; only where there is libucx.  The first deregisters what a change
 * has taken out when it is asked for something that is not there; the second has a
 * thread of its own told to, at the next change.
 */
extern const struct contestant ucx_contestant;
extern const struct contestant ucx_prompt_contestant;

/*
 * Before the first UCX cache, in main(): that the events come from us.  May start
 * the program again, with another environment.
 */
void ucx_prepare(char **argv);

#endif
