/* SPDX-License-Identifier: MIT */
/*
 * The ground that code under test stands on: mutexes, futexes, the heap, bug
 * reports.  All of it is made from the explorer's own atomic accesses, so that
 * the memory model has one kind of thing to judge.
 */
#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "ladder/engine.h"
#include "ladder/scenario.h"
#include "ladder/subject.h"

#undef memcpy
#undef memmove
#undef memset
#undef malloc
#undef free

/* ------------------------------------------------------------------ */
/* What scenarios call                                                */
/* ------------------------------------------------------------------ */

const void *ladder_data(void)
{
	return engine->scenario->data;
}

void ladder_at(const struct access_site *site)
{
	if (engine)
		this_thread()->site = site;
}

void ladder_fail(enum ladder_failure failure, const char *format, ...)
{
	char text[160];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	engine_fail(failure, "%s", text);
	__builtin_unreachable();
}

void ladder_assert_at(bool cond, const char *text, const char *file, int line)
{
	const char *name = strrchr(file, '/');

	if (!cond)
		engine_fail(LADDER_ASSERTION, "%s:%d: %s",
			    name ? name + 1 : file, line, text);
}

void ladder_spin(void)
{
	/* Otherwise his loop ends when what he has read changes. */
	if (engine->mode == MODE_ALONE || engine_may_go_round())
		return;
	this_thread()->spins = true;
	engine_block("what it spins on to change", false);
}

void ladder_outcome(bool seen)
{
	engine->result->outcomes += seen;
}

/* ------------------------------------------------------------------ */
/* Mutexes: a word that is 0 or 1                                     */
/* ------------------------------------------------------------------ */

static bool take(const struct op *op, uint64_t old, uint64_t *ret_new)
{
	*ret_new = 1;
	return old == 0;
}

static bool word_take(void *word, const char *what)
{
	struct op op = {
		.kind = OP_RMW,
		.address = (uintptr_t)word,
		.size = sizeof(int),
		.order = ORDER_ACQUIRE,
		.function = take,
		.what = what,
	};
	bool taken;

	engine_access(&op, &taken);
	return taken;
}

static void word_lock(void *word)
{
	char name[64];

	if (!word_take(word, "lock"))
		engine_block(name_of((uintptr_t)word, NULL, name, sizeof(name)),
			     false);
}

static void word_unlock(void *word)
{
	struct op op = {
		.kind = OP_STORE,
		.address = (uintptr_t)word,
		.size = sizeof(int),
		.order = ORDER_RELEASE,
		.what = "unlock",
	};
	bool unused;

	engine_access(&op, &unused);
}

int ladder_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *unused)
{
	(void)unused;
	engine_plain((uintptr_t)m, sizeof(*m), true);
	memset(m, 0, sizeof(*m));
	return 0;
}

int ladder_mutex_destroy(pthread_mutex_t *m)
{
	engine_plain((uintptr_t)m, sizeof(*m), true);
	return 0;
}

int ladder_mutex_lock(pthread_mutex_t *m)
{
	word_lock(m);
	return 0;
}

int ladder_mutex_trylock(pthread_mutex_t *m)
{
	return word_take(m, "try to lock") ? 0 : EBUSY;
}

int ladder_mutex_unlock(pthread_mutex_t *m)
{
	word_unlock(m);
	return 0;
}

/* ------------------------------------------------------------------ */
/* Spin locks: likewise.  gallery/spinlock.c has the library's own       */
/* ------------------------------------------------------------------ */

struct spinlock {
	uint32_t word;
};

void mmn_spin_init(struct spinlock *lock);
bool mmn_spin_trylock(struct spinlock *lock);
void mmn_spin_lock(struct spinlock *lock);
void mmn_spin_unlock(struct spinlock *lock);

void mmn_spin_init(struct spinlock *lock)
{
	engine_plain((uintptr_t)lock, sizeof(*lock), true);
	lock->word = 0;
}

bool mmn_spin_trylock(struct spinlock *lock)
{
	return word_take(&lock->word, "try to lock");
}

void mmn_spin_lock(struct spinlock *lock)
{
	word_lock(&lock->word);
}

void mmn_spin_unlock(struct spinlock *lock)
{
	word_unlock(&lock->word);
}

