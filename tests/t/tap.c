/* SPDX-License-Identifier: MIT */
/*
 * The test runner, see tap.h.
 *
 * Each test runs in a child process.  What the child finds out it writes into
 * one shared page, struct verdict, so that an expectation that fails in a
 * thread or in a grandchild counts as well.  The parent sleeps until the child
 * ends or its time is up, kills whatever the test left running, and turns the
 * verdict into one TAP line.
 *
 *	runner                          test process
 *	------                          ------------
 *	fork ------------------------>  snapshot descriptors, mappings
 *	poll(pidfd, time limit)         the test
 *	                                compare with the snapshot
 *	                                verdict->state = PASSED
 *	waitpid <---------------------  _exit
 *	kill the process group
 *	ok | not ok
 *
 * Mappings can only be counted when nobody caches them.  glibc keeps the
 * stacks of threads that ended; the runner therefore executes itself once more
 * with that cache switched off.  Sanitizers and valgrind map memory of their
 * own: there descriptors are checked and mappings are not.
 */
#include "t/tap.h"

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <mmn/debug.h>
#include <mmn/memory.h>

#include "base/atomic.h"

/* In a build with the leak sanitizer: true when memory was lost. */
__attribute__((weak)) int __lsan_do_recoverable_leak_check(void);

enum state { RUNNING, PASSED, SKIPPED, FAILED };

enum { MAX_EXPECTED_BUGS = 16, MAX_RANGES = 8192, MAX_DESCRIPTORS = 1024 };

struct verdict {
	/* atomic: threads and children of the test write it. */
	uint32_t state;
	uint32_t nr_expectations;
	/* Written by the thread that skips the test. */
	char skip_reason[256];
};

struct range {
	uintptr_t start, end;
	bool counts;
	char what[96];
};

struct ranges {
	size_t nr;
	struct range at[MAX_RANGES];
};

struct descriptors {
	unsigned char open[MAX_DESCRIPTORS];
};

static struct t_test *tests;
static const char *program;
static struct verdict *verdict;
/* The process that runs the test; its children share the verdict. */
static pid_t test_process;
/* The test runs in the runner itself; nobody else reports a failure. */
static bool runs_here;
static bool in_debugger;

/* Of the running test. */
static const char *expected_bugs[MAX_EXPECTED_BUGS];
static uint32_t bugs_seen_mask;
static unsigned int nr_expected_bugs;
static size_t may_keep_bytes;
static size_t callback_bytes_before;
static size_t arena_bytes_before;
static unsigned int may_keep_descriptors;

/* Static, because a snapshot must not change what it takes a picture of. */
static struct ranges ranges_before, ranges_after;
static struct descriptors descriptors_before, descriptors_after;

static bool stands_before(const struct t_test *a, const struct t_test *b)
{
	int files = strcmp(a->file, b->file);

	return files ? files < 0 : a->line < b->line;
}

/* Constructors run in any order: link-time optimisation turns it round. */
void t_register(struct t_test *test)
{
	struct t_test **at = &tests;

	while (*at && stands_before(*at, test))
		at = &(*at)->next;
	test->next = *at;
	*at = test;
}

__attribute__((format(printf, 1, 0))) static void note_va(const char *format,
							  va_list args)
{
	char line[1024] = "# ";
	int n = vsnprintf(line + 2, sizeof(line) - 3, format, args) + 2;

	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	for (int i = 0; i < n; i++)
		if (line[i] == '\n')
			line[i] = ' ';
	line[n] = '\n';
	/* One write, so that lines of several threads do not mix. */
	if (write(STDOUT_FILENO, line, n + 1) < 0)
		return;
}

void t_note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	note_va(format, args);
	va_end(args);
}

/* The first to end the test decides how it ended. */
static void conclude(enum state state)
{
	uint32_t running = RUNNING;

	/* relaxed: the parent reads after waitpid(), which orders everything */
	mmn_cmpxchg_relaxed(&verdict->state, &running, state);
}

