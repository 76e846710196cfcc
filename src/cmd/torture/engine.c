/* SPDX-License-Identifier: MIT */
/*
 * The actors of one scenario and whoever disturbs them.
 *
 * The main thread is the director: every 10 ms it looks whether somebody has
 * made no progress for too long, stops and starts all actors (stutter), moves
 * them between processors (shuffle), and prints figures.  A timer interrupts
 * whichever thread is running and holds it up (preempt).
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <mmn/debug.h>

#include "torture.h"

#define TICK_NS 10000000
/* Ticks between two stops of everybody, and how long they last. */
#define STUTTER_EVERY 23
#define STUTTER_LASTS 2
#define SHUFFLE_EVERY 11
/* One bucket per power of two, nanoseconds or changes. */
#define NR_BUCKETS 40

struct actor {
	const struct role *role;
	pthread_t thread;
	uint64_t random;
	/* atomic: written by the actor, read by the director too */
	uint64_t steps;
	uint64_t step_began;
	uint32_t has_left;
	uint64_t counts[MAX_COUNTERS];
	uint64_t step_ns[NR_BUCKETS];
	uint64_t lag[NR_BUCKETS];
	/* The director's. */
	uint64_t steps_seen;
	uint32_t ticks_stuck;
	struct ring ring;
	char name[20];
};

static struct run {
	const struct scenario *scenario;
	const struct flavour *flavour;
	const struct torture_options *options;
	/* [0] is the main thread's */
	struct actor *actors;
	uint32_t nr_actors;
	bool is_stuck;
	/* atomic */
	uint32_t stop;
	uint32_t hold;
	uint32_t failed;
	/* written by the one that sets failed, read when the others are gone */
	uint64_t failed_ns;
	uint32_t failed_actor;
	uint32_t failed_place;
	char failure[200];
} run;

static __thread struct actor *self;

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000),
			       .tv_nsec = (long)(ns % 1000000000) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) ==
	       EINTR)
		;
}

/* --- what scenarios use --------------------------------------------------- */

bool is_broken(uint32_t bits)
{
	return run.flavour && run.flavour->bits & bits;
}

bool is_over(void)
{
	/* relaxed: a hint to finish */
	return mmn_load_relaxed(&run.stop) || mmn_load_relaxed(&run.failed);
}

uint64_t random_word(void)
{
	/* xorshift64star */
	self->random ^= self->random >> 12;
	self->random ^= self->random << 25;
	self->random ^= self->random >> 27;
	return self->random * UINT64_C(0x2545f4914f6cdd1d);
}

uint32_t below(uint32_t limit)
{
	return (uint32_t)((random_word() >> 33) % limit);
}

bool one_in(uint32_t n)
{
	return below(n) == 0;
}

void linger(void)
{
	uint32_t spins = below(64), what = below(1024);

	if (!(run.options->disturb & DISTURB_DELAY))
		return;
	if (what < 256)
		sched_yield();
	if (what == 1023)
		usleep(1);
	while (spins--)
		mmn_cpu_relax();
}

/* relaxed: the owner is the only one that writes; others want some value */
static void raise_count(uint64_t *count)
{
	mmn_store_relaxed(count, mmn_load_relaxed(count) + 1);
}

void tally(uint32_t counter)
{
	if (!self)
		return;
	raise_count(&self->counts[counter]);
}

static uint32_t bucket_of(uint64_t value)
{
	uint32_t bucket = value ? 64 - (uint32_t)__builtin_clzll(value) : 0;

	return bucket < NR_BUCKETS ? bucket : NR_BUCKETS - 1;
}

void note_lag(uint64_t lag)
{
	if (!self)
		return;
	raise_count(&self->lag[bucket_of(lag)]);
}

void note_range(const char *what, uint32_t first, uint32_t last, uint64_t value)
{
	struct event *event;
	struct ring *ring;
	uint64_t written;

	/* relaxed, all of them: the last events before a failure stay */
	if (!self || mmn_load_relaxed(&run.failed))
		return;
	ring = &self->ring;
	written = mmn_load_relaxed(&ring->written);
	event = &ring->events[written % RING];
	mmn_store_relaxed(&event->ns, now());
	mmn_store_relaxed(&event->value, value);
	mmn_store_relaxed(&event->what, what);
	mmn_store_relaxed(&event->first, first);
	mmn_store_relaxed(&event->last, last);
	mmn_store_relaxed(&ring->written, written + 1);
}

