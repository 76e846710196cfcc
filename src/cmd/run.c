/* SPDX-License-Identifier: MIT */
/*
 * mmn run: the side of it that stays outside of the program.
 *
 * The program is started as a child in the same process group, on the same
 * terminal, with the same descriptors, so that it lives exactly as without mmn;
 * this process waits for it, passes on signals that were meant for it, reads the
 * figures that the agents write into the shared area, and prints the report.
 *
 * Terminal signals reach the program by themselves.  Here they are ignored, so
 * that there is somebody to report; when the program stops, this process stops
 * too, so that the shell sees a stopped job.
 */
#include <mmn/common.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cmd.h"

#define DEFAULT_BUDGET (UINT64_C(16) << 20)
#define MIN_BUDGET (UINT64_C(64) << 10)
#define MAX_BUDGET (UINT64_C(1) << 40)

/* How often the area is looked at, and the status line written. */
#define LOOK_NS 50000000L
#define STATUS_NS UINT64_C(200000000)
/* Short programs get no status line. */
#define STATUS_AFTER_NS UINT64_C(700000000)

/* Processes that the report names; the figures of more are only summed up. */
#define MAX_PROCESSES 512u
#define MAX_REMARKS 32u

const char *const break_names[NR_BREAKS] = {
	[BREAK_NOTHING] = "nothing",	 [BREAK_NO_RETRY] = "no-retry",
	[BREAK_NO_SEQ] = "no-seq",	 [BREAK_DROP_EVENTS] = "drop-events",
	[BREAK_END_EARLY] = "end-early",
};

struct options {
	uint64_t budget;
	bool want_soft;
	enum area_break want_break;
	/* Negative: until the program ends. */
	double seconds;
	const char *json;
	char **argv;
};

struct shared {
	char folder[PATH_MAX - 64];
	char path[PATH_MAX];
	int fd;
	struct area *area;
};

/* What is known about the processes so far. */
struct book {
	/* Ended ones first, then the living as of the last look. */
	struct figures processes[MAX_PROCESSES];
	unsigned int nr_ended;
	unsigned int nr_processes;
	/* Sum of those that did not fit. */
	uint64_t nr_lost;
	/* Owners that left their slot but seem to live on, to be looked at. */
	struct area_slot left[16];
	uint64_t left_ns[16];
	unsigned int nr_left;
	char *remarks[MAX_REMARKS];
	unsigned int nr_remarks;
};

static struct book book;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void run_usage(FILE *to)
{
	fputs("usage: mmn run [OPTION...] -- PROGRAM [ARGUMENT...]\n"
	      "\n"
	      "Run a program, follow every change of its memory, mirror part of "
	      "that memory\n"
	      "into a device that reads it all the time, and check that the "
	      "device never\n"
	      "touches a page the program has lost.\n"
	      "\n"
	      "  --device uring|soft  what holds the memory: io_uring's fixed "
	      "buffers (default),\n"
	      "                       or a device in software\n"
	      "  --budget BYTES       pin at most so much per process; K, M, G "
	      "(default 16M)\n"
	      "  --seconds N          stop checking, not the program, after N "
	      "seconds\n"
	      "  --json FILE          write the report there too, for "
	      "programs\n"
	      "  --break WHAT         weaken libmmn on purpose, to see the "
	      "checker find it:\n"
	      "                       no-retry, no-seq, drop-events, "
	      "end-early\n"
	      "  --help               this\n"
	      "\n"
	      "Exit status: the program's; 3 if a stale access was found; 2 "
	      "usage; 126 the\n"
	      "program cannot be followed; 127 there is no such program.\n",
	      to);
}

/* ------------------------------------------------------------------ */
/* Command line                                                       */
/* ------------------------------------------------------------------ */

static bool parse_bytes(const char *text, uint64_t *ret_bytes)
{
	static const char units[] = "KMG";
	const char *unit;
	unsigned long long value;
	unsigned int shift = 0;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return false;
	if (*end) {
		unit = strchr(units, *end & ~0x20);
		if (!unit || !*unit)
			return false;
		shift = 10 * (unsigned int)(unit - units + 1);
		end++;
		if (!strcmp(end, "iB") || !strcmp(end, "B"))
			end += strlen(end);
	}
	if (*end || value > UINT64_MAX >> shift)
		return false;
	*ret_bytes = (uint64_t)value << shift;
	return true;
}