__attribute__((noreturn)) static void leave(enum state state)
{
	if (in_debugger && state == FAILED)
		raise(SIGTRAP);
	if (runs_here && getpid() == test_process)
		puts(state == FAILED ? "not ok 1" : "ok 1 # SKIP");
	fflush(NULL);
	/* What was covered is written at an exit in good order only. */
	if (T_COVERAGE)
		exit(state == FAILED);
	_exit(state == FAILED);
}

void t_skip(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(verdict->skip_reason, sizeof(verdict->skip_reason), format,
		  args);
	va_end(args);
	conclude(SKIPPED);
	leave(SKIPPED);
}

void t_fail_at(const char *file, int line, const char *format, ...)
{
	char where[512];
	va_list args;

	snprintf(where, sizeof(where), "%s:%d: ", file, line);
	va_start(args, format);
	vsnprintf(where + strlen(where), sizeof(where) - strlen(where), format,
		  args);
	va_end(args);
	t_note("%s", where);
	conclude(FAILED);
	leave(FAILED);
}

static void count_expectation(void)
{
	/* relaxed: a count, read after the test's end */
	mmn_fetch_add_relaxed(&verdict->nr_expectations, 1);
}

void t_ok_at(bool ok, const char *file, int line, const char *expr)
{
	count_expectation();
	if (!ok)
		t_fail_at(file, line, "does not hold: %s", expr);
}

static bool is_negative(struct t_value v)
{
	return v.kind == T_SIGNED && (int64_t)v.bits < 0;
}

/* -1, 0, 1 as @a is less than, equal to, greater than @b. */
static int order(struct t_value a, struct t_value b)
{
	if (is_negative(a) != is_negative(b))
		return is_negative(a) ? -1 : 1;
	return a.bits < b.bits ? -1 : a.bits > b.bits;
}

static bool holds(struct t_value a, const char *op, struct t_value b)
{
	int o = order(a, b);

	switch (op[0]) {
	case '=':
		return o == 0;
	case '!':
		return o != 0;
	case '<':
		return op[1] ? o <= 0 : o < 0;
	default:
		return op[1] ? o >= 0 : o > 0;
	}
}

static void value_text(char *buf, size_t size, struct t_value v)
{
	if (v.kind == T_POINTER)
		snprintf(buf, size, "%#llx", (unsigned long long)v.bits);
	else if (is_negative(v))
		snprintf(buf, size, "%lld", (long long)v.bits);
	else
		snprintf(buf, size, "%llu (%#llx)", (unsigned long long)v.bits,
			 (unsigned long long)v.bits);
}

void t_compare_at(struct t_value a, const char *op, struct t_value b,
		  const char *file, int line, const char *a_text,
		  const char *b_text)
{
	char left[64], right[64];

	count_expectation();
	if (holds(a, op, b))
		return;
	value_text(left, sizeof(left), a);
	value_text(right, sizeof(right), b);
	t_fail_at(file, line, "expected %s %s %s, left is %s, right is %s",
		  a_text, op, b_text, left, right);
}

static void errno_text(char *buf, size_t size, long value)
{
	const char *name = NULL;

	if (value < 0 && value > -4096)
		name = strerrorname_np(-value);
	if (name)
		snprintf(buf, size, "-%s", name);
	else
		snprintf(buf, size, "%ld", value);
}

void t_err_at(long got, long want, const char *file, int line, const char *expr)
{
	char got_text[32], want_text[32];

	count_expectation();
	if (got == want)
		return;
	errno_text(got_text, sizeof(got_text), got);
	errno_text(want_text, sizeof(want_text), want);
	t_fail_at(file, line, "%s returned %s, expected %s", expr, got_text,
		  want_text);
}

void t_streq_at(const char *a, const char *b, const char *file, int line,
		const char *a_text, const char *b_text)
{
	count_expectation();
	if (a && b ? strcmp(a, b) == 0 : a == b)
		return;
	t_fail_at(file, line,
		  "expected %s == %s, left is \"%s\", right is \"%s\"", a_text,
		  b_text, a ? a : "(null)", b ? b : "(null)");
}

