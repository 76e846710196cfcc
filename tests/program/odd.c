/* SPDX-License-Identifier: MIT */
/* One odd thing that programs do, named by the argument. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void busy(void)
{
	size_t bytes = 64 * 4096;
	char *memory;
	int i;

	for (i = 0; i < 100; i++) {
		memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		memset(memory, i, bytes);
		usleep(500);
		munmap(memory, bytes);
	}
}

/* A filter that answers @nr, and kills for everything else in @kill. */
static int filter(unsigned int nr, unsigned int answer)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, answer),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { 4, code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			    SECCOMP_FILTER_FLAG_TSYNC, &program);
}

static void *last_thread(void *arg)
{
	(void)arg;
	busy();
	/* Stays in the buffer until the process ends as it should. */
	fputs("the last thread ends the process", stdout);
	return NULL;
}

static void leave_main(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, last_thread, NULL))
		abort();
	pthread_exit(NULL);
}

static int descriptors(void)
{
	int fd, count = 0;

	for (fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	printf("%d descriptors\n", count);
	return 0;
}

static int close_all(void)
{
	int fd, out = dup(1);

	for (fd = 0; fd < 1024; fd++)
		if (fd != out)
			close(fd);
	busy();
	return write(out, "closed\n", 7) != 7;
}

static int block_all(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	busy();
	puts("blocked");
	return 0;
}

/* Every thread of the process is asked, those that mmn added too. */
static int sandbox(void)
{
	busy();
	if (filter(SYS_futex, SECCOMP_RET_KILL_PROCESS))
		return 1;
	busy();
	return write(1, "sandboxed\n", 10) != 10;
}

static int spawn(void)
{
	char *argv[] = { (char *)"true", NULL };
	int status = -1;
	pid_t pid;

	busy();
	if (posix_spawnp(&pid, "true", NULL, NULL, argv, environ))
		return 1;
	waitpid(pid, &status, 0);
	printf("spawned %d\n", status);
	pid = vfork();
	if (!pid)
		_exit(5);
	waitpid(pid, &status, 0);
	printf("vforked %d\n", WEXITSTATUS(status));
	return 0;
}

/* The child goes on when the parent has ended. */
static int daemonize(void)
{
	int alive[2];
	char byte;

	if (pipe(alive))
		return 1;
	busy();
	if (fork()) {
		close(alive[1]);
		if (read(alive[0], &byte, 1) != 1)
			return 1;
		puts("left alone");
		return 0;
	}
	setsid();
	close(alive[0]);
	usleep(20000);
	busy();
	if (write(alive[1], "x", 1) != 1)
		_exit(1);
	_exit(0);
}

static void *set_user(void *arg)
{
	return (void *)(intptr_t)(setuid(getuid()) || setgid(getgid()));
}

/* libc stops every thread it knows for this. */
static int user(void)
{
	pthread_t thread;
	void *ret;

	if (pthread_create(&thread, NULL, set_user, NULL))
		return 1;
	pthread_join(thread, &ret);
	puts("same user");
	return ret != NULL;
}

static int limits(void)
{
	struct rlimit files = { 16, 16 };
	struct rlimit space = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_NOFILE, &files);
	space.rlim_cur = (rlim_t)1 << 30;
	space.rlim_max = space.rlim_cur;
	setrlimit(RLIMIT_AS, &space);
	busy();
	puts("limited");
	return 0;
}

/* Changes memory of libmmn, all the time and without an effect. */
static int change_arena(void)
{
	void *(*alloc)(size_t) =
		(void *(*)(size_t))dlsym(RTLD_DEFAULT, "mmn_callback_alloc");
	uintptr_t page;
	int i;

	if (!alloc)
		return 1;
	page = (uintptr_t)alloc(16) & ~(uintptr_t)4095;
	for (i = 0; page && i < 400; i++) {
		if (mprotect((void *)page, 4096, PROT_READ | PROT_WRITE))
			return 1;
		usleep(1000);
	}
	return !page;
}

static int no_uring(char **argv)
{
	if (filter(SYS_io_uring_setup, SECCOMP_RET_ERRNO | EPERM))
		return 1;
	execv(argv[0], argv);
	return 1;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "descriptors"))
		return descriptors();
	if (!strcmp(what, "close-all"))
		return close_all();
	if (!strcmp(what, "block-all"))
		return block_all();
	if (!strcmp(what, "sandbox"))
		return sandbox();
	if (!strcmp(what, "spawn"))
		return spawn();
	if (!strcmp(what, "daemon"))
		return daemonize();
	if (!strcmp(what, "user"))
		return user();
	if (!strcmp(what, "limits"))
		return limits();
	if (!strcmp(what, "change-arena"))
		return change_arena();
	if (!strcmp(what, "no-uring"))
		return no_uring(argv + 2);
	if (!strcmp(what, "leave-main"))
		leave_main();
	if (!strcmp(what, "abort"))
		abort();
	if (!strcmp(what, "exit-busy")) {
		busy();
		_exit(9);
	}
	return 77;
}