/* ------------------------------------------------------------------ */
/* Futexes                                                            */
/* ------------------------------------------------------------------ */

/*
 * Who sleeps on a word, as a word of the explorer: bit t, thread t is in the
 * queue; bit 16 + t, it was taken out by a wake-up.  The kernel's own order is
 * that of the queue's lock: a sleeper looks at the word inside, and a waker that
 * comes later finds it in the queue.
 */
#define WOKEN(t) (UINT64_C(1) << (16 + (t)))
#define QUEUED(t) (UINT64_C(1) << (t))
#define ALL_QUEUED (WOKEN(0) - 1)

static struct {
	uint64_t word, queue;
} queues[32];

void base_reset(void)
{
	memset(queues, 0, sizeof(queues));
}

/* One queue per word. */
static uint64_t *queue_of(uint64_t word)
{
	unsigned int i;

	for (i = 0; i < 32; i++) {
		if (queues[i].word && queues[i].word != word)
			continue;
		queues[i].word = word;
		return &queues[i].queue;
	}
	engine_fail(LADDER_UNSUPPORTED, "more than 32 futexes");
	return NULL;
}

static bool enqueue(const struct op *op, uint64_t old, uint64_t *ret_new)
{
	*ret_new = (old | QUEUED(op->value)) & ~WOKEN(op->value);
	return true;
}

static bool dequeue(const struct op *op, uint64_t old, uint64_t *ret_new)
{
	*ret_new = old & ~(QUEUED(op->value) | WOKEN(op->value));
	return true;
}

/* Those with the lowest numbers first. */
static bool wake(const struct op *op, uint64_t old, uint64_t *ret_new)
{
	uint64_t nr = op->value;
	unsigned int t;

	*ret_new = old;
	for (t = 0; t < LADDER_MAX_THREADS && nr; t++) {
		if (!(old & QUEUED(t)))
			continue;
		*ret_new = (*ret_new & ~QUEUED(t)) | WOKEN(t);
		nr--;
	}
	return true;
}

static uint64_t queue_change(uint64_t word, rmw_function *function,
			     uint64_t value, const char *what)
{
	struct op op = {
		.kind = OP_RMW,
		.address = (uintptr_t)queue_of(word),
		.size = sizeof(uint64_t),
		.order = ORDER_ACQ_REL,
		.function = function,
		.value = value,
		.what = what,
	};
	bool unused;

	return engine_access(&op, &unused);
}

static uint64_t look(uint64_t address, uint8_t size, const char *what)
{
	struct op op = {
		.kind = OP_LOAD,
		.address = address,
		.size = size,
		.order = ORDER_RELAXED,
		.what = what,
	};
	bool unused;

	return engine_access(&op, &unused);
}

/* The futex may be the lower half of a longer word. */
static uint8_t size_of_word(uint64_t word)
{
	uint16_t i = graph_location(engine->graph, word);

	return i == NO_EVENT ? sizeof(uint32_t)
			     : engine->graph->locations[i].size;
}

static long futex_wait(uint64_t word, uint32_t seen, bool timed)
{
	uint8_t self = engine->current;
	char name[64];
	uint64_t queue;

	queue_change(word, enqueue, self, "sleep: queue of");
	if ((uint32_t)look(word, size_of_word(word), NULL) != seen) {
		queue_change(word, dequeue, self, "does not sleep: queue of");
		return -EAGAIN;
	}
	queue = look((uintptr_t)queue_of(word), sizeof(queue),
		     "woken? queue of");
	/* Time passes when nothing else does. */
	if (!(queue & WOKEN(self)) && timed) {
		queue_change(word, dequeue, self, "time is up: queue of");
		return -ETIMEDOUT;
	}
	if (!(queue & WOKEN(self)))
		engine_block(name_of(word, NULL, name, sizeof(name)), true);
	return 0;
}

static long futex_wake(uint64_t word, uint32_t nr)
{
	uint64_t old = queue_change(word, wake, nr, "wake: queue of");
	uint64_t sleepers = (uint64_t)__builtin_popcountll(old & ALL_QUEUED);

	return (long)(sleepers < nr ? sleepers : nr);
}