void t_memeq_at(const void *a, const void *b, size_t n, const char *file,
		int line, const char *a_text, const char *b_text)
{
	const unsigned char *left = a, *right = b;

	count_expectation();
	for (size_t i = 0; i < n; i++)
		if (left[i] != right[i])
			t_fail_at(file, line,
				  "%s and %s differ at byte %zu of %zu: "
				  "%#x and %#x",
				  a_text, b_text, i, n, left[i], right[i]);
}

void t_may_keep_mapped(size_t bytes, const char *why)
{
	t_note("may keep %zu bytes mapped: %s", bytes, why);
	may_keep_bytes += bytes;
}

void t_may_keep_open(unsigned int count, const char *why)
{
	t_note("may keep %u descriptors open: %s", count, why);
	may_keep_descriptors += count;
}

/* --- misuse reports ------------------------------------------------------ */

unsigned int t_size(unsigned int usual, unsigned int full)
{
	return getenv("T_FULL") ? full : usual;
}

bool t_is_emulated(void)
{
	return getenv("T_EMULATED");
}

void t_need_kernel(const char *why)
{
	if (t_is_emulated())
		t_skip("emulated: %s", why);
}

void t_need_selfcheck(void)
{
	if (!mmn_debug_is_enabled())
		t_skip("only selfcheck builds report misuse");
}

void t_bug_expected(const char *text)
{
	t_need_selfcheck();
	if (nr_expected_bugs == MAX_EXPECTED_BUGS)
		t_fail("more than %d misuse reports announced",
		       MAX_EXPECTED_BUGS);
	expected_bugs[nr_expected_bugs++] = text;
}

unsigned int t_bugs_seen(void)
{
	/* relaxed: a hint for a test that waits for a report */
	return __builtin_popcount(mmn_load_relaxed(&bugs_seen_mask));
}

void t_bug_report(const char *text)
{
	for (unsigned int i = 0; i < nr_expected_bugs; i++) {
		uint32_t bit = 1u << i;

		if (!strstr(text, expected_bugs[i]))
			continue;
		/* relaxed: each bit stands for itself */
		if (mmn_fetch_or_relaxed(&bugs_seen_mask, bit) & bit)
			continue;
		count_expectation();
		return;
	}
	t_fail("misuse reported: %s", text);
}

static void hear_report(const struct mmn_debug_report *report)
{
	t_bug_report(report->text);
}

static void check_bugs(void)
{
	for (unsigned int i = 0; i < nr_expected_bugs; i++)
		/* relaxed: the test is over */
		if (!(mmn_load_relaxed(&bugs_seen_mask) & (1u << i)))
			t_fail("misuse was not reported: %s", expected_bugs[i]);
}

/* --- leaked descriptors -------------------------------------------------- */

/* By probing: a directory listing would open one itself. */
static void snapshot_descriptors(struct descriptors *fds)
{
	for (int fd = 0; fd < MAX_DESCRIPTORS; fd++)
		fds->open[fd] = fcntl(fd, F_GETFD) >= 0;
}

static void check_descriptors(void)
{
	unsigned int leaked = 0;
	char link[64], target[128];

	snapshot_descriptors(&descriptors_after);
	for (int fd = 0; fd < MAX_DESCRIPTORS; fd++) {
		bool before = descriptors_before.open[fd];
		bool after = descriptors_after.open[fd];
		ssize_t n;

		if (before && !after)
			t_fail("closed descriptor %d, which it had not opened",
			       fd);
		if (before || !after)
			continue;
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, target, sizeof(target) - 1);
		target[n < 0 ? 0 : n] = '\0';
		t_note("left descriptor %d open: %s", fd, target);
		leaked++;
	}
	if (leaked > may_keep_descriptors)
		t_fail("leaked %u descriptors", leaked);
}

/* --- leaked mappings ----------------------------------------------------- */

static bool maps_are_checked(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return !T_ASAN && !T_TSAN && !t_is_emulated() &&
	       !(preload && strstr(preload, "vgpreload"));
}

/*
 * The heap that grows by brk and the stack belong to libc and the kernel, as
 * do shared objects that were loaded on the way (libgcc_s, for one, by the
 * first thread that is cancelled) and the zeroed memory right behind them.
 */