void note(const char *what, uint32_t place, uint64_t value)
{
	note_range(what, place, place, value);
}

__attribute__((format(printf, 3, 0))) static void
fail_as(struct actor *actor, uint32_t place, const char *format, va_list args)
{
	uint32_t no = 0;

	/* relaxed: read after the threads are joined, or by who wrote it */
	if (!mmn_cmpxchg_relaxed(&run.failed, &no, 1))
		return;
	run.failed_ns = now();
	run.failed_actor = actor ? (uint32_t)(actor - run.actors) : NOWHERE;
	run.failed_place = place;
	vsnprintf(run.failure, sizeof(run.failure), format, args);
}

void fail(uint32_t place, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fail_as(self, place, format, args);
	va_end(args);
}

__attribute__((format(printf, 2, 3))) static void
fail_of(struct actor *actor, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fail_as(actor, NOWHERE, format, args);
	va_end(args);
}

/* A build with self-checks has found wrong use. */
static void told_misuse(const struct mmn_debug_report *report)
{
	fail(NOWHERE, "%s() says: %s", report->function, report->text);
}

const char *torture_failure(void)
{
	return run.failure;
}

bool torture_is_stuck(void)
{
	return run.is_stuck;
}

/* --- actors --------------------------------------------------------------- */

/* Stutter: everybody waits here while the director holds them. */
static void wait_for_go(void)
{
	/* relaxed: a hint */
	while (mmn_load_relaxed(&run.hold) && !is_over())
		usleep(500);
}

static void *play(void *arg)
{
	sigset_t alarm;
	uint64_t began;

	self = arg;
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
	while (!is_over()) {
		wait_for_go();
		began = now();
		self->role->step();
		raise_count(&self->steps);
		raise_count(&self->step_ns[bucket_of(now() - began)]);
	}
	if (self->role->leave)
		self->role->leave();
	/* relaxed: the join orders it */
	mmn_store_relaxed(&self->has_left, 1);
	return NULL;
}

/* The output function of splitmix64 (S. Vigna, public domain). */
static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static void add_actor(const struct role *role, const char *name, uint32_t index)
{
	struct actor *actor = &run.actors[run.nr_actors];

	actor->role = role;
	actor->random = mix(run.options->seed + run.nr_actors) | 1;
	snprintf(actor->name, sizeof(actor->name), index ? "%s%u" : "%s", name,
		 index);
	run.nr_actors++;
}

static uint32_t crowd_of(const struct role *role)
{
	if (role->is_fixed || !run.options->crowd)
		return role->nr;
	return run.options->crowd;
}

uint32_t actors_of(const char *name)
{
	const struct role *role = run.scenario->roles;

	for (; role < run.scenario->roles + MAX_ROLES && role->name; role++)
		if (!strcmp(role->name, name))
			return crowd_of(role);
	return 0;
}

static int cast(void)
{
	const struct role *role = run.scenario->roles;
	uint32_t i;

	run.actors = calloc(MAX_ACTORS + 1, sizeof(*run.actors));
	if (!run.actors)
		return -ENOMEM;
	add_actor(NULL, "main", 0);
	for (; role < run.scenario->roles + MAX_ROLES && role->name; role++)
		for (i = 1; i <= crowd_of(role); i++)
			add_actor(role, role->name, i);
	self = run.actors;
	return 0;
}

/* --- disturbance ---------------------------------------------------------- */

/* In any thread, at any place where signals are not blocked. */
static void hold_up(int signal)
{
	struct timespec shortly = { .tv_nsec = 20000 };
	int saved = errno;

	(void)signal;
	if (self && self->steps & 1)
		sched_yield();
	else
		nanosleep(&shortly, NULL);
	errno = saved;
}

