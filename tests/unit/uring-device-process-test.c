/* SPDX-License-Identifier: MIT */
/*
 * A program does not notice that a library of its process runs an io_uring
 * device, and cannot hurt it: descriptors, signals, children, exec, exit.
 */
#include "unit/uring-device.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int nr_descriptors(int lowest)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	int nr = 0;

	t_ok(dir != NULL);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.' && atoi(entry->d_name) >= lowest &&
		    atoi(entry->d_name) != dirfd(dir))
			nr++;
	closedir(dir);
	return nr;
}

static int nr_closed_on_exec(void)
{
	int i, nr = 0;

	for (i = 0; i < 5000; i++)
		nr += fcntl(i, F_GETFD) == FD_CLOEXEC;
	return nr;
}

/* The device works: a page written through it is read through it. */
static void use(struct mmn_device *device)
{
	char *memory = new_pages(1);
	struct mmn_device_map *map = hold_pages(device, memory, 1);
	char seen[5] = "";

	t_eq(device_writes(map, 10, "used", 5), 5);
	t_streq(memory + 10, "used");
	t_eq(device_reads(map, 10, seen, 5), 5);
	t_streq(seen, "used");
	let_go(map);
	free_pages(memory, 1);
}

static int exit_status(pid_t child)
{
	int status;

	t_eq(waitpid(child, &status, 0), child);
	t_ok(WIFEXITED(status));
	return WEXITSTATUS(status);
}

TEST(no_descriptor_of_the_device_is_the_programs)
{
	int before = nr_descriptors(0);
	struct mmn_device *device = new_device(NULL);

	t_eq(stats_of(device).private_files, 1);
	t_eq(nr_descriptors(0), before);
	use(device);
	t_eq(nr_descriptors(0), before);
	mmn_device_destroy(device);
}

TEST(a_program_that_closes_everything_does_not_hurt_the_device)
{
	struct mmn_device *device;
	pid_t child = fork();

	t_ge(child, 0);
	if (!child) {
		device = new_device(NULL);
		syscall(SYS_close_range, 3, ~0U, 0);
		use(device);
		syscall(SYS_close_range, 0, ~0U, 0);
		use(device);
		mmn_device_destroy(device);
		_exit(7);
	}
	t_eq(exit_status(child), 7);
}

TEST(a_pipe_of_the_program_ends_when_the_program_closes_it)
{
	struct mmn_device *device;
	struct pollfd end;
	int fds[2];

	t_eq(pipe2(fds, O_CLOEXEC), 0);
	device = new_device(NULL);
	close(fds[1]);
	end = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	t_eq(poll(&end, 1, 0), 1);
	t_ok(end.revents & POLLHUP);
	close(fds[0]);
	mmn_device_destroy(device);
}

TEST(without_a_table_of_its_own_descriptors_are_high_and_closed_on_exec)
{
	struct mmn_uring_config config = { .size = sizeof(config),
					   .flags = MMN_URING_SHARED_FILES,
					   .queue_depth = 3 };
	int before = nr_descriptors(0), high_before = nr_descriptors(100);
	int closing_before = nr_closed_on_exec();
	struct mmn_device *device = new_device(&config);

	t_eq(stats_of(device).private_files, 0);
	t_eq(nr_descriptors(0), before + 7);
	t_eq(nr_descriptors(100), high_before + 7);
	t_eq(nr_closed_on_exec(), closing_before + 7);
	use(device);
	mmn_device_destroy(device);
	t_eq(nr_descriptors(0), before);
}

TEST(where_a_table_of_its_own_is_refused_the_device_shares_and_says_so)
{
	struct mmn_device *device;

	mmn_device_destroy(new_device(NULL));
	answer_syscall(SYS_close_range, EPERM);
	device = new_device(NULL);
	t_eq(stats_of(device).private_files, 0);
	use(device);
	mmn_device_destroy(device);
}