static bool range_counts(const struct range *range, const struct range *prev)
{
	bool anonymous = !range->what[0];

	if (!strncmp(range->what, "[heap]", 6) ||
	    !strncmp(range->what, "[stack", 6) ||
	    !strncmp(range->what, "[v", 2))
		return false;
	if (strstr(range->what, ".so"))
		return false;
	if (anonymous && prev && prev->end == range->start &&
	    strstr(prev->what, ".so"))
		return false;
	return true;
}

static void add_range(struct ranges *ranges, const char *line)
{
	struct range *range = &ranges->at[ranges->nr];
	char perms[8];
	int name = 0;

	if (ranges->nr == MAX_RANGES)
		t_fail("more than %d mappings", MAX_RANGES);
	if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %n", &range->start,
		   &range->end, perms, &name) < 3)
		t_fail("cannot read this line of maps: %s", line);
	snprintf(range->what, sizeof(range->what), "%s", line + name);
	range->counts = range_counts(range, ranges->nr ? range - 1 : NULL);
	ranges->nr++;
}

static void snapshot_ranges(struct ranges *ranges)
{
	static char buf[1 << 16];
	size_t kept = 0;
	ssize_t n;
	int fd;

	ranges->nr = 0;
	fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	while ((n = read(fd, buf + kept, sizeof(buf) - 1 - kept)) > 0) {
		char *line = buf, *end;

		buf[kept + n] = '\0';
		while ((end = strchr(line, '\n'))) {
			*end = '\0';
			add_range(ranges, line);
			line = end + 1;
		}
		kept = strlen(line);
		memmove(buf, line, kept);
	}
	close(fd);
}

/* The bytes that were mapped before do not count, whatever merged with them. */
static size_t new_bytes(const struct range *range, bool tell)
{
	uintptr_t at = range->start;
	size_t bytes = 0;

	for (size_t i = 0; at < range->end; i++) {
		const struct range *old = &ranges_before.at[i];
		bool last = i == ranges_before.nr;
		uintptr_t until = last ? range->end : old->start;

		if (!last && old->end <= at)
			continue;
		if (until > range->end)
			until = range->end;
		if (until > at) {
			bytes += until - at;
			if (tell)
				t_note("left mapped: %#lx-%#lx %s", at, until,
				       range->what);
		}
		if (last)
			break;
		at = old->end > until ? old->end : until;
	}
	return bytes;
}

static size_t leaked_bytes(bool tell)
{
	size_t bytes = 0;

	snapshot_ranges(&ranges_after);
	for (size_t i = 0; i < ranges_after.nr; i++)
		if (ranges_after.at[i].counts)
			bytes += new_bytes(&ranges_after.at[i], tell);
	return bytes;
}

/*
 * The arena for callbacks keeps its chunks for the life of the process; what
 * must not be left are blocks in it.
 */
static void check_callback_memory(void)
{
	size_t in_use = mmn_callback_in_use();

	if (in_use > callback_bytes_before + may_keep_bytes)
		t_fail("leaked %zu bytes of callback memory",
		       in_use - callback_bytes_before);
	may_keep_bytes += mmn_callback_footprint() - arena_bytes_before;
}

/*
 * A thread that was detached, or whose joiner was quick, gives its stack back
 * a moment after the test has ended.
 */
static void check_ranges(void)
{
	if (!maps_are_checked())
		return;
	for (int i = 0; i < 20; i++) {
		if (leaked_bytes(false) <= may_keep_bytes)
			return;
		usleep(5000);
	}
	t_fail("leaked %zu bytes of mappings", leaked_bytes(true));
}

/* --- one test ------------------------------------------------------------ */