/* A page would be sparse in the explorer's heap: lines will do. */
static void *map(size_t size)
{
	void *p = memory_alloc(size, 64);

	return p ? memset(p, 0, size) : NULL;
}

static long membarrier(long command)
{
	if (!engine->scenario->membarrier)
		return -ENOSYS;
	if (command == MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
		return 0;
	if (command != MEMBARRIER_CMD_PRIVATE_EXPEDITED)
		engine_fail(LADDER_UNSUPPORTED, "membarrier %ld", command);
	engine_membarrier();
	return 0;
}

long mmn_syscall(long nr, long a0, long a1, long a2, long a3, long a4, long a5);

long mmn_syscall(long nr, long a0, long a1, long a2, long a3, long a4, long a5)
{
	long command = a1 & FUTEX_CMD_MASK;

	if (nr == __NR_rt_sigprocmask)
		return 0;
	/* Others go on meanwhile. */
	if (nr == __NR_nanosleep || nr == __NR_sched_yield) {
		ladder_spin();
		return 0;
	}
	if (nr == __NR_futex &&
	    (command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET))
		return futex_wait((uint64_t)a0, (uint32_t)a2, a3 != 0);
	if (nr == __NR_futex && command == FUTEX_WAKE)
		return futex_wake((uint64_t)a0, (uint32_t)a2);
	if (nr == __NR_membarrier)
		return membarrier(a0);
	if (nr == __NR_mmap && (a3 & MAP_ANONYMOUS))
		return (long)(uintptr_t)map((size_t)a1);
	if (nr == __NR_munmap) {
		memory_free((void *)(uintptr_t)a0);
		return 0;
	}
	engine_fail(LADDER_UNSUPPORTED, "system call %ld", nr);
	return -ENOSYS;
}

/* ------------------------------------------------------------------ */
/* The heap, and bytes                                                */
/* ------------------------------------------------------------------ */

void *ladder_malloc(size_t size)
{
	return memory_alloc(size, 16);
}

void *ladder_calloc(size_t nr, size_t size)
{
	void *p = memory_alloc(nr * size, 16);

	return p ? memset(p, 0, nr * size) : NULL;
}

void *ladder_aligned_alloc(size_t align, size_t size)
{
	return memory_alloc(size, align);
}

void ladder_free(void *p)
{
	memory_free(p);
}

void *ladder_memcpy(void *to, const void *from, size_t size)
{
	engine_plain((uintptr_t)from, size, false);
	engine_plain((uintptr_t)to, size, true);
	return memmove(to, from, size);
}

void *ladder_memmove(void *to, const void *from, size_t size)
{
	return ladder_memcpy(to, from, size);
}

void *ladder_memset(void *to, int byte, size_t size)
{
	engine_plain((uintptr_t)to, size, true);
	return memset(to, byte, size);
}

/* The library's memory for callbacks. */
void *mmn_callback_alloc(size_t size);
void *mmn_callback_zalloc(size_t size);
void mmn_callback_free(void *p);

void *mmn_callback_alloc(size_t size)
{
	return memory_alloc(size, 16);
}

void *mmn_callback_zalloc(size_t size)
{
	return ladder_calloc(1, size);
}

void mmn_callback_free(void *p)
{
	memory_free(p);
}

/* ------------------------------------------------------------------ */
/* The process: there is one, and it does not fork                    */
/* ------------------------------------------------------------------ */

extern uint32_t *mmn_process_word;
uint32_t mmn_process_adopt(void);

static uint32_t process_generation = 1;
uint32_t *mmn_process_word = &process_generation;

uint32_t mmn_process_adopt(void)
{
	return process_generation;
}

bool base_is_constant(uint64_t address)
{
	return address == (uintptr_t)&process_generation;
}

int ladder_clock_gettime(clockid_t clock, struct timespec *ret_now)
{
	(void)clock;
	*ret_now = (struct timespec){ .tv_sec = 1 };
	return 0;
}

/* ------------------------------------------------------------------ */
/* What the library's self-checks find                                */
/* ------------------------------------------------------------------ */

void mmn_bug_report(const char *file, uint32_t line, const char *function,
		    const char *text);

void mmn_bug_report(const char *file, uint32_t line, const char *function,
		    const char *text)
{
	ladder_assert_at(false, text, file, (int)line);
}