TEST(closing_shared_descriptors_breaks_the_device_and_hangs_nobody)
{
	struct mmn_uring_config config = { .size = sizeof(config),
					   .flags = MMN_URING_SHARED_FILES };
	static bool was_open[5000];
	struct mmn_device *device;
	char *memory = new_pages(2);
	struct mmn_device_map *map, *other;
	struct watched held;
	char byte;
	int fd;

	for (fd = 0; fd < 5000; fd++)
		was_open[fd] = fcntl(fd, F_GETFD) >= 0;
	device = new_device(&config);
	map = hold_pages(device, memory, 1);
	t_err(mmn_uring_device_hold(device), 0);
	t_err(start(&held, map, MMN_DEVICE_WRITE, 0, &byte, 1), 0);
	t_err(mmn_uring_device_hold(device), 0);
	for (fd = 0; fd < 5000; fd++)
		if (!was_open[fd])
			close(fd);
	let_go(map);
	t_eq(result_of(&held), -EIO);
	t_err(try_to_hold(device, memory + PAGE, 1, &other), -EIO);
	free_pages(memory, 2);
	mmn_device_destroy(device);
}

TEST(in_a_fork_child_the_device_is_inert_and_the_parents_goes_on)
{
	struct mmn_device *device = new_device(NULL);
	char *memory = new_pages(2);
	struct mmn_device_map *map = hold_pages(device, memory, 1), *other;
	struct mmn_device_map *dying = hold_pages(device, memory, 1);
	struct mmn_uring_stats stats = { .size = sizeof(stats) };
	struct watched w;
	pid_t child;
	char byte;

	mmn_device_unmap_begin(dying);
	child = fork();
	t_ge(child, 0);
	if (!child) {
		t_err(try_to_hold(device, memory + PAGE, 1, &other), -ESTALE);
		t_err(start(&w, map, MMN_DEVICE_READ, 0, &byte, 1), -ESTALE);
		t_err(mmn_uring_device_stats(device, &stats), -ESTALE);
		t_err(mmn_uring_device_hold(device), -ESTALE);
		t_err(mmn_uring_device_release(device), -ESTALE);
		t_eq(mmn_device_poll(device), 0);
		mmn_device_unmap_finish(dying);
		let_go(map);
		mmn_device_destroy(device);
		/* It may have one of its own; with TSan it may not. */
		if (MMN_TSAN)
			_exit(9);
		device = new_device(NULL);
		use(device);
		mmn_device_destroy(device);
		_exit(9);
	}
	t_eq(exit_status(child), 9);
	mmn_device_unmap_finish(dying);
	memory[0] = 'P';
	t_eq(device_reads(map, 0, &byte, 1), 1);
	t_eq(byte, 'P');
	let_go(map);
	use(device);
	free_pages(memory, 2);
	mmn_device_destroy(device);
}

TEST(a_child_that_shares_the_memory_can_unmap)
{
	struct mmn_device *device = new_device(NULL);
	char *memory = new_pages(1);
	struct mmn_device_map *volatile map = hold_pages(device, memory, 1);
	pid_t child;

	if (MMN_TSAN)
		t_skip("TSan makes a fork of vfork");
	child = vfork();
	t_ge(child, 0);
	if (!child) {
		let_go(map);
		_exit(3);
	}
	t_eq(exit_status(child), 3);
	t_eq(status_kb("VmPin:"), 0);
	t_eq(stats_of(device).nr_maps, 0);
	free_pages(memory, 1);
	mmn_device_destroy(device);
}

static struct mmn_device *device_with_a_held_transfer(struct watched *w,
						      uint32_t access)
{
	static char bytes[64];
	struct mmn_device *device = new_device(NULL);
	char *memory = new_pages(1);

	t_err(mmn_uring_device_hold(device), 0);
	t_err(start(w, hold_pages(device, memory, 1), access, 0, bytes, 64), 0);
	/* The service thread has taken it up when it answers this. */
	t_err(mmn_uring_device_hold(device), 0);
	return device;
}

TEST(exec_with_transfers_under_way_starts_the_new_program)
{
	struct watched w;
	pid_t child = fork();

	t_ge(child, 0);
	if (!child) {
		device_with_a_held_transfer(&w, MMN_DEVICE_READ);
		execlp("sh", "sh", "-c", "exit 11", (char *)NULL);
		_exit(1);
	}
	t_eq(exit_status(child), 11);
}

