/* SPDX-License-Identifier: MIT */
/*
 * The deadlock that fences make possible, found before it happens:
 *
 *	CPU0: consumer                     CPU1: producer
 *
 *	lock A
 *	wait for the fence                 begin_signalling
 *	                                   lock A          waits for CPU0
 *	                                   signal
 *
 * Nothing goes wrong as long as the two never meet.  So each lock that is held
 * across a wait is remembered, each lock that is taken on the way to a signal
 * too, and the second of the two is reported with the place of the first.  The
 * idea, and that of the cookie, is lockdep's use in Linux.
 */
#include "fence/signalling.h"

#include <mmn/dma-fence.h>

#include "base/bug.h"
#include "base/context.h"
#include "base/lock.h"
#include "base/text.h"

#if MMN_SELFCHECK

__thread uint32_t signalling_nr_spins
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

enum { MAX_HELD = 16, NR_KNOWN = 128 };

struct place {
	const char *file;
	uint32_t line;
};

struct held {
	const void *lock;
	struct place place;
};

struct thread {
	uint32_t nr_held;
	bool in_section;
	struct held held[MAX_HELD];
};

static __thread struct thread thread __attribute__((tls_model("initial-exec")));

/* What is known about one lock; a place without a file is not known. */
struct known {
	const void *lock;
	struct place held_across_wait;
	struct place taken_on_the_way;
	bool reported;
};

/* Guards known[]; nothing is taken inside. */
static struct mmn_mutex known_lock = MMN_MUTEX_INIT(MMN_RANK_LEAF);
/* Filled from the front; when it is full, further locks are not judged. */
static struct known known[NR_KNOWN];

static struct known *find_known(const void *lock)
{
	int i;

	for (i = 0; i < NR_KNOWN; i++) {
		if (!known[i].lock)
			known[i].lock = lock;
		if (known[i].lock == lock)
			return &known[i];
	}
	return NULL;
}

static void report(const struct known *it)
{
	struct mmn_text text;

	mmn_text_init(&text);
	mmn_text_add(&text, "a lock taken on the way to a signal at ");
	mmn_text_add_place(&text, it->taken_on_the_way.file,
			   it->taken_on_the_way.line);
	mmn_text_add(&text, " is held across a wait, taken at ");
	mmn_text_add_place(&text, it->held_across_wait.file,
			   it->held_across_wait.line);
	mmn_bug_report(it->taken_on_the_way.file, it->taken_on_the_way.line,
		       "dma_fence_lock_acquired", text.buffer);
}

static void learn(const struct held *held, bool on_the_way)
{
	struct known found = { .reported = true };
	struct mmn_sigmask saved;
	struct known *it;

	mmn_signals_block(&saved);
	mmn_mutex_lock(&known_lock);
	it = find_known(held->lock);
	if (it) {
		struct place *place = on_the_way ? &it->taken_on_the_way
						 : &it->held_across_wait;

		if (!place->file)
			*place = held->place;
		found = *it;
		if (it->taken_on_the_way.file && it->held_across_wait.file)
			it->reported = true;
	}
	mmn_mutex_unlock(&known_lock);
	mmn_signals_restore(&saved);
	if (!found.reported && found.taken_on_the_way.file &&
	    found.held_across_wait.file)
		report(&found);
}

bool dma_fence_begin_signalling(void)
{
	if (thread.in_section)
		return true;
	thread.in_section = true;
	return false;
}

void dma_fence_end_signalling(bool cookie)
{
	mmn_bug_on(!thread.in_section, "ends a signalling section outside one");
	if (!cookie)
		thread.in_section = false;
}

void dma_fence_might_wait(void)
{
	uint32_t i;

	mmn_might_sleep();
	mmn_bug_on(thread.in_section, "waits on the way to a signal");
	mmn_bug_on(signalling_nr_spins, "waits with a spin lock held");
	for (i = 0; i < thread.nr_held; i++)
		learn(&thread.held[i], false);
}

void dma_fence_lock_acquired(const void *lock, const char *file, uint32_t line)
{
	struct held held = { .lock = lock, .place = { file, line } };

	if (thread.in_section)
		learn(&held, true);
	if (thread.nr_held < MAX_HELD)
		thread.held[thread.nr_held++] = held;
}

void dma_fence_lock_released(const void *lock)
{
	uint32_t i = thread.nr_held;

	while (i && thread.held[i - 1].lock != lock)
		i--;
	if (!i)
		return;
	for (; i < thread.nr_held; i++)
		thread.held[i - 1] = thread.held[i];
	thread.nr_held--;
}

#else

bool dma_fence_begin_signalling(void)
{
	return true;
}

void dma_fence_end_signalling(bool cookie)
{
	(void)cookie;
}

void dma_fence_might_wait(void)
{
}

void dma_fence_lock_acquired(const void *lock, const char *file, uint32_t line)
{
	(void)lock;
	(void)file;
	(void)line;
}

void dma_fence_lock_released(const void *lock)
{
	(void)lock;
}

#endif