static void set_timer(long us)
{
	struct itimerval timer = { { 0, us }, { 0, us } };
	struct sigaction action = { .sa_handler = us ? hold_up : SIG_IGN,
				    .sa_flags = SA_RESTART };

	if (us)
		sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	/* One may be pending still. */
	if (!us)
		sigaction(SIGALRM, &action, NULL);
}

/* 0: not armed. */
static uint32_t armed_one_in(uint32_t point)
{
	const struct flavour *flavour = run.flavour;

	if (flavour && flavour->one_in && flavour->point == point)
		return flavour->one_in;
	if (!(run.options->disturb & DISTURB_INJECT))
		return 0;
	return run.options->one_in[point];
}

static void arm_faults(void)
{
	uint32_t point;

	for (point = 0; point < MMN_NR_INJECT_POINTS; point++)
		if (armed_one_in(point))
			mmn_inject_set(point, armed_one_in(point),
				       run.options->seed + point);
}

static bool is_allowed(const cpu_set_t *all, uint32_t nr, cpu_set_t *ret_one)
{
	uint32_t cpu;

	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, all) && !nr--) {
			CPU_ZERO(ret_one);
			CPU_SET(cpu, ret_one);
			return true;
		}
	return false;
}

/* Each to one processor, or to all of them. */
static void shuffle(const cpu_set_t *all)
{
	uint32_t nr = (uint32_t)CPU_COUNT(all), i;
	cpu_set_t one;

	for (i = 1; i < run.nr_actors; i++) {
		bool lonely = nr > 1 && is_allowed(all, below(nr + 1), &one);

		pthread_setaffinity_np(run.actors[i].thread, sizeof(one),
				       lonely ? &one : all);
	}
}

/* --- the director --------------------------------------------------------- */

static uint64_t sum_of(uint32_t counter)
{
	uint64_t sum = 0;
	uint32_t i;

	for (i = 0; i < run.nr_actors; i++)
		/* relaxed: any value of the last moment */
		sum += mmn_load_relaxed(&run.actors[i].counts[counter]);
	return sum;
}

static void print_counts(double seconds)
{
	uint32_t i;

	printf("torture: %s %.1f s:", run.scenario->name, seconds);
	for (i = 0; i < MAX_COUNTERS && run.scenario->counters[i]; i++)
		printf(" %s %" PRIu64, run.scenario->counters[i], sum_of(i));
	putchar('\n');
}

/* What did not happen, of what must; NULL when everything did. */
static const char *missing(void)
{
	uint32_t i;

	if (run.flavour)
		return NULL;
	for (i = 0; i < run.scenario->nr_musts; i++)
		if (!sum_of(i))
			return run.scenario->counters[i];
	return NULL;
}

static void check_progress(void)
{
	uint32_t limit =
		(uint32_t)(run.options->stall_seconds * 1e9 / TICK_NS) + 1;
	uint32_t i;

	for (i = 1; i < run.nr_actors; i++) {
		struct actor *actor = &run.actors[i];
		/* relaxed: any value of the last moment */
		uint64_t steps = mmn_load_relaxed(&actor->steps);

		if (mmn_load_relaxed(&actor->has_left))
			continue;
		if (steps != actor->steps_seen)
			actor->ticks_stuck = 0;
		actor->steps_seen = steps;
		if (++actor->ticks_stuck > limit)
			fail_of(actor, "%s has made no progress for %g s",
				actor->name, run.options->stall_seconds);
	}
}

static void disturb(uint64_t tick, const cpu_set_t *all)
{
	uint32_t what = run.options->disturb;

	/* relaxed: a hint */
	if (what & DISTURB_STUTTER)
		mmn_store_relaxed(&run.hold,
				  tick % STUTTER_EVERY >=
					  STUTTER_EVERY - STUTTER_LASTS);
	if (what & DISTURB_SHUFFLE && tick % SHUFFLE_EVERY == 0)
		shuffle(all);
}

/*
 * A machine that is slow makes the run longer: it does not end while something
 * that must happen has not.
 */
static bool is_enough(uint64_t began)
{
	double passed = (double)(now() - began) / 1e9;

	return passed >= run.options->seconds &&
	       (!missing() ||
		passed >= run.options->seconds + run.options->stall_seconds);
}