TEST(fork_and_exec_beside_transfers_under_way)
{
	struct watched w;
	struct mmn_device *device =
		device_with_a_held_transfer(&w, MMN_DEVICE_WRITE);
	pid_t child = fork();

	t_ge(child, 0);
	if (!child) {
		execlp("sh", "sh", "-c", "exit 12", (char *)NULL);
		_exit(1);
	}
	t_eq(exit_status(child), 12);
	t_ok(!is_done(&w));
	t_err(mmn_uring_device_release(device), 0);
	t_eq(result_of(&w), 64);
	let_go(w.transfer.map);
	free_pages((void *)w.transfer.map->start, 1);
	mmn_device_destroy(device);
}

TEST(a_process_ends_with_transfers_under_way)
{
	static struct watched w;
	uint32_t access;
	pid_t child;

	for (access = MMN_DEVICE_READ; access <= MMN_DEVICE_WRITE; access++) {
		child = fork();
		t_ge(child, 0);
		if (!child) {
			device_with_a_held_transfer(&w, access);
			fflush(NULL);
			exit(13);
		}
		t_eq(exit_status(child), 13);
	}
}

static volatile sig_atomic_t caught_by;

static void note_thread(int sig)
{
	caught_by = (sig_atomic_t)syscall(SYS_gettid);
}

TEST(signals_of_the_process_go_to_the_programs_threads)
{
	struct mmn_device *device = new_device(NULL);
	struct sigaction action = { .sa_handler = note_thread };
	struct sigaction saved;
	sigset_t usr1, old;

	t_eq(sigaction(SIGUSR1, &action, &saved), 0);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	/* Blocked here, it would be the service thread's to take. */
	t_eq(pthread_sigmask(SIG_BLOCK, &usr1, &old), 0);
	t_eq(kill(getpid(), SIGUSR1), 0);
	sleep_ms(20);
	t_eq(caught_by, 0);
	t_eq(pthread_sigmask(SIG_SETMASK, &old, NULL), 0);
	t_eq(caught_by, getpid());
	use(device);
	t_eq(sigaction(SIGUSR1, &saved, NULL), 0);
	mmn_device_destroy(device);
}

static void nothing(int sig)
{
}

TEST(signals_that_interrupt_a_caller_change_nothing)
{
	struct sigaction action = { .sa_handler = nothing };
	struct mmn_device *device = new_device(NULL);
	timer_t timer;
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL,
				  .sigev_signo = SIGUSR2 };
	struct itimerspec every = { { 0, 50000 }, { 0, 50000 } };
	int i;

	t_eq(sigaction(SIGUSR2, &action, NULL), 0);
	t_eq(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	t_eq(timer_settime(timer, 0, &every, NULL), 0);
	for (i = 0; i < 2000; i++)
		use(device);
	t_eq(timer_delete(timer), 0);
	mmn_device_destroy(device);
}

static struct mmn_device_map *volatile given_up;

static void give_up(int sig)
{
	let_go(given_up);
	given_up = NULL;
}

TEST(a_signal_handler_can_unmap_in_the_middle_of_anything)
{
	struct sigaction action = { .sa_handler = give_up };
	struct mmn_device *device = new_device(NULL);
	char *memory = new_pages(1);
	timer_t timer;
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL,
				  .sigev_signo = SIGUSR2 };
	int i;

	t_eq(sigaction(SIGUSR2, &action, NULL), 0);
	t_eq(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	for (i = 0; i < 300; i++) {
		struct itimerspec soon = { { 0, 0 },
					   { 0, 1 + i * 7 % 100 * 1000 } };

		given_up = hold_pages(device, memory, 1);
		t_eq(timer_settime(timer, 0, &soon, NULL), 0);
		while (given_up)
			use(device);
	}
	t_eq(timer_delete(timer), 0);
	t_eq(stats_of(device).nr_maps, 0);
	free_pages(memory, 1);
	mmn_device_destroy(device);
}

TEST(a_program_can_change_its_user)
{
	struct mmn_device *device;

	if (getuid())
		t_skip("needs root");
	device = new_device(NULL);
	/* libc asks every thread with a signal and waits for the answers. */
	t_eq(setgid(65534), 0);
	t_eq(setuid(65534), 0);
	use(device);
	mmn_device_destroy(device);
}
