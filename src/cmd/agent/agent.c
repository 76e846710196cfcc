/* SPDX-License-Identifier: MIT */
/*
 * The agent's beginning in a process, and what runs in the program's threads.
 *
 * Whatever fails here, the program runs on as if nothing had been loaded, and
 * the slot says why.  Descriptors that are opened here are closed again before
 * main() begins.
 */
#include "agent.h"

#include <mmn/debug.h>
#include <mmn/inject.h>
#include <mmn/memory.h>
#ifdef MMN_AGENT_URING
#include <mmn/uring-device.h>
#endif

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Room for whatever the library does on it, and no more. */
#define STACK_BYTES ((size_t)256 << 10)

#define ARENA_BYTES ((size_t)512 << 10)

static struct area_slot spare;

struct agent agent = { .slot = &spare, .area_fd = -1 };
__thread bool in_agent;
__thread bool met_mirror;

/* ------------------------------------------------------------------ */
/* In the program's threads                                           */
/* ------------------------------------------------------------------ */

static void remember(const struct mmn_call_event *event)
{
	/* relaxed: only who writes which entry */
	uint64_t nr = mmn_fetch_add_relaxed(&agent.nr_recent, 1);
	struct recent *entry = &agent.recent[nr % RECENT];

	/*
	 * Not atomic as a whole: the reader takes it as a hint where to look,
	 * and the kernel says what is there.
	 */
	entry->call = event->call;
	entry->start = event->start;
	entry->last = event->last;
	entry->ns = raw_now();
}

static void observe(void *arg, const struct mmn_call_event *event)
{
	struct area_slot *slot = agent.slot;
	bool met = met_mirror;

	met_mirror = false;
	if (in_agent) {
		area_count(&slot->play_changes, event->call != MMN_CALL_MAP);
		return;
	}
	if (event->call < AREA_CALLS)
		area_count(&slot->calls[event->call], 1);
	if (event->call == MMN_CALL_FORK && event->result > 0)
		area_count(&slot->forks, 1);
	if (met) {
		area_count(&slot->hits, 1);
		area_count(&slot->held_ns, event->ns);
		area_count(&slot->latency[area_bucket(event->ns)], 1);
		area_raise(&slot->latency_max, event->ns);
	}
	if (event->call != MMN_CALL_FORK && event->call != MMN_CALL_EXEC)
		remember(event);
}

/* A copy of the process counts for nobody: the parent owns the slot. */
static void in_child(void)
{
	agent.slot = &spare;
}

/* Misuse inside the library must not end somebody else's program. */
static void note_misuse(const struct mmn_debug_report *report)
{
	struct line line = { agent.slot->remark, sizeof(agent.slot->remark),
			     0 };

	if (*agent.slot->remark)
		return;
	line_add(&line, "libmmn reports misuse: ");
	line_add(&line, report->function);
	line_add(&line, ": ");
	line_add(&line, report->text);
}

/* ------------------------------------------------------------------ */
/* System call filters                                                */
/* ------------------------------------------------------------------ */

/*
 * A program that is about to forbid itself system calls may be killed for one
 * that the agent makes.  So the agent withdraws first: whoever installs a filter
 * through libc comes by here.
 */
static void withdraw(void)
{
	if (!agent.is_running || in_agent ||
	    raw_syscall(__NR_getpid, 0, 0, 0, 0, 0, 0) != agent.pid)
		return;
	meet_ask_silence();
}

int prctl(int option, unsigned long a, unsigned long b, unsigned long c,
	  unsigned long d);

__attribute__((visibility("default"))) int prctl(int option, unsigned long a,
						 unsigned long b,
						 unsigned long c,
						 unsigned long d)
{
	long ret;

	if (option == PR_SET_SECCOMP)
		withdraw();
	ret = raw_syscall(__NR_prctl, option, (long)a, (long)b, (long)c,
			  (long)d, 0);
	if (ret < 0) {
		errno = (int)-ret;
		return -1;
	}
	return (int)ret;
}

#ifdef __x86_64__
/* Until libc's own is known: constructors may call it before ours has run. */
static long early_syscall(long nr, long a, long b, long c, long d, long e,
			  long f)
{
	long ret = raw_syscall(nr, a, b, c, d, e, f);

	if ((unsigned long)ret > -4096UL) {
		errno = (int)-ret;
		return -1;
	}
	return ret;
}

__attribute__((used, visibility("hidden"))) void *agent_next_syscall =
	(void *)early_syscall;
__attribute__((used, visibility("hidden"))) void agent_before_filter(void);
void agent_before_filter(void)
{
	withdraw();
}

_Static_assert(__NR_seccomp == 317, "the number in the code below");