static void run_body(const struct t_test *test)
{
	nr_expected_bugs = 0;
	bugs_seen_mask = 0;
	may_keep_bytes = 0;
	may_keep_descriptors = 0;
	callback_bytes_before = mmn_callback_in_use();
	arena_bytes_before = mmn_callback_footprint();
	test_process = getpid();

	snapshot_descriptors(&descriptors_before);
	if (maps_are_checked())
		snapshot_ranges(&ranges_before);
	mmn_debug_set_handler(hear_report);
	test->run();
	if (getpid() != test_process) {
		/* A child that the test forked came back through it. */
		t_fail("a child process of the test returned from it");
	}
	check_bugs();
	/* relaxed: the threads that counted have been joined */
	if (!mmn_load_relaxed(&verdict->nr_expectations))
		t_fail("the test expected nothing");
	check_descriptors();
	check_callback_memory();
	check_ranges();
	if (__lsan_do_recoverable_leak_check &&
	    __lsan_do_recoverable_leak_check())
		t_fail("leaked memory, see the report above");
	conclude(PASSED);
}

static unsigned int time_limit(const struct t_test *test)
{
	const char *scale = getenv("T_TIMEOUT_SCALE");
	unsigned int seconds = test->timeout ? test->timeout : T_TIMEOUT;
	int factor = scale ? atoi(scale) : 1;

	return seconds * (factor > 0 ? factor : 1);
}

/* What each thread of a test that hangs is doing. */
static void note_threads(pid_t pid)
{
	char path[300], comm[64], wchan[64];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		const char *files[] = { "comm", "syscall" };
		char *bufs[] = { comm, wchan };

		if (entry->d_name[0] == '.')
			continue;
		for (int i = 0; i < 2; i++) {
			ssize_t n = -1;
			int fd;

			snprintf(path, sizeof(path), "/proc/%d/task/%s/%s",
				 (int)pid, entry->d_name, files[i]);
			fd = open(path, O_RDONLY | O_CLOEXEC);
			if (fd >= 0) {
				n = read(fd, bufs[i], sizeof(comm) - 1);
				close(fd);
			}
			bufs[i][n < 0 ? 0 : n] = '\0';
			bufs[i][strcspn(bufs[i], "\n")] = '\0';
		}
		t_note("thread %s (%s) in system call %s", entry->d_name, comm,
		       wchan);
	}
	if (dir)
		closedir(dir);
}

/* valgrind does not know pidfd_open(): look again and again. */
static bool ends_while_watched(pid_t pid, unsigned int seconds)
{
	for (unsigned int ms = 0; ms < seconds * 1000; ms++) {
		siginfo_t info = { .si_pid = 0 };

		waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT);
		if (info.si_pid)
			return true;
		usleep(1000);
	}
	return false;
}

static bool ends_in_time(pid_t pid, unsigned int seconds)
{
	int fd = syscall(SYS_pidfd_open, pid, 0);
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	bool in_time;

	if (fd < 0)
		return ends_while_watched(pid, seconds);
	in_time = poll(&poll_fd, 1, seconds * 1000) != 0;
	close(fd);
	return in_time;
}

/* Wait for the child, kill it when its time is up.  True when it was in time */
static bool wait_for(pid_t pid, unsigned int seconds, int *ret_status)
{
	bool in_time = ends_in_time(pid, seconds);

	if (!in_time) {
		note_threads(pid);
		kill(pid, SIGKILL);
	}
	while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
		;
	/* Whatever the test left behind in its process group. */
	kill(-pid, SIGKILL);
	return in_time;
}

/* Returns true unless the test failed. */
static bool report(unsigned int number, const struct t_test *test,
		   const char *trouble)
{
	/* relaxed: the test process has ended */
	uint32_t state = mmn_load_relaxed(&verdict->state);

	if (state == RUNNING || state == FAILED || trouble) {
		printf("not ok %u - %s\n", number, test->name);
		if (trouble)
			printf("# %s\n", trouble);
		else if (state == RUNNING)
			printf("# exited before its end\n");
		printf("# again: %s %s\n", program, test->name);
		return false;
	}
	if (state == SKIPPED)
		printf("ok %u - %s # SKIP %s\n", number, test->name,
		       verdict->skip_reason);
	else
		printf("ok %u - %s\n", number, test->name);
	return true;
}

