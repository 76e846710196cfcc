/* SPDX-License-Identifier: MIT */
/*
 * Reservation objects, judged by the buffers that they stand for.
 *
 * A buffer is some words that are all equal whenever nobody works on it.  The
 * device does jobs one after the other: each writes its number into some
 * buffers, word by word, or reads them and expects what was there when it was
 * submitted.  Submitters lock the set of buffers and add the fence of the job;
 * programs lock one buffer, or none, wait for the fences that are in their way,
 * and read, or write, by themselves.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <mmn/exec.h>

#include "torture.h"

enum {
	BUFFERS = 4,
	WORDS = 8,
	/* Jobs that the device has not begun. */
	QUEUE = 16,
};

enum {
	NO_WAIT = 1 << 0,
	NO_ADD = 1 << 1,
	WRONG_USAGE = 1 << 2,
	NOT_FOR_READERS = 1 << 3,
	SIGNAL_EARLY = 1 << 4,
};

static const struct flavour flavours[] = {
	BROKEN("no-wait", "programs do not wait for the device", NO_WAIT),
	BROKEN("no-add", "fences of jobs are not added", NO_ADD),
	BROKEN("wrong-usage", "jobs that write are added as if they only read",
	       WRONG_USAGE),
	BROKEN("not-for-readers", "who writes does not wait for jobs that read",
	       NOT_FOR_READERS),
	BROKEN("signal-early", "fences signal before the work is done",
	       SIGNAL_EARLY),
	{ 0 },
};

enum {
	SUBMITTED,
	DONE,
	READ_LOCKED,
	READ_UNLOCKED,
	WRITTEN,
	IDLE,
	NO_MEMORY,
};

struct buffer {
	struct dma_resv resv;
	/* resv's lock: the last number that was or will be written */
	uint64_t latest;
	/* atomic */
	uint64_t words[WORDS];
};

struct job {
	struct dma_fence fence;
	struct job *next;
	/* What is written, or expected in each buffer. */
	uint64_t number[BUFFERS];
	bool is_member[BUFFERS];
	bool writes;
};

static struct world {
	struct buffer buffers[BUFFERS];
	pthread_mutex_t lock;
	/* lock: the device's queue */
	struct job *first;
	struct job **end;
	uint32_t nr_jobs;
	uint64_t next_number;
	uint64_t next_seqno;
	uint64_t context;
	/* atomic */
	uint32_t nr_gone;
	uint32_t nr_others;
} world;

static const char *name(struct dma_fence *fence)
{
	(void)fence;
	return "torture";
}

static const struct dma_fence_ops job_ops = {
	.use_64bit_seqno = true,
	.get_driver_name = name,
	.get_timeline_name = name,
};

/* --- the words of a buffer ------------------------------------------------ */

static void write_words(uint32_t at, uint64_t number)
{
	uint32_t i;

	note("write", at, number);
	for (i = 0; i < WORDS; i++) {
		/* relaxed: the fences order it, which is being tested */
		mmn_store_relaxed(&world.buffers[at].words[i], number);
		if (i == WORDS / 2)
			linger();
	}
	note("written", at, number);
}

static void check_words(uint32_t at, uint64_t min, uint64_t max)
{
	uint64_t word;
	uint32_t i;

	note("read", at, min);
	for (i = 0; i < WORDS; i++) {
		/* relaxed: as above */
		word = mmn_load_relaxed(&world.buffers[at].words[i]);
		note_lag(word < min ? min - word : 0);
		if (word >= min && word <= max)
			continue;
		fail(at, "buffer %u: word %u has %llu, not %llu%s", at, i,
		     (unsigned long long)word, (unsigned long long)min,
		     min == max ? "" : " or more");
		return;
	}
}

/* --- submitters and the device -------------------------------------------- */

static struct job *new_job(void)
{
	struct job *job = calloc(1, sizeof(*job));
	uint32_t i;