/* syscall() of libc with one question before it; the rest passes through. */
__asm__(".text\n"
	".globl syscall\n"
	".type syscall, @function\n"
	"syscall:\n"
	"	cmpq	$317, %rdi\n"
	"	je	1f\n"
	"0:	jmp	*agent_next_syscall(%rip)\n"
	"1:	pushq	%rdi\n"
	"	pushq	%rsi\n"
	"	pushq	%rdx\n"
	"	pushq	%rcx\n"
	"	pushq	%r8\n"
	"	pushq	%r9\n"
	"	subq	$8, %rsp\n"
	"	call	agent_before_filter\n"
	"	addq	$8, %rsp\n"
	"	popq	%r9\n"
	"	popq	%r8\n"
	"	popq	%rcx\n"
	"	popq	%rdx\n"
	"	popq	%rsi\n"
	"	popq	%rdi\n"
	"	jmp	0b\n"
	".size syscall, .-syscall\n");
#endif

/* ------------------------------------------------------------------ */
/* The beginning                                                      */
/* ------------------------------------------------------------------ */

static bool lock_slot(int fd, unsigned int nr, short how)
{
	struct flock lock = {
		.l_type = how,
		.l_whence = SEEK_SET,
		.l_start = nr,
		.l_len = 1,
	};

	return !fcntl(fd, F_OFD_SETLK, &lock);
}

static bool take_slot(void)
{
	struct area_slot *slot;
	unsigned int round, i;

	for (round = 0; round < 20; round++) {
		for (i = 0; i < AREA_SLOTS; i++) {
			slot = &agent.area->slots[i];
			if (slot->state != SLOT_FREE ||
			    !lock_slot(agent.area_fd, i, F_WRLCK))
				continue;
			/* Again: it may have been taken and left meanwhile. */
			if (slot->state == SLOT_FREE) {
				agent.slot = slot;
				return true;
			}
			lock_slot(agent.area_fd, i, F_UNLCK);
		}
		/* mmn run frees the slots of processes that have ended. */
		usleep(10000);
	}
	area_count(&agent.area->header.overflow, 1);
	return false;
}

static bool open_area(const char *path)
{
	struct area *area;

	agent.area_fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (agent.area_fd < 0)
		return false;
	if (lseek(agent.area_fd, 0, SEEK_END) != sizeof(*area))
		goto fail;
	area = mmap(NULL, sizeof(*area), PROT_READ | PROT_WRITE, MAP_SHARED,
		    agent.area_fd, 0);
	if (area == MAP_FAILED)
		goto fail;
	if (area->header.magic == AREA_MAGIC &&
	    area->header.slot_bytes == sizeof(struct area_slot)) {
		agent.area = area;
		return true;
	}
	munmap(area, sizeof(*area));
fail:
	close(agent.area_fd);
	agent.area_fd = -1;
	return false;
}

static void name_slot(void)
{
	struct area_slot *slot = agent.slot;

	/* Its last owner may have died before it said anything. */
	memset(slot, 0, sizeof(*slot));
	agent.pid = getpid();
	slot->pid = (uint32_t)agent.pid;
	slot->begin_ns = raw_now();
	slot->end_ns = slot->begin_ns;
	set_text(slot->name, sizeof(slot->name), program_invocation_short_name);
}

/* The state last: it makes the slot visible. */
static void fail_slot(const char *why, int error)
{
	if (error)
		set_error(agent.slot->reason, sizeof(agent.slot->reason), why,
			  error);
	else
		set_text(agent.slot->reason, sizeof(agent.slot->reason), why);
	agent.slot->state = SLOT_NOT_FOLLOWED;
}

static void arm_break(void)
{
	static const uint32_t points[NR_BREAKS] = {
		[BREAK_NO_RETRY] = MMN_INJECT_RETRY_SKIP,
		[BREAK_NO_SEQ] = MMN_INJECT_SEQ_SKIP,
		[BREAK_DROP_EVENTS] = MMN_INJECT_EVENT_LOST,
		[BREAK_END_EARLY] = MMN_INJECT_END_EARLY,
	};
	uint32_t what = agent.area->header.want_break;

	if (what == BREAK_NOTHING || what >= NR_BREAKS)
		return;
	mmn_inject_set(points[what], what == BREAK_DROP_EVENTS ? 4 : 1, 1);
	/* A pause between such an end and the change gives others a chance. */
	if (what == BREAK_END_EARLY)
		mmn_inject_set(MMN_INJECT_DELAY, 1, 1);
}