static bool parse_break(const char *text, enum area_break *ret_what)
{
	unsigned int what;

	for (what = BREAK_NOTHING + 1; what < NR_BREAKS; what++) {
		if (!strcmp(text, break_names[what])) {
			*ret_what = what;
			return true;
		}
	}
	return false;
}

static bool parse_option(int option, const char *text, struct options *options)
{
	char *end;

	switch (option) {
	case 'd':
		options->want_soft = !strcmp(text, "soft");
		if (options->want_soft || !strcmp(text, "uring"))
			return true;
		complain("--device %s: there are the devices uring and soft",
			 text);
		return false;
	case 'm':
		if (!parse_bytes(text, &options->budget)) {
			complain("--budget %s: not a number of bytes (as in "
				 "4194304, 4096K, 4M)",
				 text);
			return false;
		}
		if (options->budget >= MIN_BUDGET &&
		    options->budget <= MAX_BUDGET)
			return true;
		complain("--budget %s: must be from 64K to 1024G", text);
		return false;
	case 's':
		options->seconds = strtod(text, &end);
		if (*text >= '0' && *text <= '9' && !*end &&
		    options->seconds <= 1e9)
			return true;
		complain("--seconds %s: not a number of seconds", text);
		return false;
	case 'j':
		options->json = text;
		return true;
	case 'b':
		if (parse_break(text, &options->want_break))
			return true;
		complain("--break %s: what can be broken is no-retry, no-seq, "
			 "drop-events, end-early",
			 text);
		return false;
	}
	return false;
}

