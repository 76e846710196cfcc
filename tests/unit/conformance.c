/* SPDX-License-Identifier: MIT */
#include "unit/conformance.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"

/* --- journal -------------------------------------------------------------- */

static pthread_mutex_t journal_lock = PTHREAD_MUTEX_INITIALIZER;
static char journal_text[4096];
static size_t journal_length;

void journal_add_suffixed(const char *word, const char *suffix)
{
	size_t left;
	int n;

	pthread_mutex_lock(&journal_lock);
	left = sizeof(journal_text) - journal_length;
	n = snprintf(journal_text + journal_length, left, "%s%s%s",
		     journal_length ? " " : "", word, suffix);
	t_lt((size_t)n, left);
	journal_length += n;
	pthread_mutex_unlock(&journal_lock);
}

void journal_add(const char *word)
{
	journal_add_suffixed(word, "");
}

const char *journal(void)
{
	return journal_text;
}

void journal_clear(void)
{
	journal_length = 0;
	journal_text[0] = '\0';
}

/* --- counters ------------------------------------------------------------- */

/*
 * Acquire and release, so that a test may use a counter to learn that
 * something has happened and then look at what it left behind.
 */
unsigned int count_of(const uint32_t *counter)
{
	/*
	 * pair(test_counter): acquire, with the release in count_up().
	 * Without it a test sees the count and not what was done before.
	 */
	return mmn_load_acquire(counter);
}

void count_up(uint32_t *counter)
{
	/*
	 * pair(test_counter): release, with the acquire in count_of().
	 * Without it a test sees the count and not what was done before.
	 */
	mmn_fetch_add_release(counter, 1);
}

/* --- gates and threads ---------------------------------------------------- */

void gate_init(struct gate *gate)
{
	*gate = (struct gate)GATE_INITIALIZER;
}

