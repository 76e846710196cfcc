/* SPDX-License-Identifier: MIT */
/*
 * The agent of `mmn run`: where its thread meets those of the program, and the
 * end of a transfer; cmd/agent/meet.c and check.c themselves.
 */
#include "base/wait.h"
#include "ladder/gallery/gallery.h"
#include "ladder/gallery/help.h"
#include "ladder/scenario.h"

/* What is not run need not be there. */
#pragma weak mmn_page_size
/* This name the command itself has from the library. */
#define mmn_call_name agent_call_name

/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "cmd/agent/meet.c"
/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "cmd/agent/check.c"

struct agent agent;

/* Who sleeps has to be woken: there is no time. */
void raw_wait(uint32_t *word, uint32_t seen, uint64_t ns)
{
	(void)ns;
	mmn_wait_on(word, seen, NULL);
}

void raw_wake(uint32_t *word)
{
	mmn_wake(word, 1);
}

static struct {
	struct area_slot slot, spare;
	/* what the program finds out before the thread may go on */
	uintptr_t own;
	struct transfer transfer;
	/* what the device has read */
	char buffer;
} meeting;

static void set_up(void)
{
	memset(&meeting, 0, sizeof(meeting));
	agent.slot = &meeting.slot;
	agent.ready = READY_NOT;
	agent.go = 0;
	agent.silence = SILENCE_NONE;
	ladder_name(&agent.ready, "ready");
	ladder_name(&agent.go, "go");
	ladder_name(&agent.silence, "silence");
	ladder_name(&agent.slot, "slot");
	ladder_name(&meeting.own, "own memory");
}

/* ---- the beginning ---- */

static void begin_in_vain(void)
{
	ladder_note("cannot begin, says why");
	agent.slot->state = SLOT_NOT_FOLLOWED;
	meet_tell(READY_FAILED);
}

static void begin_and_work(void)
{
	meet_tell(READY_HOLDS_SLOT);
	meet_await_go();
	ladder_note("works");
	ladder_assert(meeting.own);
}

static void let_begin(void)
{
	bool holds = meet_await_thread();

	meeting.own = 1;
	meet_let_go();
	if (holds)
		return;
	ladder_note("gives up the slot");
	agent.slot = &meeting.spare;
}

const struct ladder_scenario agent_begins = {
	.name = "agent-begins",
	.what = "mmn run: the agent's thread begins when it is let",
	.explanation = "It knows by then what is the agent's own.",
	.setup = set_up,
	.threads = { begin_and_work, let_begin },
	.titles = { "agent", "program" },
};

const struct ladder_scenario agent_fails = {
	.name = "agent-fails",
	.what = "mmn run: the agent's thread cannot begin",
	.explanation = "The slot is given up behind its last words.",
	.setup = set_up,
	.threads = { begin_in_vain, let_begin },
	.titles = { "agent", "program" },
};

/* ---- the end ---- */

static void withdraw_thread(void)
{
	while (!meet_silence_is_wanted())
		raw_wait(&agent.silence, SILENCE_NONE, 0);
	ladder_note("its last calls");
	agent.slot->end_ns = 1;
	agent.slot = &meeting.spare;
	meet_keep_silence();
}

static void install_filter(void)
{
	meet_ask_silence();
	ladder_note("installs its filter");
	ladder_assert(agent.slot == &meeting.spare);
}

const struct ladder_scenario agent_silent = {
	.name = "agent-silent",
	.what = "mmn run: the program is about to forbid system calls",
	.explanation = "The agent has made its last one before.",
	.setup = set_up,
	.threads = { withdraw_thread, install_filter },
	.titles = { "agent", "program" },
};

/* ---- a transfer ---- */

static void set_up_transfer(void)
{
	set_up();
	meeting.transfer.fence = make_fence(&gallery_ops, 1, 1);
	meeting.transfer.buffer = &meeting.buffer;
	ladder_name(&meeting.transfer.done, "done");
	ladder_name(&meeting.buffer, "buffer");
	ladder_name(&ends, "ends");
}

static void end_transfer(void)
{
	meeting.buffer = 1;
	check_done(&meeting.transfer.transfer);
}

static void check_transfer(void)
{
	if (!check_is_done(&meeting.transfer))
		return;
	ladder_note("compares");
	ladder_assert(meeting.buffer == 1);
}

const struct ladder_scenario agent_checks = {
	.name = "agent-checks",
	.what = "mmn run: what the device has read is checked",
	.explanation = "Who finds the transfer done finds all of it.",
	.setup = set_up_transfer,
	.each = number_thread,
	.threads = { end_transfer, check_transfer },
	.titles = { "device", "agent" },
};
