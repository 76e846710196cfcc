/* SPDX-License-Identifier: MIT */
/*
 * Signal handlers that change memory in the middle of the cache, and faults in
 * its own thread.
 */
#include <signal.h>

#include "unit/cache-help.h"

enum { PAGES = 4, ROUNDS = 200 };

static struct fixture *interrupted;
/* What was registered before the last change of a page is of no use. */
static _Atomic uint64_t stale[PAGES];
static _Atomic uint64_t handled;

/* A change, in a handler: nothing of the test's own reports. */
static void change_all(int signal)
{
	struct mmn_invalidate_desc desc;
	int page;

	(void)signal;
	mmn_invalidate_desc_init(&desc, interrupted->state, MMN_EVENT_UNMAP,
				 BASE, BASE + PAGES * PAGE - 1);
	if (mmn_invalidate_start(&desc))
		abort();
	for (page = 0; page < PAGES; page++)
		stale[page] = interrupted->registered;
	if (mmn_invalidate_end(&desc))
		abort();
	handled++;
}

static void round_of(struct fixture *x, int page)
{
	uint64_t before = stale[page];

	t_ok(touch(x, page, 1, READ | WRITE) > before);
	unmap(x, page, 1);
}

/*
 * The handler comes where it likes: in a get, in a callback, where the worker is
 * rung for.
 */
TEST(a_handler_may_change_memory_in_the_middle_of_anything)
{
	struct itimerspec soon = { .it_value.tv_nsec = 200 * 1000 };
	struct sigaction action = { .sa_handler = change_all,
				    .sa_flags = SA_RESTART };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL,
				  .sigev_signo = SIGUSR1 };
	uint64_t asked = 0;
	struct fixture x;
	timer_t timer;
	int page = 0;

	set_up(&x);
	interrupted = &x;
	handled = 0;
	memset((void *)stale, 0, sizeof(stale));
	t_eq(sigaction(SIGUSR1, &action, NULL), 0);
	t_eq(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	while (handled < ROUNDS) {
		/* One at a time: a get that is slower than the timer ends. */
		if (handled == asked) {
			asked++;
			t_eq(timer_settime(timer, 0, &soon, NULL), 0);
		}
		round_of(&x, page);
		page = (page + 1) % PAGES;
	}
	t_eq(timer_delete(timer), 0);
	tear_down(&x);
}

static char *trap;
static volatile sig_atomic_t faults;

static void open_trap(int signal)
{
	(void)signal;
	faults++;
	if (mprotect(trap, PAGE, PROT_READ | PROT_WRITE))
		abort();
}

static struct dma_fence *step_into_trap(struct fixture *x,
					struct mmn_cache_region *region)
{
	(void)x;
	(void)region;
	*(volatile char *)trap = 1;
	return NULL;
}

TEST(a_fault_in_the_deregister_op_reaches_its_handler)
{
	struct sigaction action = { .sa_handler = open_trap };
	struct fixture x;

	set_up(&x);
	trap = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	t_ok(trap != MAP_FAILED);
	faults = 0;
	t_eq(sigaction(SIGSEGV, &action, NULL), 0);
	x.script.in_deregister = step_into_trap;
	touch(&x, 0, 1, READ);
	unmap(&x, 0, 1);
	until(x.deregistered == 1);
	t_eq(faults, 1);
	tear_down(&x);
	t_eq(munmap(trap, PAGE), 0);
}