/* 0, an exit code after a message, or -1 when help was given. */
static int parse(int argc, char **argv, struct options *options)
{
	static const struct option table[] = {
		{ "device", required_argument, NULL, 'd' },
		{ "budget", required_argument, NULL, 'm' },
		{ "seconds", required_argument, NULL, 's' },
		{ "json", required_argument, NULL, 'j' },
		{ "break", required_argument, NULL, 'b' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	*options = (struct options){ .budget = DEFAULT_BUDGET, .seconds = -1 };
	opterr = 0;
	while ((option = getopt_long(argc, argv, "+:", table, NULL)) != -1) {
		if (option == 'h') {
			run_usage(stdout);
			return -1;
		}
		if (option == ':') {
			complain("%s needs a value", argv[optind - 1]);
			return EXIT_USAGE;
		}
		if (option == '?') {
			complain("no such option: %s\n"
				 "     hint: mmn run --help; options of the "
				 "program follow its name",
				 argv[optind - 1]);
			return EXIT_USAGE;
		}
		if (!parse_option(option, optarg, options))
			return EXIT_USAGE;
	}
	options->argv = argv + optind;
	if (!*options->argv) {
		complain("which program?\n"
			 "     usage: mmn run [OPTION...] -- PROGRAM "
			 "[ARGUMENT...]");
		return EXIT_USAGE;
	}
	return 0;
}

/* ------------------------------------------------------------------ */
/* The shared area                                                    */
/* ------------------------------------------------------------------ */

/*
 * The path is a secret where it must be: a program that changes its user and
 * executes another one can still open the file, since it inherits the path, but
 * nobody else can find it.
 */
static int area_create(struct shared *shared, const struct options *options)
{
	const char *folders[] = { "/dev/shm", getenv("TMPDIR"), "/tmp" };
	bool root = geteuid() == 0;
	unsigned char secret[16];
	unsigned int i;
	size_t length;

	shared->fd = -1;
	for (i = 0; i < 3; i++) {
		if (!folders[i])
			continue;
		if (snprintf(shared->folder, sizeof(shared->folder),
			     "%s/mmn-run-XXXXXX",
			     folders[i]) >= (int)sizeof(shared->folder))
			continue;
		if (mkdtemp(shared->folder))
			break;
	}
	if (i == 3) {
		complain("no folder for the shared file: %s", strerror(errno));
		return -1;
	}
	if (getrandom(secret, sizeof(secret), 0) != sizeof(secret))
		goto fail;
	length = (size_t)snprintf(shared->path, sizeof(shared->path), "%s/",
				  shared->folder);
	for (i = 0; i < sizeof(secret); i++)
		length += (size_t)snprintf(shared->path + length, 3, "%02x",
					   secret[i]);
	shared->fd =
		open(shared->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (shared->fd < 0 || ftruncate(shared->fd, sizeof(struct area)))
		goto fail;
	if (root && (fchmod(shared->fd, 0666) || chmod(shared->folder, 0711)))
		goto fail;
	shared->area = mmap(NULL, sizeof(struct area), PROT_READ | PROT_WRITE,
			    MAP_SHARED, shared->fd, 0);
	if (shared->area == MAP_FAILED)
		goto fail;
	shared->area->header = (struct area_header){
		.magic = AREA_MAGIC,
		.header_bytes = sizeof(struct area_header),
		.slot_bytes = sizeof(struct area_slot),
		.budget = options->budget,
		.want_soft = options->want_soft,
		.want_break = options->want_break,
		.filtered = prctl(PR_GET_SECCOMP) > 0,
	};
	if (options->seconds >= 0)
		shared->area->header.stop_ns =
			now_ns() + (uint64_t)(options->seconds * 1e9) + 1;
	return 0;
fail:
	complain("%s: %s", shared->folder, strerror(errno));
	if (shared->fd >= 0)
		unlink(shared->path);
	rmdir(shared->folder);
	return -1;
}

static void area_remove(const struct shared *shared)
{
	unlink(shared->path);
	rmdir(shared->folder);
}

static bool slot_lock(const struct shared *shared, unsigned int nr, short how)
{
	struct flock lock = {
		.l_type = how,
		.l_whence = SEEK_SET,
		.l_start = nr,
		.l_len = 1,
	};

	return !fcntl(shared->fd, F_OFD_SETLK, &lock);
}

/* ------------------------------------------------------------------ */
/* The book of processes                                              */
/* ------------------------------------------------------------------ */

static void slot_add(struct area_slot *sum, const struct area_slot *slot);

/* One more in the list; the last entry takes the sum of what does not fit. */
static void book_enter(const struct area_slot *slot, bool ended)
{
	struct figures *entry;

	if (book.nr_processes < MAX_PROCESSES) {
		entry = &book.processes[book.nr_processes++];
		entry->slot = *slot;
		entry->ended = ended;
		return;
	}
	entry = &book.processes[MAX_PROCESSES - 1];
	slot_add(&entry->slot, slot);
	snprintf(entry->slot.name, sizeof(entry->slot.name), "(others)");
	book.nr_lost++;
}

static bool is_alive(uint32_t pid, char *comm, size_t size)
{
	char path[64], line[512], *end, *begin;
	bool alive = false;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	got = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (got <= 0)
		return false;
	line[got] = '\0';
	begin = strchr(line, '(');
	end = strrchr(line, ')');
	if (begin && end && end[1] && !strchr("ZXx", end[2])) {
		*end = '\0';
		snprintf(comm, size, "%s", begin + 1);
		alive = true;
	}
	return alive;
}

__attribute__((format(printf, 1, 2))) static void remark(const char *format,
							 ...)
{
	va_list args;
	char *line;

	if (book.nr_remarks == MAX_REMARKS)
		return;
	va_start(args, format);
	if (vasprintf(&line, format, args) >= 0)
		book.remarks[book.nr_remarks++] = line;
	va_end(args);
}

/* A process that let go of its slot and lives: it executed something else. */
static void watch_left(const struct area_slot *slot)
{
	char comm[64];

	if (book.nr_left == 16 || !is_alive(slot->pid, comm, sizeof(comm)))
		return;
	book.left[book.nr_left] = *slot;
	book.left_ns[book.nr_left++] = now_ns();
}

static bool has_successor(const struct area_slot *slot)
{
	unsigned int i;

	for (i = 0; i < book.nr_processes; i++)
		if (book.processes[i].slot.pid == slot->pid &&
		    book.processes[i].slot.begin_ns > slot->begin_ns)
			return true;
	return false;
}

static void check_left(void)
{
	uint64_t now = now_ns();
	struct area_slot *slot;
	char comm[64];
	unsigned int i = 0;

	while (i < book.nr_left) {
		slot = &book.left[i];
		if (!has_successor(slot) &&
		    is_alive(slot->pid, comm, sizeof(comm))) {
			if (now - book.left_ns[i] < 500000000) {
				i++;
				continue;
			}
			remark("process %u went on from %s to %s, which does "
			       "not load the agent",
			       slot->pid, slot->name, comm);
		}
		book.nr_left--;
		book.left[i] = book.left[book.nr_left];
		book.left_ns[i] = book.left_ns[book.nr_left];
	}
}

/* Take over the figures of the dead, look at those of the living. */
static void look(const struct shared *shared)
{
	struct area *area = shared->area;
	struct area_slot *slot;
	unsigned int i;

	book.nr_processes = book.nr_ended;
	for (i = 0; i < AREA_SLOTS; i++) {
		slot = &area->slots[i];
		if (slot->state == SLOT_FREE || !slot_lock(shared, i, F_WRLCK))
			continue;
		/* Again: it may have become free and been taken meanwhile. */
		if (slot->state != SLOT_FREE) {
			book_enter(slot, true);
			book.nr_ended = book.nr_processes;
			watch_left(slot);
			memset(slot, 0, sizeof(*slot));
		}
		slot_lock(shared, i, F_UNLCK);
	}
	for (i = 0; i < AREA_SLOTS; i++)
		if (area->slots[i].state != SLOT_FREE)
			book_enter(&area->slots[i], false);
	check_left();
}

static void slot_add(struct area_slot *sum, const struct area_slot *slot)
{
	uint64_t max = sum->latency_max, peak = sum->pinned_peak;
	unsigned int i;

	for (i = 0; i < AREA_CALLS; i++)
		sum->calls[i] += slot->calls[i];
	for (i = 0; i < AREA_BUCKETS; i++)
		sum->latency[i] += slot->latency[i];
	sum->latency_max = max > slot->latency_max ? max : slot->latency_max;
	/* The biggest of the processes: their peaks are at different times. */
	sum->pinned_peak = peak > slot->pinned_peak ? peak : slot->pinned_peak;
	if (!sum->stale && slot->stale) {
		sum->stale_addr = slot->stale_addr;
		memcpy(sum->stale_text, slot->stale_text,
		       sizeof(sum->stale_text));
		memcpy(sum->name, slot->name, sizeof(sum->name));
		sum->pid = slot->pid;
	}
#define ADD(member) sum->member += slot->member
	ADD(install_ns);
	ADD(nr_found);
	ADD(nr_patched);
	ADD(nr_refused);
	ADD(nr_unknown);
	ADD(hits);
	ADD(held_ns);
	ADD(forks);
	ADD(windows);
	ADD(filled_pages);
	ADD(collisions);
	ADD(torn_pages);
	ADD(pinned);
	ADD(transfers);
	ADD(read_bytes);
	ADD(written_bytes);
	ADD(ended_by_change);
	ADD(checked);
	ADD(checked_frames);
	ADD(checked_contents);
	ADD(overtaken);
	ADD(undecided);
	ADD(stale);
	ADD(play_changes);
	ADD(play_writes);
	ADD(play_checked);
	ADD(agent_ns);
#undef ADD
	/* Not a moment but a length: how long they lived, together. */
	if (slot->end_ns > slot->begin_ns)
		sum->end_ns += slot->end_ns - slot->begin_ns;
}

void report_sum(const struct report *report, struct area_slot *sum)
{
	unsigned int i;

	memset(sum, 0, sizeof(*sum));
	for (i = 0; i < report->nr_processes; i++)
		slot_add(sum, &report->processes[i].slot);
	/* What has ended holds nothing, whatever was written last. */
	sum->pinned = 0;
	for (i = 0; i < report->nr_processes; i++)
		if (!report->processes[i].ended)
			sum->pinned += report->processes[i].slot.pinned;
}

/* ------------------------------------------------------------------ */
/* The program                                                        */
/* ------------------------------------------------------------------ */

/* Signals that somebody sends to mmn and means for the program. */
static const int passed_on[] = { SIGTERM, SIGHUP,  SIGINT, SIGQUIT,
				 SIGUSR1, SIGUSR2, SIGCONT };
/* Signals of the terminal, which the program gets by itself. */
static const int ignored[] = { SIGTSTP, SIGTTIN, SIGTTOU };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct sigaction old_ignored[COUNT(ignored)];
/* Whoever started mmn may ignore it; then nobody could be waited for. */
static struct sigaction old_child;

static int set_environment(const char *agent, const char *area)
{
	const char *before = getenv("LD_PRELOAD");
	char *list;

	if (asprintf(&list, "%s%s%s", agent, before && *before ? ":" : "",
		     before ? before : "") < 0)
		return -1;
	if (setenv("LD_PRELOAD", list, 1) || setenv(AREA_ENV, area, 1)) {
		free(list);
		return -1;
	}
	free(list);
	return 0;
}

__attribute__((noreturn)) static void child(const struct options *options,
					    const char *path, const char *agent,
					    const char *area,
					    const sigset_t *mask, int tell)
{
	unsigned int i;
	int error;

	for (i = 0; i < COUNT(ignored); i++)
		sigaction(ignored[i], &old_ignored[i], NULL);
	sigaction(SIGCHLD, &old_child, NULL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	if (!set_environment(agent, area))
		execv(path, options->argv);
	error = errno;
	if (write(tell, &error, sizeof(error)) < 0)
		_exit(EXIT_INTERNAL);
	_exit(EXIT_NOT_RUNNABLE);
}

/* The child's pid, or -1 after a message. */
static pid_t spawn(const struct options *options, const char *path,
		   const char *agent, const char *area, const sigset_t *mask)
{
	int told[2], error = 0;
	pid_t pid;

	if (pipe2(told, O_CLOEXEC)) {
		complain("pipe: %s", strerror(errno));
		return -1;
	}
	pid = fork();
	if (!pid)
		child(options, path, agent, area, mask, told[1]);
	close(told[1]);
	if (pid < 0) {
		complain("fork: %s", strerror(errno));
	} else if (read(told[0], &error, sizeof(error)) == sizeof(error)) {
		waitpid(pid, NULL, 0);
		complain("%s: %s", path, strerror(error));
		pid = -1;
	}
	close(told[0]);
	return pid;
}

/*
 * A pipe that the program closes must be closed: only the report's own end
 * stays here.
 */
static void let_go_of_pipes(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	dup2(fd, 0);
	dup2(fd, 1);
	if (fd > 2)
		close(fd);
}

/*
 * At the right edge, with the cursor back where the program left it: what the
 * program writes, a prompt for example, stays as it is.
 */
static void status_line(struct report *report, bool last)
{
	static size_t shown;
	struct winsize size = { 0 };
	char line[62];

	if (ioctl(2, TIOCGWINSZ, &size) || size.ws_col < sizeof(line) + 16)
		return;
	if (last) {
		fprintf(stderr, "\0337\033[999C\033[%zuD\033[K\0338", shown);
		return;
	}
	report_status(report, line, sizeof(line));
	/* Of constant width, so that it covers what it replaces. */
	shown = sizeof(line) - 1;
	fprintf(stderr, "\0337\033[999C\033[%zuD\033[2m%*s\0338", shown - 1,
		(int)shown, line);
}

/* As a shell's job control wants it: stopped while the program is stopped. */
static void stop_with_program(void)
{
	kill(getpid(), SIGSTOP);
}

static void take_signal(const siginfo_t *info, pid_t pid)
{
	unsigned int i;

	for (i = 0; i < COUNT(passed_on); i++) {
		if (info->si_signo != passed_on[i])
			continue;
		/* From the terminal: the program got it too. */
		if (info->si_code == SI_KERNEL && info->si_signo != SIGCONT)
			return;
		kill(pid, info->si_signo);
	}
}

/* Until the program has ended; its status. */
static int watch(struct shared *shared, pid_t pid, const sigset_t *waited,
		 struct report *report)
{
	const struct timespec pause = { 0, LOOK_NS };
	uint64_t begin = now_ns(), shown = 0, now;
	bool terminal = isatty(2);
	siginfo_t info;
	int status;

	for (;;) {
		if (sigtimedwait(waited, &info, &pause) > 0 &&
		    info.si_signo != SIGCHLD)
			take_signal(&info, pid);
		if (waitpid(pid, &status, WNOHANG | WUNTRACED) == pid) {
			if (!WIFSTOPPED(status))
				break;
			stop_with_program();
		}
		look(shared);
		now = now_ns();
		if (!terminal || now - begin < STATUS_AFTER_NS ||
		    now - shown < STATUS_NS)
			continue;
		shown = now;
		report->elapsed_ns = now - begin;
		report->nr_processes = book.nr_processes;
		status_line(report, false);
	}
	if (shown)
		status_line(report, true);
	report->elapsed_ns = now_ns() - begin;
	return status;
}

/* Die as the program did, so that whoever started mmn sees the same. */
static int reproduce(int status)
{
	struct rlimit none = { 0, 0 };
	sigset_t set;

	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	/* The program has dumped core, if that was wanted. */
	setrlimit(RLIMIT_CORE, &none);
	signal(WTERMSIG(status), SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, WTERMSIG(status));
	raise(WTERMSIG(status));
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	return 128 + WTERMSIG(status);
}

static void fill_report(struct report *report, const struct shared *shared,
			int status)
{
	struct rusage usage;

	report->status = status;
	report->processes = book.processes;
	report->nr_processes = book.nr_processes;
	report->nr_lost_figures = book.nr_lost;
	report->overflow = area_read(&shared->area->header.overflow);
	report->remarks = book.remarks;
	report->nr_remarks = book.nr_remarks;
	if (getrusage(RUSAGE_CHILDREN, &usage))
		return;
	report->user_ns = (uint64_t)usage.ru_utime.tv_sec * 1000000000 +
			  (uint64_t)usage.ru_utime.tv_usec * 1000;
	report->system_ns = (uint64_t)usage.ru_stime.tv_sec * 1000000000 +
			    (uint64_t)usage.ru_stime.tv_usec * 1000;
}

static void block_signals(sigset_t *waited, sigset_t *mask)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct sigaction normal = { .sa_handler = SIG_DFL };
	unsigned int i;

	sigemptyset(waited);
	sigaddset(waited, SIGCHLD);
	for (i = 0; i < COUNT(passed_on); i++)
		sigaddset(waited, passed_on[i]);
	sigprocmask(SIG_BLOCK, waited, mask);
	for (i = 0; i < COUNT(ignored); i++)
		sigaction(ignored[i], &ignore, &old_ignored[i]);
	sigaction(SIGCHLD, &normal, &old_child);
}

static int run(const struct options *options, const char *path,
	       const char *agent, FILE *json)
{
	struct report report = { .argv = options->argv };
	struct area_slot sum;
	struct shared shared;
	sigset_t waited, mask;
	int status;
	pid_t pid;

	if (area_create(&shared, options))
		return EXIT_INTERNAL;
	report.options = &shared.area->header;
	report.processes = book.processes;
	block_signals(&waited, &mask);
	pid = spawn(options, path, agent, shared.path, &mask);
	if (pid < 0) {
		area_remove(&shared);
		return EXIT_NOT_RUNNABLE;
	}
	let_go_of_pipes();
	status = watch(&shared, pid, &waited, &report);
	look(&shared);
	area_remove(&shared);
	fill_report(&report, &shared, status);
	report_text(&report, stderr);
	if (json)
		report_json(&report, json);
	report_sum(&report, &sum);
	if (json && (fflush(json) || ferror(json) || fclose(json)))
		complain("%s: the report could not be written", options->json);
	if (sum.stale)
		return EXIT_STALE;
	return reproduce(status);
}

int run_main(int argc, char **argv)
{
	struct options options;
	char path[PATH_MAX], agent[PATH_MAX];
	FILE *json = NULL;
	int ret;

	ret = parse(argc, argv, &options);
	if (ret)
		return ret < 0 ? 0 : ret;
	ret = program_find(options.argv[0], path);
	if (!ret)
		ret = program_find_agent(agent);
	if (ret)
		return ret;
	if (options.json) {
		json = fopen(options.json, "we");
		if (!json) {
			complain("--json %s: %s", options.json,
				 strerror(errno));
			return EXIT_USAGE;
		}
	}
	return run(&options, path, agent, json);
}