static bool run_forked(unsigned int number, const struct t_test *test)
{
	unsigned int seconds = time_limit(test);
	char trouble[128] = "";
	int status;
	pid_t pid;

	memset(verdict, 0, sizeof(*verdict));
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(99);
	}
	if (!pid) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run_body(test);
		leave(PASSED);
	}
	if (!wait_for(pid, seconds, &status))
		snprintf(trouble, sizeof(trouble), "not done after %u s",
			 seconds);
	else if (WIFSIGNALED(status))
		snprintf(trouble, sizeof(trouble), "killed by SIG%s (%s)",
			 sigabbrev_np(WTERMSIG(status)),
			 strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) > 1)
		snprintf(trouble, sizeof(trouble), "exited with status %d",
			 WEXITSTATUS(status));
	return report(number, test, trouble[0] ? trouble : NULL);
}

static bool run_here(unsigned int number, const struct t_test *test)
{
	memset(verdict, 0, sizeof(*verdict));
	runs_here = true;
	run_body(test);
	return report(number, test, NULL);
}

/* --- the whole binary ---------------------------------------------------- */

static bool is_traced(void)
{
	char line[128];
	bool traced = false;
	FILE *file = fopen("/proc/self/status", "re");

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, "TracerPid:", 10))
			traced = atoi(line + 10) != 0;
	if (file)
		fclose(file);
	return traced;
}

/*
 * Run this program again, once, without glibc's cache of thread stacks and
 * with one arena: both look like leaks.  The environment is put back, because
 * the programs that tests start shall run as they do everywhere.
 */
static void switch_caches_off(char **argv)
{
	static const char mark[] = "T_CACHES_ARE_OFF";
	const char *saved = getenv(mark);
	char path[PATH_MAX];
	ssize_t n;

	if (saved) {
		if (saved[0])
			setenv("GLIBC_TUNABLES", saved, 1);
		else
			unsetenv("GLIBC_TUNABLES");
		unsetenv(mark);
		return;
	}
	n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	if (!maps_are_checked() || in_debugger || n < 0)
		return;
	path[n] = '\0';
	saved = getenv("GLIBC_TUNABLES");
	setenv(mark, saved ? saved : "", 1);
	setenv("GLIBC_TUNABLES",
	       "glibc.pthread.stack_cache_size=0:glibc.malloc.arena_max=1", 1);
	execv(path, argv);
	unsetenv(mark);
	if (saved)
		setenv("GLIBC_TUNABLES", saved, 1);
	else
		unsetenv("GLIBC_TUNABLES");
}

static bool is_wanted(const struct t_test *test, char **names)
{
	if (!*names)
		return true;
	for (; *names; names++)
		if (!fnmatch(*names, test->name, 0))
			return true;
	return false;
}

static unsigned int count_wanted(char **names)
{
	unsigned int n = 0;

	for (struct t_test *test = tests; test; test = test->next)
		n += is_wanted(test, names);
	return n;
}

static bool every_name_is_known(char **names)
{
	bool all = true;

	for (; *names; names++) {
		char *one[] = { *names, NULL };

		if (!count_wanted(one)) {
			fprintf(stderr, "%s: no test called %s\n", program,
				*names);
			all = false;
		}
	}
	return all;
}

static bool is_one_plain_name(char **names)
{
	return names[0] && !names[1] && !strpbrk(names[0], "*?[");
}

int main(int argc, char **argv)
{
	char **names = argv + 1;
	unsigned int number = 0, failed = 0;
	bool forked;

	(void)argc;
	program = argv[0];
	in_debugger = is_traced();
	switch_caches_off(argv);
	if (*names && !strcmp(*names, "--list")) {
		for (struct t_test *test = tests; test; test = test->next)
			puts(test->name);
		return 0;
	}
	if (!every_name_is_known(names))
		return 2;
	verdict = mmap(NULL, sizeof(*verdict), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (verdict == MAP_FAILED) {
		perror("mmap");
		return 99;
	}
	forked = !in_debugger && !is_one_plain_name(names);
	printf("1..%u\n", count_wanted(names));
	for (struct t_test *test = tests; test; test = test->next) {
		if (!is_wanted(test, names))
			continue;
		fflush(stdout);
		if (forked)
			failed += !run_forked(++number, test);
		else
			failed += !run_here(++number, test);
	}
	fflush(stdout);
	return failed ? 1 : 0;
}