	if (!job)
		return NULL;
	for (i = 0; i < BUFFERS; i++)
		job->is_member[i] = one_in(2);
	job->is_member[below(BUFFERS)] = true;
	job->writes = one_in(2);
	return job;
}

static enum dma_resv_usage usage_of(const struct job *job)
{
	if (!job->writes || is_broken(WRONG_USAGE))
		return DMA_RESV_USAGE_READ;
	return DMA_RESV_USAGE_WRITE;
}

/* All of its buffers are locked and have room. */
static void submit(struct job *job)
{
	struct buffer *buffer;
	uint64_t number;
	uint32_t i;

	pthread_mutex_lock(&world.lock);
	number = ++world.next_number;
	dma_fence_init(&job->fence, &job_ops, NULL, world.context,
		       ++world.next_seqno);
	for (i = 0; i < BUFFERS; i++) {
		buffer = &world.buffers[i];
		if (!job->is_member[i])
			continue;
		job->number[i] = job->writes ? number : buffer->latest;
		buffer->latest = job->number[i];
		note(job->writes ? "job writes" : "job reads", i,
		     job->number[i]);
		if (!is_broken(NO_ADD))
			dma_resv_add_fence(&buffer->resv, &job->fence,
					   usage_of(job));
	}
	*world.end = job;
	world.end = &job->next;
	world.nr_jobs++;
	pthread_mutex_unlock(&world.lock);
	tally(SUBMITTED);
}

static bool has_room(void)
{
	bool room;

	pthread_mutex_lock(&world.lock);
	room = world.nr_jobs < QUEUE;
	pthread_mutex_unlock(&world.lock);
	return room;
}

static void submitter(void)
{
	struct mmn_exec exec;
	struct job *job;
	int err = 0;
	uint32_t i;

	job = has_room() ? new_job() : NULL;
	if (!job) {
		sched_yield();
		return;
	}
	mmn_exec_init(&exec, dma_resv_class(), 0);
	mmn_exec_until_all_locked(&exec)
	{
		err = 0;
		for (i = 0; i < BUFFERS && !err; i++)
			if (job->is_member[i])
				err = mmn_exec_prepare(
					&exec, &world.buffers[i].resv, 1);
		mmn_exec_retry_on_contention(&exec);
		if (err)
			break;
	}
	if (!err) {
		submit(job);
	} else {
		must(err == -ENOMEM);
		tally(NO_MEMORY);
		free(job);
	}
	mmn_exec_fini(&exec);
	linger();
}

static struct job *next_job(void)
{
	struct job *job;

	pthread_mutex_lock(&world.lock);
	job = world.first;
	if (job) {
		world.first = job->next;
		world.nr_jobs--;
	}
	if (!world.first)
		world.end = &world.first;
	pthread_mutex_unlock(&world.lock);
	return job;
}

static void do_job(struct job *job)
{
	uint32_t i;

	for (i = 0; i < BUFFERS; i++) {
		if (!job->is_member[i])
			continue;
		linger();
		if (job->writes)
			write_words(i, job->number[i]);
		else
			check_words(i, job->number[i], job->number[i]);
	}
}

static void signal(struct job *job)
{
	uint32_t i;

	for (i = 0; i < BUFFERS; i++)
		if (job->is_member[i])
			note("signal", i, job->number[i]);
	must(!dma_fence_signal(&job->fence));
}

/* False when there is nothing to do. */
static bool do_next_job(void)
{
	struct job *job = next_job();

	if (!job)
		return false;
	if (is_broken(SIGNAL_EARLY))
		signal(job);
	do_job(job);
	if (!is_broken(SIGNAL_EARLY))
		signal(job);
	dma_fence_put(&job->fence);
	tally(DONE);
	return true;
}

/* There is one device only. */
static void device(void)
{
	if (!do_next_job())
		sched_yield();
}

/* Programs wait for it. */
static void device_leaves(void)
{
	/* relaxed: the last job is found under the lock */
	while (mmn_load_relaxed(&world.nr_gone) != world.nr_others)
		device();
	while (do_next_job())
		;
}