void gate_pass(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->arrived++;
	pthread_cond_broadcast(&gate->changed);
	while (!gate->is_open)
		pthread_cond_wait(&gate->changed, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}

void gate_open(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->is_open = true;
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
}

void gate_wait_arrived(struct gate *gate, unsigned int count)
{
	pthread_mutex_lock(&gate->lock);
	while (gate->arrived < count)
		pthread_cond_wait(&gate->changed, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}

static void *actor_main(void *arg)
{
	struct actor *actor = arg;

	/* relaxed: whoever looks at the thread asks the kernel, not memory */
	mmn_store_relaxed(&actor->tid, (uint32_t)syscall(SYS_gettid));
	actor->run(actor->arg);
	count_up(&actor->is_done);
	return NULL;
}

void actor_start(struct actor *actor, void (*run)(void *arg), void *arg)
{
	actor->run = run;
	actor->arg = arg;
	actor->tid = 0;
	actor->is_done = 0;
	t_eq(pthread_create(&actor->thread, NULL, actor_main, actor), 0);
}

/* 'R', 'S', ... as the kernel has it; 0 when the thread is gone. */
static char thread_state(uint32_t tid)
{
	char path[64], line[512], *end;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%u/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	line[n] = '\0';
	end = strrchr(line, ')');
	return end ? end[2] : 0;
}

/*
 * Asleep in several looks in a row: a thread may also sleep for a moment on
 * its way, on a lock of the C library or of a sanitizer.
 */
void actor_expect_asleep(struct actor *actor)
{
	const struct timespec moment = { .tv_nsec = 500 * 1000 };
	unsigned int asleep = 0;

	while (asleep < 6) {
		/* relaxed: as in actor_main() */
		uint32_t tid = mmn_load_relaxed(&actor->tid);

		if (actor_is_done(actor))
			t_fail("the call returned, it should have waited");
		if (tid && thread_state(tid) == 'S')
			asleep++;
		else
			asleep = 0;
		nanosleep(&moment, NULL);
	}
	t_ok(!actor_is_done(actor));
}

bool actor_is_done(struct actor *actor)
{
	return count_of(&actor->is_done);
}

void actor_join(struct actor *actor)
{
	t_eq(pthread_join(actor->thread, NULL), 0);
}

static void reader_run(void *arg)
{
	struct reader *reader = arg;

	reader->seq = mmn_range_read_begin(reader->sub);
}

void reader_start(struct reader *reader,
		  const struct mmn_range_subscription *sub)
{
	reader->sub = sub;
	actor_start(&reader->actor, reader_run, reader);
}

void reader_expect_asleep(struct reader *reader)
{
	actor_expect_asleep(&reader->actor);
}

uint64_t reader_join(struct reader *reader)
{
	actor_join(&reader->actor);
	return reader->seq;
}

static void changer_run(void *arg)
{
	struct changer *changer = arg;

	changer->result = mmn_invalidate_start(&changer->desc);
}

void changer_start(struct changer *changer, struct mmn_state *state,
		   uintptr_t start, uintptr_t last)
{
	mmn_invalidate_desc_init(&changer->desc, state, MMN_EVENT_UNMAP, start,
				 last);
	actor_start(&changer->actor, changer_run, changer);
}

void changer_expect_asleep(struct changer *changer)
{
	actor_expect_asleep(&changer->actor);
}

int changer_join(struct changer *changer)
{
	actor_join(&changer->actor);
	return changer->result;
}

static void remover_run(void *arg)
{
	struct remover *remover = arg;

	remover->result = mmn_range_subscription_remove(remover->sub);
}

void remover_start(struct remover *remover, struct mmn_range_subscription *sub)
{
	remover->sub = sub;
	actor_start(&remover->actor, remover_run, remover);
}

void remover_expect_asleep(struct remover *remover)
{
	actor_expect_asleep(&remover->actor);
}

int remover_join(struct remover *remover)
{
	actor_join(&remover->actor);
	return remover->result;
}

/* --- driver --------------------------------------------------------------- */

static struct driver *driver_of(struct mmn_range_subscription *sub)
{
	return (struct driver *)((char *)sub - offsetof(struct driver, sub));
}

static bool driver_lock(struct driver *driver,
			const struct mmn_invalidate_desc *desc)
{
	if (driver->finds_it_locked)
		return true;
	if (driver->tries && !mmn_invalidate_is_blockable(desc))
		return pthread_mutex_trylock(&driver->lock) == 0;
	pthread_mutex_lock(&driver->lock);
	return true;
}

static void driver_unlock(struct driver *driver)
{
	if (!driver->finds_it_locked)
		pthread_mutex_unlock(&driver->lock);
}

/* The public members: other threads write the private ones meanwhile. */
static void remember(struct driver *driver,
		     const struct mmn_invalidate_desc *desc)
{
	driver->seen_at = desc;
	driver->seen.state = desc->state;
	driver->seen.start = desc->start;
	driver->seen.last = desc->last;
	driver->seen.event = desc->event;
	driver->seen.flags = desc->flags;
	driver->seen.owner = desc->owner;
}

/* What both forms of the callback do. */
static bool driver_told(struct driver *driver,
			const struct mmn_invalidate_desc *desc,
			uint64_t cur_seq)
{
	bool accepted;

	if (driver->hook)
		driver->hook(driver, desc);
	if (!driver_lock(driver, desc))
		return false;
	accepted = !driver->refuses;
	driver->calls++;
	remember(driver, desc);
	driver->cur_seq = cur_seq;
	if (!driver->filters && accepted) {
		mmn_range_set_seq(&driver->sub, cur_seq);
		driver->entry = false;
	}
	driver_unlock(driver);
	return accepted;
}

static bool driver_invalidate(struct mmn_range_subscription *sub,
			      const struct mmn_invalidate_desc *desc,
			      uint64_t cur_seq)
{
	struct driver *driver = driver_of(sub);

	if (driver->name)
		journal_add(driver->name);
	return driver_told(driver, desc, cur_seq);
}

static bool driver_invalidate_start(struct mmn_range_subscription *sub,
				    const struct mmn_invalidate_desc *desc,
				    uint64_t cur_seq,
				    struct mmn_range_finish **ret_finish)
{
	struct driver *driver = driver_of(sub);

	t_eq(*ret_finish, NULL);
	if (driver->name)
		journal_add_suffixed(driver->name, ".start");
	if (driver->wants_finish)
		*ret_finish = &driver->finish;
	return driver_told(driver, desc, cur_seq);
}

static void driver_invalidate_finish(struct mmn_range_finish *finish)
{
	struct driver *driver = driver_of(finish->sub);

	t_eq(finish, &driver->finish);
	if (driver->name)
		journal_add_suffixed(driver->name, ".finish");
	pthread_mutex_lock(&driver->lock);
	driver->finishes++;
	pthread_mutex_unlock(&driver->lock);
}

static void driver_released(struct mmn_range_subscription *sub)
{
	count_up(&driver_of(sub)->releases);
}

static const struct mmn_range_ops driver_ops = {
	.invalidate = driver_invalidate,
	.release = driver_released,
};

static const struct mmn_range_ops driver_two_pass_ops = {
	.invalidate_start = driver_invalidate_start,
	.invalidate_finish = driver_invalidate_finish,
	.release = driver_released,
};

static void driver_init_with(struct driver *driver, const char *name,
			     const struct mmn_range_ops *ops, const void *owner)
{
	struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = ops,
		.lock = mmn_driver_mutex(&driver->lock),
		.owner = owner,
	};

	memset(driver, 0, sizeof(*driver));
	driver->name = name;
	t_eq(pthread_mutex_init(&driver->lock, NULL), 0);
	t_err(mmn_range_subscription_init(&driver->sub, &config), 0);
}

void driver_init(struct driver *driver, const char *name)
{
	driver_init_with(driver, name, &driver_ops, NULL);
}

void driver_init_two_pass(struct driver *driver, const char *name)
{
	driver_init_with(driver, name, &driver_two_pass_ops, NULL);
	driver->wants_finish = true;
}

void driver_init_owned(struct driver *driver, const char *name,
		       const void *owner)
{
	driver_init_with(driver, name, &driver_ops, owner);
}

void driver_insert(struct driver *driver, struct mmn_state *state,
		   uintptr_t start, uintptr_t last)
{
	t_err(mmn_range_subscription_insert(&driver->sub, state, start, last),
	      0);
}

void driver_add(struct driver *driver, const char *name,
		struct mmn_state *state, uintptr_t start, uintptr_t last)
{
	driver_init(driver, name);
	driver_insert(driver, state, start, last);
}

void driver_remove(struct driver *driver)
{
	t_err(mmn_range_subscription_remove(&driver->sub), 0);
}

unsigned int driver_calls(struct driver *driver)
{
	unsigned int calls;

	pthread_mutex_lock(&driver->lock);
	calls = driver->calls;
	driver->calls = 0;
	pthread_mutex_unlock(&driver->lock);
	return calls;
}

bool driver_retry(struct driver *driver, uint64_t seq)
{
	bool retry;

	pthread_mutex_lock(&driver->lock);
	retry = mmn_range_read_retry(&driver->sub, seq);
	pthread_mutex_unlock(&driver->lock);
	return retry;
}

bool driver_install(struct driver *driver, uint64_t seq)
{
	bool installed;

	pthread_mutex_lock(&driver->lock);
	installed = !mmn_range_read_retry(&driver->sub, seq);
	if (installed)
		driver->entry = true;
	pthread_mutex_unlock(&driver->lock);
	return installed;
}

bool driver_has_entry(struct driver *driver)
{
	bool entry;

	pthread_mutex_lock(&driver->lock);
	entry = driver->entry;
	pthread_mutex_unlock(&driver->lock);
	return entry;
}

uint64_t begin(struct driver *driver)
{
	uint64_t seq = mmn_range_read_begin(&driver->sub);

	t_ok(seq & 1);
	return seq;
}

bool must_wait(struct driver *driver)
{
	uint64_t seq = 0;
	int err = mmn_range_read_begin_try(&driver->sub, &seq);

	if (err) {
		t_err(err, -EAGAIN);
		t_eq(seq, 0);
	} else {
		t_ok(seq & 1);
	}
	return err;
}

/* --- changes -------------------------------------------------------------- */

struct mmn_state *new_state(void)
{
	static bool is_known;
	struct mmn_state *state = NULL;

	if (!is_known)
		t_may_keep_mapped(8u << 20, "memory for callbacks is kept");
	is_known = true;
	t_err(mmn_state_create(&state), 0);
	t_ne(state, NULL);
	return state;
}

void change_open(struct mmn_invalidate_desc *desc, struct mmn_state *state,
		 uintptr_t start, uintptr_t last)
{
	mmn_invalidate_desc_init(desc, state, MMN_EVENT_UNMAP, start, last);
	t_err(mmn_invalidate_start(desc), 0);
}

void change_end(struct mmn_invalidate_desc *desc)
{
	t_err(mmn_invalidate_end(desc), 0);
}

void change(struct mmn_state *state, uintptr_t start, uintptr_t last)
{
	struct mmn_invalidate_desc desc;

	change_open(&desc, state, start, last);
	change_end(&desc);
}

int change_open_nonblock(struct mmn_invalidate_desc *desc,
			 struct mmn_state *state, uintptr_t start,
			 uintptr_t last)
{
	mmn_invalidate_desc_init(desc, state, MMN_EVENT_UNMAP, start, last);
	return mmn_invalidate_start_nonblock(desc);
}

/* --- classic subscribers -------------------------------------------------- */

static struct classic *classic_of(struct mmn_subscription *sub)
{
	return (struct classic *)((char *)sub - offsetof(struct classic, sub));
}

static void classic_release(struct mmn_subscription *sub,
			    struct mmn_state *state)
{
	count_up(&classic_of(sub)->releases);
}

static int classic_start(struct mmn_subscription *sub,
			 const struct mmn_invalidate_desc *desc)
{
	struct classic *classic = classic_of(sub);

	if (classic->name)
		journal_add_suffixed(classic->name, ".start");
	if (classic->hook)
		classic->hook(classic, desc);
	count_up(&classic->starts);
	return classic->answer;
}

static void classic_end(struct mmn_subscription *sub,
			const struct mmn_invalidate_desc *desc)
{
	struct classic *classic = classic_of(sub);

	if (classic->name)
		journal_add_suffixed(classic->name, ".end");
	count_up(&classic->ends);
}

const struct mmn_subscription_ops classic_ops = {
	.release = classic_release,
	.invalidate_range_start = classic_start,
	.invalidate_range_end = classic_end,
};

const struct mmn_subscription_ops classic_refusing_ops = {
	.release = classic_release,
	.invalidate_range_start = classic_start,
};

void classic_init(struct classic *classic, const char *name,
		  const struct mmn_subscription_ops *ops)
{
	memset(classic, 0, sizeof(*classic));
	classic->name = name;
	classic->sub.ops = ops;
}

void classic_add(struct classic *classic, const char *name,
		 const struct mmn_subscription_ops *ops,
		 struct mmn_state *state)
{
	classic_init(classic, name, ops);
	t_err(mmn_subscription_register(&classic->sub, state), 0);
}
