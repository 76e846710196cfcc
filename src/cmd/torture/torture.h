/* SPDX-License-Identifier: MIT */
#ifndef MMN_CMD_TORTURE_TORTURE_H
#define MMN_CMD_TORTURE_TORTURE_H
/*
 * What the scenarios of mmn torture share.
 *
 * A scenario is a small world of some actors, which are threads, that do at
 * random whatever an interface of libmmn allows, and a physical check of what
 * they see.  The idea of an ops vector with flavours that are broken on purpose,
 * and that must be caught, is rcutorture's; so are stutter and shuffle.
 *
 * Nothing here orders anything: every access to what actors share is relaxed, or
 * a scenario's own lock, so that the library's orders are the only ones there.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <mmn/inject.h>

#include "base/atomic.h"

enum {
	MAX_ROLES = 4,
	MAX_COUNTERS = 10,
	MAX_ACTORS = 64,
	/* Of the actors of a role. */
	MAX_CROWD = 16,
	/* No value, or no place. */
	NOWHERE = UINT32_MAX,
};

/* A rule of the protocol that is left out, by the program or the library. */
struct flavour {
	const char *name;
	const char *what;
	/* for the scenario's code, or 0 */
	uint32_t bits;
	/* a point of the library that is armed: one in so many, or 0 */
	uint32_t one_in;
	uint32_t point;
};

#define BROKEN(name_, what_, bits_)                               \
	{                                                         \
		.name = (name_), .what = (what_), .bits = (bits_) \
	}
#define BROKEN_LIBRARY(name_, what_, point_, one_in_)                \
	{                                                            \
		.name = (name_), .what = (what_), .point = (point_), \
		.one_in = (one_in_)                                  \
	}

struct role {
	const char *name;
	uint32_t nr;
	/* One round of work. */
	void (*step)(void);
	/* After the last one, to let others go; may be NULL. */
	void (*leave)(void);
	/* Always @nr of them, whatever --threads says. */
	bool is_fixed;
};

#define ROLE(name_, nr_, step_, leave_)                        \
	{                                                      \
		.name = (name_), .nr = (nr_), .step = (step_), \
		.leave = (leave_)                              \
	}
#define FIXED_ROLE(name_, nr_, step_, leave_)                  \
	{                                                      \
		.name = (name_), .nr = (nr_), .step = (step_), \
		.leave = (leave_), .is_fixed = true            \
	}

struct scenario {
	const char *name;
	const char *what;
	/* What the numbers in the history are: "page". */
	const char *place;
	/* up to the one without a name */
	const struct flavour *flavours;
	struct role roles[MAX_ROLES];
	/* The first @nr_musts must be more than 0 for a run to mean anything. */
	const char *counters[MAX_COUNTERS];
	uint32_t nr_musts;
	/* By the main thread, without faults; 0 or a negative errno. */
	int (*set_up)(void);
	void (*tear_down)(void);
};

extern const struct scenario notifier_scenario;
extern const struct scenario classic_scenario;
extern const struct scenario fence_scenario;
extern const struct scenario resv_scenario;
extern const struct scenario ww_scenario;
extern const struct scenario sync_scenario;
extern const struct scenario cache_scenario;
extern const struct scenario process_scenario;

/* --disturb */
enum {
	DISTURB_DELAY = 1 << 0,
	DISTURB_PREEMPT = 1 << 1,
	DISTURB_SHUFFLE = 1 << 2,
	DISTURB_STUTTER = 1 << 3,
	DISTURB_INJECT = 1 << 4,
	DISTURB_ALL = (1 << 5) - 1,
};

struct torture_options {
	uint64_t seed;
	/* of one scenario */
	double seconds;
	double stat_interval;
	double stall_seconds;
	uint32_t crowd;
	uint32_t disturb;
	/* of each point of the library: fire one time in so many, 0 never */
	uint32_t one_in[MMN_NR_INJECT_POINTS];
	/* a bit for each point whose number was asked for */
	uint32_t asked;
};

/* Up to the one without a name. */
struct disturbance {
	uint32_t bit;
	const char *name;
};

extern const struct disturbance torture_disturbances[];

/* engine.c: 0 when nothing failed; prints what there is to say. */
int torture_run(const struct scenario *scenario, const struct flavour *flavour,
		const struct torture_options *options);
/* The first failure of the last run, "" if there was none. */
const char *torture_failure(void);
/* Threads of the last run are left that will never end. */
bool torture_is_stuck(void);

/*
 * --- what scenarios use, as the thread that they run in -------------------
 *
 * Threads of the library, which run some callbacks, are no actors: they may call
 * is_broken(), is_over(), tally(), the notes and fail().
 */

/* How many actors have this role; for set_up() too. */
uint32_t actors_of(const char *role);
/* The bits of the flavour. */
bool is_broken(uint32_t bits);
/* The run ends: soon, or because something failed. */
bool is_over(void);
uint64_t random_word(void);
uint32_t below(uint32_t limit);
bool one_in(uint32_t n);
/* Stretch a place where others may come in between. */
void linger(void);
void tally(uint32_t counter);
/* How many changes behind was what the device saw?  More than 0 is a failure. */
void note_lag(uint64_t lag);

/*
 * The history: @what happened to the places from @first to @last, with a value
 * or without.  @what is a constant.
 */
void note_range(const char *what, uint32_t first, uint32_t last,
		uint64_t value);
void note(const char *what, uint32_t place, uint64_t value);
#define NO_VALUE UINT64_MAX

/* The first one ends the run; the history of @place is shown. */
__attribute__((format(printf, 2, 3))) void fail(uint32_t place,
						const char *format, ...);

/* A rule that holds whatever happens.  True when it does. */
#define must(condition)                                                \
	((condition) ? true                                            \
		     : (fail(NOWHERE, "%s:%d: %s", __func__, __LINE__, \
			     #condition),                              \
			false))

/* history.c */

enum {
	/* Events kept of each actor. */
	RING = 256,
	/* Of the history that is shown. */
	HISTORY_ROWS = 40,
};

/* Each member is atomic: the owner may go on while it is shown. */
struct event {
	uint64_t ns;
	uint64_t value;
	const char *what;
	uint32_t first;
	uint32_t last;
};

struct ring {
	struct event events[RING];
	/* atomic: events ever written */
	uint64_t written;
};

struct column {
	const char *name;
	const struct ring *ring;
};

/*
 * Events about @place, up to @until, as a ladder with a column per actor; the
 * one at @failed is always there.
 */
void history_print(const struct column *columns, uint32_t nr_columns,
		   uint32_t failed, uint32_t place, uint64_t until, FILE *to);

#endif