static void direct(uint64_t began)
{
	double interval = run.options->stat_interval, next = interval;
	cpu_set_t all;
	uint64_t tick;

	pthread_getaffinity_np(pthread_self(), sizeof(all), &all);
	for (tick = 1; !is_over() && !is_enough(began); tick++) {
		/* Whoever was stopped, with this one, was not stuck. */
		sleep_until(now() + TICK_NS);
		check_progress();
		disturb(tick, &all);
		if (interval > 0 && (double)(now() - began) / 1e9 >= next) {
			print_counts(next);
			fflush(stdout);
			next += interval;
		}
	}
	if (!is_over() && missing())
		fail(NOWHERE, "nothing is proved: no %s", missing());
	/* relaxed: a hint to finish */
	mmn_store_relaxed(&run.stop, 1);
	mmn_store_relaxed(&run.hold, 0);
}

/* False when somebody does not leave, and cannot be joined. */
static bool gather(void)
{
	uint64_t limit =
		(uint64_t)(run.options->stall_seconds * 1e9 / TICK_NS) + 1;
	uint32_t i;

	for (i = 1; i < run.nr_actors; i++) {
		struct actor *actor = &run.actors[i];
		uint64_t tick;

		/* relaxed: the join orders it */
		for (tick = 0; !mmn_load_relaxed(&actor->has_left); tick++) {
			if (tick < limit) {
				sleep_until(now() + TICK_NS / 10);
				continue;
			}
			fail_of(actor, "%s does not come to an end",
				actor->name);
			return false;
		}
		pthread_join(actor->thread, NULL);
	}
	return true;
}

/* --- what is printed ------------------------------------------------------ */

const struct disturbance torture_disturbances[] = {
	{ DISTURB_DELAY, "delay" },	{ DISTURB_PREEMPT, "preempt" },
	{ DISTURB_SHUFFLE, "shuffle" }, { DISTURB_STUTTER, "stutter" },
	{ DISTURB_INJECT, "inject" },	{ 0, NULL },
};

/* Everything that is needed to have the same again. */
static void print_command(void)
{
	const struct torture_options *options = run.options;
	const struct disturbance *disturbance = torture_disturbances;
	const char *separator = " ";
	uint32_t point;

	printf("torture: mmn torture --seed %#" PRIx64 " --seconds %g"
	       " --stall %g --disturb",
	       options->seed, options->seconds, options->stall_seconds);
	for (; disturbance->name; disturbance++) {
		if (!(options->disturb & disturbance->bit))
			continue;
		printf("%s%s", separator, disturbance->name);
		separator = ",";
	}
	printf("%s", options->disturb ? "" : " none");
	if (options->crowd)
		printf(" --threads %u", options->crowd);
	for (point = 0; point < MMN_NR_INJECT_POINTS; point++)
		if (options->asked >> point & 1)
			printf(" --inject %s=%u", mmn_inject_name(point),
			       options->one_in[point]);
	if (run.flavour)
		printf(" --flavour %s", run.flavour->name);
	printf(" %s\n", run.scenario->name);
}

static void print_parameters(void)
{
	const struct role *role = run.scenario->roles;
	uint32_t point;

	printf("torture: %s, flavour %s: %s\n", run.scenario->name,
	       run.flavour ? run.flavour->name : "real",
	       run.flavour ? run.flavour->what : run.scenario->what);
	print_command();
	printf("torture: threads:");
	for (; role < run.scenario->roles + MAX_ROLES && role->name; role++)
		printf(" %s %u", role->name, crowd_of(role));
	printf("; faults, one in:");
	for (point = 0; point < MMN_NR_INJECT_POINTS; point++)
		if (armed_one_in(point))
			printf(" %s %u", mmn_inject_name(point),
			       armed_one_in(point));
	putchar('\n');
}

static void print_buckets(const char *name, const char *unit,
			  const uint64_t *buckets)
{
	uint32_t column = 0, i;
	uint64_t all = 0;

	for (i = 0; i < NR_BUCKETS; i++)
		all += buckets[i];
	if (!all)
		return;
	printf("torture: %s, %s, below:", name, unit);
	for (i = 0; i < NR_BUCKETS; i++) {
		if (!buckets[i])
			continue;
		if (column++ % 5 == 0)
			printf("\ntorture:  ");
		printf("  2^%-2u %8" PRIu64, i, buckets[i]);
	}
	putchar('\n');
}

