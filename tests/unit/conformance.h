/* SPDX-License-Identifier: MIT */
#ifndef UNIT_CONFORMANCE_H
#define UNIT_CONFORMANCE_H
/*
 * What the conformance tests share: a driver that keeps the contract and
 * counts what it is told, a journal of who was called in which order, and
 * threads that can be stepped.
 *
 * No test measures time.  That a thread waits is found out by looking at it
 * until it sleeps inside the call; that a call returns at once is shown by
 * making it in a place where waiting would be for ever, and the runner's time
 * limit turns that into a failure.
 *
 * The tests carry the numbers of the cases of the specification they come
 * from: "case 43".
 */
#include <pthread.h>
#include <sys/types.h>

#include <mmn/debug.h>
#include <mmn/notifier.h>

#include "t/tap.h"

/* The whole address space. */
#define EVERYTHING 0, UINTPTR_MAX

/* Announce a misuse report, in builds that make any. */
#define report_expected(text)                 \
	do {                                  \
		if (mmn_debug_is_enabled())   \
			t_bug_expected(text); \
	} while (0)

/* --- what happened, in order ---------------------------------------------- */

/* Append a word; words are separated by spaces. */
void journal_add(const char *word);
void journal_add_suffixed(const char *word, const char *suffix);
/* The text so far; valid while nobody writes. */
const char *journal(void);
void journal_clear(void);

/* --- threads that can be stepped ------------------------------------------ */

/* A place where threads stop until it is opened, for good. */
struct gate {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned int arrived;
	bool is_open;
};

#define GATE_INITIALIZER                                                      \
	{                                                                     \
		PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false \
	}

void gate_init(struct gate *gate);
void gate_pass(struct gate *gate);
void gate_open(struct gate *gate);
/* Wait until @count threads have come to the gate. */
void gate_wait_arrived(struct gate *gate, unsigned int count);

/* A thread that makes one call. */
struct actor {
	pthread_t thread;
	void (*run)(void *arg);
	void *arg;
	/* atomic: the thread's id once the call has begun, else 0 */
	uint32_t tid;
	/* atomic: 1 when the call has returned */
	uint32_t is_done;
};

void actor_start(struct actor *actor, void (*run)(void *arg), void *arg);
/* Wait until the thread sleeps in its call; fail when the call returns. */
void actor_expect_asleep(struct actor *actor);
bool actor_is_done(struct actor *actor);
void actor_join(struct actor *actor);

/* A thread in mmn_range_read_begin(). */
struct reader {
	struct actor actor;
	const struct mmn_range_subscription *sub;
	uint64_t seq;
};

void reader_start(struct reader *reader,
		  const struct mmn_range_subscription *sub);
void reader_expect_asleep(struct reader *reader);
/* What read_begin returned. */
uint64_t reader_join(struct reader *reader);

/* A thread in mmn_invalidate_start(). */
struct changer {
	struct actor actor;
	struct mmn_invalidate_desc desc;
	int result;
};

void changer_start(struct changer *changer, struct mmn_state *state,
		   uintptr_t start, uintptr_t last);
void changer_expect_asleep(struct changer *changer);
/* What start returned; the change is open. */
int changer_join(struct changer *changer);

/* A thread in mmn_range_subscription_remove(). */
struct remover {
	struct actor actor;
	struct mmn_range_subscription *sub;
	int result;
};

void remover_start(struct remover *remover, struct mmn_range_subscription *sub);
void remover_expect_asleep(struct remover *remover);
int remover_join(struct remover *remover);

/* --- a driver ------------------------------------------------------------- */

struct driver;
typedef void driver_hook(struct driver *driver,
			 const struct mmn_invalidate_desc *desc);

struct driver {
	struct mmn_range_subscription sub;
	/* The word for the journal; NULL: do not write there. */
	const char *name;
	pthread_mutex_t lock;

	/*
	 * How it behaves; written while no callback can run.
	 */

	/* Runs first in the callback, without the lock. */
	driver_hook *hook;
	void *arg;
	/* Finds that the change does not concern it: no set_seq. */
	bool filters;
	/* Says no to everything. */
	bool refuses;
	/* Says no when the lock is taken and the change is not blockable. */
	bool tries;
	/* The thread that makes the change has the lock already. */
	bool finds_it_locked;
	/* Two passes: asks for the second. */
	bool wants_finish;
	struct mmn_range_finish finish;

	/*
	 * lock: what it was told.
	 */
	unsigned int calls;
	unsigned int finishes;
	uint64_t cur_seq;
	struct mmn_invalidate_desc seen;
	const struct mmn_invalidate_desc *seen_at;
	/* lock: the one entry of its shadow table */
	bool entry;

	/* atomic: calls of ops->release */
	uint32_t releases;
};

void driver_init(struct driver *driver, const char *name);
/* With invalidate_start and invalidate_finish. */
void driver_init_two_pass(struct driver *driver, const char *name);
void driver_init_owned(struct driver *driver, const char *name,
		       const void *owner);
/* init and insert */
void driver_add(struct driver *driver, const char *name,
		struct mmn_state *state, uintptr_t start, uintptr_t last);
void driver_insert(struct driver *driver, struct mmn_state *state,
		   uintptr_t start, uintptr_t last);
void driver_remove(struct driver *driver);

/* How often the callback ran since the last question. */
unsigned int driver_calls(struct driver *driver);

/* read_retry with the lock held. */
bool driver_retry(struct driver *driver, uint64_t seq);
/* read_retry and, if it may, the install, as one step. */
bool driver_install(struct driver *driver, uint64_t seq);
bool driver_has_entry(struct driver *driver);

/* read_begin in a place where it must not wait. */
uint64_t begin(struct driver *driver);
/* Does an overlapping change hold readers back? */
bool must_wait(struct driver *driver);

/* --- changes -------------------------------------------------------------- */

struct mmn_state *new_state(void);

void change_open(struct mmn_invalidate_desc *desc, struct mmn_state *state,
		 uintptr_t start, uintptr_t last);
void change_end(struct mmn_invalidate_desc *desc);
/* Open and end. */
void change(struct mmn_state *state, uintptr_t start, uintptr_t last);
/* Not blockable; when it is refused it is closed already. */
int change_open_nonblock(struct mmn_invalidate_desc *desc,
			 struct mmn_state *state, uintptr_t start,
			 uintptr_t last);

/* --- a classic subscriber ------------------------------------------------- */

struct classic {
	struct mmn_subscription sub;
	const char *name;
	/* What the start op returns. */
	int answer;
	/* Runs first in every start, without any lock. */
	void (*hook)(struct classic *classic,
		     const struct mmn_invalidate_desc *desc);
	void *arg;
	/* atomic */
	uint32_t starts, ends, releases;
};

/* release, start and end */
extern const struct mmn_subscription_ops classic_ops;
/* release and start: one that can refuse has no end */
extern const struct mmn_subscription_ops classic_refusing_ops;

void classic_init(struct classic *classic, const char *name,
		  const struct mmn_subscription_ops *ops);
void classic_add(struct classic *classic, const char *name,
		 const struct mmn_subscription_ops *ops,
		 struct mmn_state *state);

/* Atomic counters of the tests. */
unsigned int count_of(const uint32_t *counter);
void count_up(uint32_t *counter);

#endif
