/* SPDX-License-Identifier: MIT */
#ifndef MMN_CMD_AREA_H
#define MMN_CMD_AREA_H
/*
 * What `mmn run` and the library that it preloads share: a file with one slot
 * for each process that is followed.
 *
 *	environment: MMN_RUN_AREA=<path>   ->   every exec'd child finds it
 *
 *	+--------+---------+---------+---------+--
 *	| header | slot 0  | slot 1  | slot 2  | ...
 *	+--------+---------+---------+---------+--
 *	               ^ byte 1 of the file is locked by the process that owns it
 *
 * A slot belongs to whoever holds the open-file-description lock on byte "number
 * of the slot" of the file.  The agent holds it through a descriptor that only
 * its own thread has, so the kernel drops it when the process ends, however it
 * ends, and when it executes another program.  `mmn run` takes over the figures
 * of slots that it can lock, and frees them.
 *
 * A slot is written by its owner only.  Members that several threads of it
 * count up are changed atomically, all others by the agent's thread; the reader
 * may see members of different moments, which a report can live with, and the
 * last state of each once the owner is gone.
 */
#include <stdint.h>

#include "base/atomic.h"

#define AREA_ENV "MMN_RUN_AREA"
#define AREA_MAGIC UINT64_C(0x316e75726e6d6d01)
#define AREA_SLOTS 192u
#define AREA_CALLS 16u
#define AREA_CHECKS 32u

/* Four buckets per doubling, from 64 ns on; the last one takes the rest. */
#define AREA_BUCKETS 128u

enum area_break {
	BREAK_NOTHING,
	BREAK_NO_RETRY,
	BREAK_NO_SEQ,
	BREAK_DROP_EVENTS,
	BREAK_END_EARLY,
	NR_BREAKS
};

enum slot_state {
	SLOT_FREE,
	/* The agent is at work. */
	SLOT_FOLLOWED,
	/* Changes are counted, nothing is mirrored (any more); see reason. */
	SLOT_COUNTED,
	/* The program runs as if there were no agent; see reason. */
	SLOT_NOT_FOLLOWED,
};

struct area_header {
	uint64_t magic;
	uint32_t header_bytes;
	uint32_t slot_bytes;
	/* Options, const. */
	uint64_t budget;
	uint32_t want_soft;
	uint32_t want_break;
	/* mmn run itself was under a system call filter. */
	uint32_t filtered;
	uint32_t reserved;
	/* CLOCK_MONOTONIC when checking ends; 0: never. */
	uint64_t stop_ns;
	/* atomic: processes that found no free slot */
	uint64_t overflow;
};

struct area_slot {
	uint32_t state;
	uint32_t pid;
	char name[32];
	char device[16];
	/* Why the state is not SLOT_FOLLOWED. */
	char reason[120];
	/* What fell short while it was followed. */
	char remark[120];

	/* CLOCK_MONOTONIC; end_ns is the last sign of life. */
	uint64_t begin_ns;
	uint64_t end_ns;

	/* Intercept. */
	uint64_t install_ns;
	uint32_t nr_found;
	uint32_t nr_patched;
	uint32_t nr_refused;
	uint32_t nr_unknown;
	uint8_t self_check[AREA_CHECKS];

	/* atomic: counted in the program's threads */
	uint64_t calls[AREA_CALLS];
	uint64_t hits;
	uint64_t held_ns;
	uint64_t latency_max;
	uint64_t latency[AREA_BUCKETS];
	uint64_t forks;

	/* The mirror. */
	uint64_t windows;
	uint64_t filled_pages;
	uint64_t collisions;
	uint64_t torn_pages;
	uint64_t pinned;
	uint64_t pinned_peak;

	/* The device. */
	uint64_t transfers;
	uint64_t read_bytes;
	uint64_t written_bytes;
	uint64_t ended_by_change;

	/* The checker. */
	uint64_t checked;
	uint64_t checked_frames;
	uint64_t checked_contents;
	uint64_t overtaken;
	uint64_t undecided;
	uint64_t stale;
	uint64_t stale_addr;
	char stale_text[200];

	/* Memory that the agent itself added. */
	uint64_t play_changes;
	uint64_t play_writes;
	uint64_t play_checked;

	/* CPU time of the agent's own thread and the device's. */
	uint64_t agent_ns;
};

struct area {
	struct area_header header;
	struct area_slot slots[AREA_SLOTS];
};

/* Which bucket of the latency table? */
static inline unsigned int area_bucket(uint64_t ns)
{
	unsigned int octave, index;

	if (ns < 64)
		return 0;
	octave = 63u - (unsigned int)__builtin_clzll(ns);
	index = (octave - 6) * 4 + (unsigned int)(ns >> (octave - 2) & 3);
	return index < AREA_BUCKETS ? index : AREA_BUCKETS - 1;
}

/* The upper end of a bucket. */
static inline uint64_t area_bucket_end(unsigned int index)
{
	unsigned int octave = index / 4 + 6;

	return ((uint64_t)4 + index % 4 + 1) << (octave - 2);
}

static inline void area_count(uint64_t *counter, uint64_t n)
{
	/* relaxed: figures for a report, exact once their writers are gone */
	mmn_fetch_add_relaxed(counter, n);
}

static inline uint64_t area_read(const uint64_t *counter)
{
	/* relaxed: as above */
	return mmn_load_relaxed(counter);
}

static inline void area_raise(uint64_t *maximum, uint64_t value)
{
	/* relaxed: as above */
	uint64_t seen = mmn_load_relaxed(maximum);

	while (seen < value && !mmn_cmpxchg_relaxed(maximum, &seen, value))
		;
}

#endif