static void other_leaves(void)
{
	/* relaxed: as above */
	mmn_fetch_add_relaxed(&world.nr_gone, 1);
}

/* --- programs ------------------------------------------------------------- */

static void wait_for(struct buffer *buffer, enum dma_resv_usage usage)
{
	if (!is_broken(NO_WAIT))
		must(dma_resv_wait_timeout(&buffer->resv, usage, false,
					   DMA_FENCE_TIMEOUT_MAX) > 0);
}

static void read_locked(uint32_t at)
{
	struct buffer *buffer = &world.buffers[at];

	must(!dma_resv_lock(&buffer->resv, NULL));
	wait_for(buffer, DMA_RESV_USAGE_WRITE);
	check_words(at, buffer->latest, buffer->latest);
	dma_resv_unlock(&buffer->resv);
	tally(READ_LOCKED);
}

/* What was submitted before is there; others may come while it looks. */
static void read_unlocked(uint32_t at)
{
	struct buffer *buffer = &world.buffers[at];
	uint64_t latest;

	must(!dma_resv_lock(&buffer->resv, NULL));
	latest = buffer->latest;
	dma_resv_unlock(&buffer->resv);
	linger();
	if (one_in(2)) {
		wait_for(buffer, DMA_RESV_USAGE_WRITE);
		tally(READ_UNLOCKED);
	} else if (dma_resv_test_signaled_strict(&buffer->resv,
						 DMA_RESV_USAGE_WRITE)) {
		tally(IDLE);
	} else {
		return;
	}
	check_words(at, latest, UINT64_MAX);
}

static void write_locked(uint32_t at)
{
	struct buffer *buffer = &world.buffers[at];

	must(!dma_resv_lock(&buffer->resv, NULL));
	wait_for(buffer, is_broken(NOT_FOR_READERS) ? DMA_RESV_USAGE_WRITE
						    : DMA_RESV_USAGE_READ);
	pthread_mutex_lock(&world.lock);
	buffer->latest = ++world.next_number;
	pthread_mutex_unlock(&world.lock);
	write_words(at, buffer->latest);
	dma_resv_unlock(&buffer->resv);
	tally(WRITTEN);
}

static void program(void)
{
	uint32_t at = below(BUFFERS);

	switch (below(4)) {
	case 0:
		write_locked(at);
		break;
	case 1:
		read_locked(at);
		break;
	default:
		read_unlocked(at);
	}
	linger();
}

/* --- beginning and end ---------------------------------------------------- */

static int set_up(void)
{
	uint32_t i;

	memset(&world, 0, sizeof(world));
	world.end = &world.first;
	world.context = dma_fence_context_alloc(1);
	world.nr_others = actors_of("submitter") + actors_of("program");
	pthread_mutex_init(&world.lock, NULL);
	for (i = 0; i < BUFFERS; i++)
		dma_resv_init(&world.buffers[i].resv);
	return 0;
}

static void tear_down(void)
{
	uint32_t i;

	for (i = 0; i < BUFFERS; i++) {
		must(dma_resv_test_signaled(&world.buffers[i].resv,
					    DMA_RESV_USAGE_BOOKKEEP));
		dma_resv_fini(&world.buffers[i].resv);
	}
	pthread_mutex_destroy(&world.lock);
	dma_fence_barrier();
}

const struct scenario resv_scenario = {
	.name = "resv",
	.what = "reservation objects, judged by the buffers they stand for",
	.place = "buffer",
	.flavours = flavours,
	.roles = { ROLE("submitter", 2, submitter, other_leaves),
		   FIXED_ROLE("device", 1, device, device_leaves),
		   ROLE("program", 3, program, other_leaves) },
	.counters = { "submitted", "done", "read-locked", "read-unlocked",
		      "written", "idle", "no-memory" },
	.nr_musts = WRITTEN + 1,
	.set_up = set_up,
	.tear_down = tear_down,
};
