/* SPDX-License-Identifier: MIT */
#ifndef MMN_INJECT_H
#define MMN_INJECT_H
/*
 * Faults on request, for tests and demonstrations only.
 *
 * Rare paths are never run unless they are made common, and a checker that has
 * never found anything proves nothing.  Each named point is a place in the
 * library that can be told to fail, or to do the wrong thing, once in a while.
 * Nothing is armed unless the program asks; a point that is not armed costs one
 * load and one predicted branch.
 *
 * Points marked "breaks" make the library wrong on purpose: memory that is in
 * use by a device may be lost.
 */
#include <mmn/common.h>

MMN_BEGIN_DECLS

/*
 * X(enumerator, name, what happens).  A new point goes at the end: the numbers
 * are part of the interface.
 */
#define MMN_INJECT_POINTS(X)                                                  \
	X(ALLOC, "alloc", "an allocation fails with -ENOMEM")                 \
	X(REFUSE, "refuse", "a change that may not sleep is refused")         \
	X(RETRY, "retry", "a read section is told to start over for nothing") \
	X(DELAY, "delay", "a pause at a place where threads race")            \
	X(RETRY_SKIP, "retry-skip", "breaks: a collision is not reported")    \
	X(SEQ_SKIP, "seq-skip", "breaks: set_seq does nothing")               \
	X(EVENT_LOST, "event-lost", "breaks: a source drops a change")        \
	X(END_EARLY, "end-early",                                             \
	  "breaks: a change is closed before it is made")                     \
	X(WW_DEADLOCK, "ww-deadlock", "a lock of a set is refused for nothing")

#define MMN_INJECT_ENUM_(point, name, text) MMN_INJECT_##point,
enum mmn_inject_point {
	MMN_INJECT_POINTS(MMN_INJECT_ENUM_) MMN_NR_INJECT_POINTS
};
#undef MMN_INJECT_ENUM_

/**
 * mmn_inject_set - arm a point
 * @point: MMN_INJECT_*
 * @one_in: fire once in so many passes on average, at least 1; 1 fires always
 * @seed: which passes; the same seed and number of passes fire the same ones
 *
 * Starts the counts of the point from 0.  The passes of a point are numbered in
 * the order in which threads come through; whether pass n fires depends on @seed
 * and n alone.
 *
 * Context: any, also callbacks; does not wait for passes under way.
 * Return: 0; -EINVAL (no such point, @one_in is 0).
 */
MMN_PUBLIC
int mmn_inject_set(uint32_t point, uint32_t one_in, uint64_t seed);

/**
 * mmn_inject_clear - disarm every point
 *
 * The counts stay readable.
 * Context: any, also callbacks.
 */
MMN_PUBLIC
void mmn_inject_clear(void);

/**
 * mmn_inject_hits - how often a point has fired since it was armed
 * mmn_inject_passes - how often it was passed while it was armed
 * @point: MMN_INJECT_*
 *
 * Context: any.
 * Return: the count; 0 for a point that does not exist.
 */
MMN_PUBLIC
uint64_t mmn_inject_hits(uint32_t point);
MMN_PUBLIC
uint64_t mmn_inject_passes(uint32_t point);

/**
 * mmn_inject_name - the name of a point
 * @point: MMN_INJECT_*
 *
 * Return: a constant string such as "alloc"; NULL for no such point.
 */
MMN_PUBLIC
const char *mmn_inject_name(uint32_t point);

/**
 * mmn_inject_find - the point of a name
 * @name: as mmn_inject_name() spells it
 *
 * Return: MMN_INJECT_*, 0 or more; -EINVAL for NULL; -ENOENT (no such name).
 */
MMN_PUBLIC
int mmn_inject_find(const char *name);

MMN_END_DECLS

#endif
