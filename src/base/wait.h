/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_WAIT_H
#define MMN_BASE_WAIT_H
/*
 * Sleep until a word changes.
 *
 * The word is the condition: whoever changes it wakes afterwards.  Nothing here
 * orders memory; the caller reads the word again with the order it needs.
 */
#include <stdint.h>
#include <time.h>

/*
 * mmn_wait_on - sleep while *@word is @seen
 * @deadline: CLOCK_MONOTONIC, absolute; NULL for ever
 *
 * Also returns for signals and for no reason: look at the word again.
 * Context: may sleep; errno is not touched.
 * Return: 0, or -ETIMEDOUT when the deadline has passed.
 */
int mmn_wait_on(uint32_t *word, uint32_t seen, const struct timespec *deadline);

/*
 * mmn_wait_on_two - sleep while *@a is @seen_a and *@b is @seen_b
 *
 * Linux before 5.16 cannot wait for two, and sandboxes may forbid it: there @b is
 * looked at every 10 ms.
 *
 * Also returns for signals and for no reason: look at the words again.
 * Context: may sleep; errno is not touched.
 */
void mmn_wait_on_two(uint32_t *a, uint32_t seen_a, uint32_t *b,
		     uint32_t seen_b);

/*
 * mmn_wait_briefly - as mmn_wait_on(), for ever
 *
 * For who waits for a bounded number of instructions of another thread, as for
 * a short lock: may be called where a short lock may be taken.
 */
void mmn_wait_briefly(uint32_t *word, uint32_t seen);

/*
 * mmn_give_way - let others run, while what is waited for has nobody who wakes
 * @turn: how often this one has waited, from 0 on
 *
 * For who waits for a bounded number of instructions of another thread and looks
 * in between.  Yields at first; then it sleeps, for a thread of a real-time
 * policy that yields holds up those of lower priority all the same.
 * Context: may sleep; errno is not touched.
 */
void mmn_give_way(uint32_t turn);

/*
 * mmn_wake - wake up to @nr threads that sleep on @word
 *
 * Context: any, also signal handlers.
 * Return: how many were woken.
 */
int mmn_wake(uint32_t *word, int nr);

#endif