static void add_buckets(uint64_t *to, const uint64_t *from)
{
	uint32_t i;

	for (i = 0; i < NR_BUCKETS; i++)
		/* relaxed: somebody may be stuck still */
		to[i] += mmn_load_relaxed(&from[i]);
}

static void print_histograms(void)
{
	const struct role *role = run.scenario->roles;
	uint64_t sums[NR_BUCKETS] = { 0 };
	uint32_t i;

	for (i = 0; i < run.nr_actors; i++)
		add_buckets(sums, run.actors[i].lag);
	print_buckets("how far behind", "changes", sums);
	for (; role < run.scenario->roles + MAX_ROLES && role->name; role++) {
		memset(sums, 0, sizeof(sums));
		for (i = 1; i < run.nr_actors; i++)
			if (run.actors[i].role == role)
				add_buckets(sums, run.actors[i].step_ns);
		print_buckets(role->name, "ns for a round", sums);
	}
}

static void print_faults(void)
{
	uint32_t point;

	printf("torture: faults:");
	for (point = 0; point < MMN_NR_INJECT_POINTS; point++)
		if (mmn_inject_passes(point))
			printf(" %s %" PRIu64 " of %" PRIu64,
			       mmn_inject_name(point), mmn_inject_hits(point),
			       mmn_inject_passes(point));
	putchar('\n');
}

static void print_failure(void)
{
	struct column columns[MAX_ACTORS + 1];
	uint32_t i;

	printf("torture: %s\n", run.failure);
	if (run.failed_place == NOWHERE)
		printf("torture: the last that happened:\n\n");
	else
		printf("torture: what happened to %s %u:\n\n",
		       run.scenario->place, run.failed_place);
	for (i = 0; i < run.nr_actors; i++) {
		columns[i].name = run.actors[i].name;
		columns[i].ring = &run.actors[i].ring;
	}
	history_print(columns, run.nr_actors, run.failed_actor,
		      run.failed_place, run.failed_ns, stdout);
	putchar('\n');
}

/* --- one run -------------------------------------------------------------- */

static int raise_curtain(void)
{
	uint32_t i;
	int err;

	for (i = 1; i < run.nr_actors; i++) {
		err = pthread_create(&run.actors[i].thread, NULL, play,
				     &run.actors[i]);
		if (!err)
			continue;
		fail(NOWHERE, "cannot start a thread: %s", strerror(err));
		run.nr_actors = i;
		return -err;
	}
	return 0;
}

/* False when threads are left that use everything still. */
static bool perform(uint64_t began)
{
	sigset_t alarm, saved;
	bool all_left;

	/* For the actors: the director would get most of them. */
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm, &saved);
	arm_faults();
	if (run.options->disturb & DISTURB_PREEMPT)
		set_timer(1700);
	if (!raise_curtain())
		direct(began);
	all_left = gather();
	set_timer(0);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	/* The counts of the points stay readable. */
	mmn_inject_clear();
	return all_left;
}

int torture_run(const struct scenario *scenario, const struct flavour *flavour,
		const struct torture_options *options)
{
	uint64_t began = now();
	int err;

	memset(&run, 0, sizeof(run));
	run.scenario = scenario;
	run.flavour = flavour;
	run.options = options;
	err = cast();
	if (err)
		return err;
	print_parameters();
	fflush(stdout);
	mmn_debug_set_handler(told_misuse);
	err = scenario->set_up();
	if (err) {
		fail(NOWHERE, "cannot be set up: %s", strerror(-err));
	} else {
		run.is_stuck = !perform(began);
		if (!run.is_stuck)
			scenario->tear_down();
	}
	mmn_debug_set_handler(NULL);
	print_counts((double)(now() - began) / 1e9);
	print_faults();
	print_histograms();
	if (run.failed)
		print_failure();
	self = NULL;
	if (!run.is_stuck)
		free(run.actors);
	return run.failed ? -EIO : 0;
}