static bool start_intercept(void)
{
	struct mmn_intercept_options options = {
		.size = sizeof(options),
		.observe = observe,
		.observe_calls = (1u << MMN_NR_CALLS) - 1,
	};
	struct mmn_intercept_report report = { .size = sizeof(report) };
	struct area_slot *slot = agent.slot;
	int ret;

	ret = mmn_state_create(&agent.state);
	if (ret) {
		fail_slot("no memory for a state", ret);
		return false;
	}
	ret = mmn_intercept_start(agent.state, &options, &report);
	if (ret) {
		fail_slot("changes cannot be intercepted", ret);
		mmn_state_put(agent.state);
		agent.state = NULL;
		return false;
	}
	slot->install_ns = report.install_ns;
	slot->nr_found = report.nr_found;
	slot->nr_patched = report.nr_patched;
	slot->nr_refused = report.nr_refused;
	slot->nr_unknown = report.nr_unknown;
	memcpy(slot->self_check, report.check, sizeof(slot->self_check));
	return true;
}

static uint64_t pin_limit(void)
{
	uint64_t budget = agent.area->header.budget;
	struct rlimit limit;

	/* Half of what the user may lock: the program may want some, too. */
	if (geteuid() && !getrlimit(RLIMIT_MEMLOCK, &limit) &&
	    limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur / 2 < budget)
		budget = limit.rlim_cur / 2;
	return budget;
}

#ifdef MMN_AGENT_URING
static int make_uring(void)
{
	struct mmn_uring_config config = {
		.size = sizeof(config),
		.nr_maps = 1024,
		.queue_depth = QUEUE + 8,
		.max_pinned = pin_limit(),
	};

	return mmn_uring_device_create(&config, &agent.device);
}
#else
static int make_uring(void)
{
	return -ENOSYS;
}
#endif

static int make_device(void)
{
	struct area_slot *slot = agent.slot;
	int ret;

	agent.budget = pin_limit();
	if (!agent.area->header.want_soft) {
		ret = make_uring();
		if (!ret)
			goto out;
		set_error(slot->remark, sizeof(slot->remark),
			  "io_uring is refused, the device is in software",
			  ret);
	}
	ret = mmn_soft_device_create(NULL, &agent.device);
	if (ret)
		return ret;
out:
	/* Either kind has one thread of its own. */
	threads_leave_out(1);
	set_text(slot->device, sizeof(slot->device), agent.device->ops->name);
	return 0;
}

static int make_thread(void)
{
	sigset_t all, before;
	pthread_attr_t attr;
	pthread_t thread;
	int ret;

	ret = pthread_attr_init(&attr);
	if (ret)
		return -ret;
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	/* The signals that libc itself uses stay open: setuid() needs them. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = pthread_create(&thread, &attr, policy_main, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (!ret)
		threads_leave_out(1);
	return -ret;
}

static void follow(void)
{
	struct area_slot *slot = agent.slot;
	int ret;

	/* A filter that this process inherited may kill for what we do. */
	if (raw_syscall(__NR_prctl, PR_GET_SECCOMP, 0, 0, 0, 0, 0) ==
		    SECCOMP_MODE_FILTER &&
	    !agent.area->header.filtered) {
		fail_slot("it inherited a system call filter", 0);
		return;
	}
	mmn_debug_set_handler(note_misuse);
	own_before();
	threads_find();
	arm_break();
	/* All that the cache will need, so that no more is mapped later. */
	if (mmn_callback_reserve(ARENA_BYTES)) {
		fail_slot("no memory", -ENOMEM);
		return;
	}
	if (!start_intercept())
		return;
	ret = agent_must_stop() ? 0 : make_device();
	if (ret) {
		fail_slot("no device", ret);
		return;
	}
	slot->state = SLOT_FOLLOWED;
	ret = make_thread();
	if (ret) {
		fail_slot("no thread", ret);
		return;
	}
	agent.is_running = meet_await_thread();
	own_after();
	meet_let_go();
}

#ifdef __x86_64__
static void find_next_syscall(void)
{
	void *next = dlsym(RTLD_NEXT, "syscall");

	if (next)
		agent_next_syscall = next;
}
#else
static void find_next_syscall(void)
{
}
#endif

__attribute__((constructor)) static void agent_begin(void)
{
	const char *path = getenv(AREA_ENV);
	int saved = errno;

	find_next_syscall();
	if (!path || !open_area(path))
		goto out;
	if (take_slot()) {
		name_slot();
		pthread_atfork(NULL, NULL, in_child);
		follow();
		/*
		 * Without a thread nobody keeps the slot, and nobody can be
		 * asked for silence.
		 */
		if (!agent.is_running) {
			mmn_intercept_stop();
			agent.slot = &spare;
		}
	}
	close(agent.area_fd);
	agent.area_fd = -1;
out:
	errno = saved;
}

/* The normal end; processes that end otherwise show their last sign of life. */
__attribute__((destructor)) static void agent_end(void)
{
	if (agent.slot != &spare)
		agent.slot->end_ns = raw_now();
}
