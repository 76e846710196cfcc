/* SPDX-License-Identifier: MIT */
/*
 * Where the agent's thread and the threads of the program meet.
 *
 *	the program, before main()          the agent's thread
 *
 *	                                    opens what it needs
 *	                                    meet_tell()
 *	meet_await_thread()
 *	finds out what is the agent's own
 *	meet_let_go()
 *	                                    meet_await_go()
 *	                                    works
 *	is about to install a filter
 *	meet_ask_silence()
 *	                                    gives everything back
 *	                                    meet_keep_silence()
 *	installs it
 */
#include "agent.h"

#include "base/atomic.h"

void meet_tell(uint32_t how)
{
	/*
	 * pair(run_ready): release, with the acquire in meet_await_thread().
	 * Without it the slot is given up while this thread still writes to it.
	 */
	mmn_store_release(&agent.ready, how);
	raw_wake(&agent.ready);
}

bool meet_await_thread(void)
{
	uint32_t how;

	/*
	 * pair(run_ready): acquire, with the release in meet_tell().  Without
	 * it the slot is given up while the thread still writes to it.
	 */
	while (!(how = mmn_load_acquire(&agent.ready)))
		raw_wait(&agent.ready, READY_NOT, 1000000000);
	return how == READY_HOLDS_SLOT;
}

void meet_let_go(void)
{
	/*
	 * pair(run_go): release, with the acquire in meet_await_go().  Without
	 * it the thread may hold the agent's own memory.
	 */
	mmn_store_release(&agent.go, 1);
	raw_wake(&agent.go);
}

void meet_await_go(void)
{
	/*
	 * pair(run_go): acquire, with the release in meet_let_go().  Without it
	 * the agent's own memory may be held.
	 */
	while (!mmn_load_acquire(&agent.go))
		raw_wait(&agent.go, 0, 1000000000);
}

void meet_ask_silence(void)
{
	uint32_t seen = SILENCE_NONE;

	/* relaxed: a request without data */
	if (mmn_cmpxchg_relaxed(&agent.silence, &seen, SILENCE_WANTED))
		raw_wake(&agent.silence);
	/*
	 * pair(run_silence): acquire, with the release in meet_keep_silence().
	 * Without it the filter may be there before the agent has made its last
	 * call.
	 */
	while (mmn_load_acquire(&agent.silence) != SILENCE_KEPT)
		raw_wait(&agent.silence, SILENCE_WANTED, 100000000);
}

bool meet_silence_is_wanted(void)
{
	/* relaxed: a request without data */
	return mmn_load_relaxed(&agent.silence) == SILENCE_WANTED;
}

void meet_keep_silence(void)
{
	/*
	 * pair(run_silence): release, with the acquire in meet_ask_silence().
	 * Without it the filter may be there before the agent has made its last
	 * call.
	 */
	mmn_store_release(&agent.silence, SILENCE_KEPT);
	raw_wake(&agent.silence);
}
