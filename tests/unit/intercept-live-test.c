/* SPDX-License-Identifier: MIT */
/*
 * Rewriting a program that runs: threads at the places, registers, install and
 * remove, errors, and what the debug build says.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <mmn/debug.h>
#include <mmn/dma-fence.h>
#include <mmn/inject.h>
#include <mmn/notifier.h>
#include <mmn/source.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "t/tap.h"
#include "unit/answer-syscall.h"

#define PAGE 4096ul
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define NR_THREADS 4

/* Linux 6.3: memory that was writable never becomes executable. */
#define SET_MDWE 65

static struct mmn_state *state;

/* A range subscriber that counts. */
struct counter {
	struct mmn_range_subscription sub;
	uint32_t calls;
	/* what the callback does besides */
	void (*also)(const struct mmn_invalidate_desc *desc);
};

static bool count_call(struct mmn_range_subscription *sub,
		       const struct mmn_invalidate_desc *desc, uint64_t seq)
{
	struct counter *counter = (struct counter *)sub;

	mmn_range_set_seq(sub, seq);
	mmn_fetch_add_relaxed(&counter->calls, 1);
	if (counter->also)
		counter->also(desc);
	return true;
}

static const struct mmn_range_ops counter_ops = { .invalidate = count_call };

static void counter_insert(struct counter *counter, const void *start,
			   size_t length)
{
	const struct mmn_range_config config = {
		.size = sizeof(config),
		.ops = &counter_ops,
		.lock = mmn_driver_no_lock(),
	};
	uintptr_t from = (uintptr_t)start;

	memset(counter, 0, sizeof(*counter));
	t_err(mmn_range_subscription_init(&counter->sub, &config), 0);
	t_err(mmn_range_subscription_insert(&counter->sub, state, from,
					    length ? from + length - 1
						   : UINTPTR_MAX),
	      0);
}

static void intercept(void)
{
	t_may_keep_mapped(4 << 20, "stubs and the arena stay");
	t_err(mmn_state_create(&state), 0);
	t_err(mmn_intercept_start(state, NULL, NULL), 0);
}

static void release(void)
{
	t_err(mmn_intercept_stop(), 0);
	mmn_state_put(state);
}

static void *map_page(void)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, ANON, -1, 0);

	t_ne(p, MAP_FAILED);
	return p;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- registers ---- */

/* general registers, flags, sixteen vector registers, the red zone */
#define NR_GENERAL 13
#define NR_RED_ZONE 16

extern uint64_t probe_general[2][NR_GENERAL];
extern uint64_t probe_flags[2];
extern uint8_t probe_vector[2][16][32];
extern uint64_t probe_red[2][NR_RED_ZONE];
extern uint64_t probe_x87[2];
extern uint32_t probe_mxcsr[2];
extern uint64_t probe_has_avx;
long probe_munmap(void *p, unsigned long length);

uint64_t probe_general[2][NR_GENERAL];
uint64_t probe_flags[2];
uint8_t probe_vector[2][16][32];
uint64_t probe_red[2][NR_RED_ZONE];
uint64_t probe_x87[2];
uint32_t probe_mxcsr[2];
uint64_t probe_has_avx;

/*
 * Fills every register that a system call keeps, makes the call, and writes down
 * what is in them afterwards.  rdi and rsi are the arguments.
 */
__asm__(".text\n"
	".type probe_munmap, @function\n"
	"probe_munmap:\n"
	"	.cfi_startproc\n"
	"	push %rbx\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	push %rbp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	push %r12\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	push %r13\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	push %r14\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	push %r15\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	cmpq $0, probe_has_avx(%rip)\n"
	"	lea probe_vector(%rip), %rax\n"
	"	je 1f\n"

	"	.irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"	vmovdqu \\r*32(%rax), %ymm\\r\n"
	"	.endr\n"
	"	jmp 2f\n"
	"1:\n"
	"	.irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"	movdqu \\r*32(%rax), %xmm\\r\n"
	"	.endr\n"
	"2:	fninit\n"
	"	fildll probe_x87(%rip)\n"
	"	ldmxcsr probe_mxcsr(%rip)\n"
	"	lea probe_red(%rip), %rax\n"
	"	.irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"	mov \\r*8(%rax), %rcx\n"
	"	mov %rcx, -128+\\r*8(%rsp)\n"
	"	.endr\n"
	"	lea probe_general(%rip), %rax\n"
	"	mov %rdi, 88(%rax)\n"
	"	mov %rsi, 96(%rax)\n"
	"	mov 0(%rax), %rbx\n"
	"	mov 8(%rax), %rbp\n"
	"	mov 16(%rax), %r12\n"
	"	mov 24(%rax), %r13\n"
	"	mov 32(%rax), %r14\n"
	"	mov 40(%rax), %r15\n"
	"	mov 48(%rax), %rdx\n"
	"	mov 56(%rax), %r8\n"
	"	mov 64(%rax), %r9\n"
	"	mov 72(%rax), %r10\n"
	"	mov %rsp, 80(%rax)\n"
	/* the flags come from a byte for sahf and one for overflow */
	"	mov probe_flags(%rip), %eax\n"
	"	add $0x7f, %al\n"
	"	sahf\n"
	"	mov $11, %eax\n"
	"	syscall\n"
	"	mov %rax, %rcx\n"
	"	lahf\n"
	"	seto %al\n"
	"	movzx %ax, %eax\n"
	"	mov %rax, probe_flags+8(%rip)\n"
	"	lea probe_general+104(%rip), %rax\n"
	"	mov %rbx, 0(%rax)\n"
	"	mov %rbp, 8(%rax)\n"
	"	mov %r12, 16(%rax)\n"
	"	mov %r13, 24(%rax)\n"
	"	mov %r14, 32(%rax)\n"
	"	mov %r15, 40(%rax)\n"
	"	mov %rdx, 48(%rax)\n"
	"	mov %r8, 56(%rax)\n"
	"	mov %r9, 64(%rax)\n"
	"	mov %r10, 72(%rax)\n"
	"	mov %rsp, 80(%rax)\n"
	"	mov %rdi, 88(%rax)\n"
	"	mov %rsi, 96(%rax)\n"
	"	mov %rcx, %rdx\n"
	"	lea probe_red+128(%rip), %rax\n"
	"	.irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"	mov -128+\\r*8(%rsp), %rcx\n"
	"	mov %rcx, \\r*8(%rax)\n"
	"	.endr\n"
	"	fistpll probe_x87+8(%rip)\n"
	"	stmxcsr probe_mxcsr+4(%rip)\n"
	"	cmpq $0, probe_has_avx(%rip)\n"
	"	lea probe_vector+512(%rip), %rax\n"
	"	je 3f\n"
	"	.irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"	vmovdqu %ymm\\r, \\r*32(%rax)\n"
	"	.endr\n"
	"	vzeroupper\n"
	"	jmp 4f\n"
	"3:\n"
	"	.irp r, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"	movdqu %xmm\\r, \\r*32(%rax)\n"
	"	.endr\n"
	"4:	mov %rdx, %rax\n"
	"	fninit\n"
	"	movl $0x1f80, -8(%rsp)\n"
	"	ldmxcsr -8(%rsp)\n"
	"	pop %r15\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	pop %r14\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	pop %r13\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	pop %r12\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	pop %rbp\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	pop %rbx\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	ret\n"
	"	.cfi_endproc\n"
	"	.size probe_munmap, . - probe_munmap\n");

static volatile double disturbed = 1.5;

/* Uses vector and x87 registers, and the stack. */
static void disturb(const struct mmn_invalidate_desc *desc)
{
	volatile char room[2048];
	long double x = (long double)desc->start;

	memset((char *)room, 0x55, sizeof(room));
	disturbed = (double)(x * 3.25L) + disturbed * 1.1;
}

static void check_registers(uint8_t flags_low, uint8_t overflow)
{
	uint8_t *bytes = &probe_vector[0][0][0];
	void *p = map_page();
	size_t i;

	probe_has_avx = __builtin_cpu_supports("avx");
	memset(probe_vector, 0, sizeof(probe_vector));
	for (i = 0; i < sizeof(probe_vector[0]); i++)
		if (probe_has_avx || i % 32 < 16)
			bytes[i] = (uint8_t)(i * 37 + 11);
	for (i = 0; i < NR_GENERAL; i++)
		probe_general[0][i] = 0x1111111111111111ull * (i + 1);
	for (i = 0; i < NR_RED_ZONE; i++)
		probe_red[0][i] = 0x0123456789abcdefull ^ (i << 8);
	probe_x87[0] = 123456789;
	/* rounds towards zero */
	probe_mxcsr[0] = 0x7f80;
	probe_flags[0] = (uint64_t)flags_low << 8 | overflow;

	t_eq(probe_munmap(p, PAGE), 0);
	t_memeq(probe_general[0], probe_general[1], sizeof(probe_general[0]));
	t_memeq(probe_red[0], probe_red[1], sizeof(probe_red[0]));
	t_memeq(probe_vector[0], probe_vector[1], sizeof(probe_vector[0]));
	t_eq(probe_x87[0], probe_x87[1]);
	t_eq(probe_mxcsr[0], probe_mxcsr[1]);
	/* bit 1 is always set */
	t_eq(probe_flags[1], (uint64_t)(flags_low | 2) << 8 | overflow);
}

TEST(a_change_that_hits_keeps_every_register_and_the_red_zone)
{
	struct counter counter;

	intercept();
	counter_insert(&counter, NULL, 0);
	counter.also = disturb;
	check_registers(0xd5, 1);
	check_registers(0x00, 0);
	check_registers(0x41, 0);
	check_registers(0x84, 1);
	t_ge(counter.calls, 4);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
	release();
}

TEST(a_change_that_misses_keeps_every_register_and_the_red_zone)
{
	intercept();
	check_registers(0xd5, 1);
	check_registers(0x00, 0);
	release();
}

TEST(a_call_without_the_source_keeps_every_register)
{
	check_registers(0xd5, 1);
}

/* ---- install and remove ---- */

static int sum_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	uint64_t *sum = arg;
	const uint8_t *bytes;
	size_t i, j;

	(void)size;
	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_X))
			continue;
		bytes = (const uint8_t *)info->dlpi_addr + ph->p_vaddr;
		for (j = 0; j < ph->p_filesz; j++)
			*sum = *sum * 31 + bytes[j];
	}
	return 0;
}

/* Of all code of the process. */
static uint64_t sum_code(void)
{
	uint64_t sum = 0;

	dl_iterate_phdr(sum_object, &sum);
	return sum;
}

TEST(every_byte_is_back_after_a_stop_and_a_second_start_works)
{
	uint64_t before = sum_code(), on;
	struct counter counter;
	int i;

	for (i = 0; i < 5; i++) {
		intercept();
		on = sum_code();
		t_ne(on, before);
		counter_insert(&counter, NULL, 0);
		munmap(map_page(), PAGE);
		t_ge(counter.calls, 1);
		t_err(mmn_range_subscription_remove(&counter.sub), 0);
		release();
		t_eq(sum_code(), before);
	}
}

TEST(no_mapping_is_left_writable_and_executable)
{
	char line[512];
	FILE *maps;
	bool bad = false;

	intercept();
	maps = fopen("/proc/self/maps", "r");
	while (fgets(line, sizeof(line), maps))
		if (strstr(line, " rwx"))
			bad = true;
	fclose(maps);
	t_ok(!bad);
	release();
}

static bool stop_hammering;
static uint64_t hammered;

static void *hammer(void *block_signals)
{
	sigset_t all;
	uint64_t n = 0;
	void *p;

	if (block_signals) {
		sigfillset(&all);
		pthread_sigmask(SIG_BLOCK, &all, NULL);
	}
	while (!mmn_load_relaxed(&stop_hammering)) {
		t_eq(munmap((void *)1, 1), -1);
		t_eq(errno, EINVAL);
		p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, ANON, -1, 0);
		t_ne(p, MAP_FAILED);
		t_eq(mprotect(p, PAGE, PROT_READ), 0);
		t_eq(madvise(p, PAGE, MADV_DONTNEED), 0);
		t_eq(syscall(SYS_munmap, p, PAGE), 0);
		n++;
	}
	mmn_fetch_add_relaxed(&hammered, n);
	return NULL;
}

TEST(code_is_rewritten_under_running_threads, .timeout = 60)
{
	pthread_t thread[NR_THREADS];
	uint64_t before = sum_code(), end = now_ms() + 1500;
	struct mmn_intercept_report report = { .size = sizeof(report) };
	struct counter counter;
	uintptr_t i;
	int cycles;

	t_may_keep_mapped(64 << 20, "stacks of threads");
	for (i = 0; i < NR_THREADS; i++)
		t_err(pthread_create(&thread[i], NULL, hammer, (void *)(i % 2)),
		      0);
	for (cycles = 0; now_ms() < end; cycles++) {
		t_err(mmn_state_create(&state), 0);
		t_err(mmn_intercept_start(state, NULL, &report), 0);
		t_eq(report.was_live, 1);
		t_eq(report.write_mode, MMN_WRITE_MPROTECT);
		counter_insert(&counter, NULL, 0);
		while (!mmn_load_relaxed(&counter.calls))
			sched_yield();
		t_err(mmn_range_subscription_remove(&counter.sub), 0);
		t_err(mmn_intercept_stop(), 0);
		mmn_state_put(state);
	}
	mmn_store_relaxed(&stop_hammering, true);
	for (i = 0; i < NR_THREADS; i++)
		t_err(pthread_join(thread[i], NULL), 0);
	t_eq(sum_code(), before);
	t_gt(hammered, 0);
	t_note("%d cycles under %d threads", cycles, NR_THREADS);
}

TEST(the_report_tells_what_was_found)
{
	struct mmn_intercept_report report = { .size = sizeof(report) };
	struct mmn_intercept_object object = { .size = sizeof(object) };
	bool has_libc = false, has_ld = false;
	uint32_t i, patched = 0;

	t_may_keep_mapped(4 << 20, "stubs and the arena stay");
	t_err(mmn_state_create(&state), 0);
	t_err(mmn_intercept_start(state, NULL, &report), 0);
	t_ge(report.nr_objects, 3);
	t_ge(report.nr_patched, 20);
	t_eq(report.nr_patched + report.nr_refused, report.nr_found);
	t_eq(report.nr_refused, 0);
	t_eq(report.was_live, 0);
	t_eq(report.write_mode, MMN_WRITE_PROC_MEM);
	t_gt(report.install_ns, 0);
	t_note("%u places in %u objects, %u unknown, %lu us", report.nr_patched,
	       report.nr_objects, report.nr_unknown,
	       (unsigned long)report.install_ns / 1000);
	for (i = 0; !mmn_intercept_get_object(i, &object); i++) {
		patched += object.nr_patched;
		has_libc = has_libc || strstr(object.name, "libc.so");
		has_ld = has_ld || strstr(object.name, "ld-linux");
		t_le(object.start, object.last);
	}
	t_ok(has_libc);
	t_ok(has_ld);
	t_eq(patched, report.nr_patched);
	t_err(mmn_intercept_get_report(&report), 0);
	t_eq(report.nr_patched, patched);
	release();
}

TEST(an_object_loaded_later_is_followed)
{
	struct mmn_intercept_report before = { .size = sizeof(before) }, after;
	long (*site_munmap)(void *p, unsigned long length);
	struct counter counter;
	void *handle, *p;
	int i;

	intercept();
	t_err(mmn_intercept_get_report(&before), 0);
	for (i = 0; i < 3; i++) {
		handle = dlopen(SITE_LIB, RTLD_NOW);
		t_ok(handle);
		*(void **)&site_munmap = dlsym(handle, "site_munmap");
		t_ok(site_munmap);
		after.size = sizeof(after);
		t_err(mmn_intercept_get_report(&after), 0);
		t_eq(after.nr_patched, before.nr_patched + 1);
		p = map_page();
		counter_insert(&counter, p, PAGE);
		t_eq(site_munmap(p, PAGE), 0);
		t_eq(counter.calls, 1);
		t_err(mmn_range_subscription_remove(&counter.sub), 0);
		t_err(dlclose(handle), 0);
	}
	release();
}

/* A second object like SITE_LIB: another file, so that ld.so tells them apart. */
static int copy_site_lib(char path[32])
{
	int from = open(SITE_LIB, O_RDONLY | O_CLOEXEC);
	int fd = memfd_create("site", 0);
	static char bytes[1 << 20];
	ssize_t got;

	t_ge(from, 0);
	t_ge(fd, 0);
	got = read(from, bytes, sizeof(bytes));
	t_ok(got > 0 && got < (ssize_t)sizeof(bytes));
	t_eq(write(fd, bytes, (size_t)got), got);
	close(from);
	snprintf(path, 32, "/proc/self/fd/%d", fd);
	return fd;
}

static void check_site(void *handle)
{
	long (*site_munmap)(void *p, unsigned long length);
	struct counter counter;
	void *p = map_page();

	*(void **)&site_munmap = dlsym(handle, "site_munmap");
	t_ok(site_munmap);
	counter_insert(&counter, p, PAGE);
	t_eq(site_munmap(p, PAGE), 0);
	t_eq(counter.calls, 1);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
}

TEST(an_object_that_comes_back_is_followed_whatever_was_loaded_since)
{
	void *first, *second;
	char path[32];
	int fd, i;

	intercept();
	fd = copy_site_lib(path);
	first = dlopen(SITE_LIB, RTLD_NOW);
	second = dlopen(path, RTLD_NOW);
	t_ok(first && second);
	check_site(first);
	check_site(second);
	for (i = 0; i < 2; i++) {
		/* most likely to where it was */
		t_err(dlclose(first), 0);
		first = dlopen(SITE_LIB, RTLD_NOW);
		t_ok(first);
		check_site(first);
	}
	t_err(dlclose(first), 0);
	t_err(dlclose(second), 0);
	close(fd);
	release();
}

TEST(no_object_is_one_too_many)
{
	struct mmn_intercept_report before = { .size = sizeof(before) }, after;
	enum { NR = 300 };
	void *handle[NR];
	char path[32];
	int fd[NR], i;

	t_may_keep_mapped(64 << 20, "stubs of many objects stay");
	intercept();
	t_err(mmn_intercept_get_report(&before), 0);
	for (i = 0; i < NR; i++) {
		/* by its number ld.so would take the next one for it */
		fd[i] = copy_site_lib(path);
		handle[i] = dlopen(path, RTLD_NOW);
		t_ok(handle[i]);
	}
	after.size = sizeof(after);
	t_err(mmn_intercept_get_report(&after), 0);
	t_eq(after.nr_found, before.nr_found + NR);
	t_eq(after.nr_patched, before.nr_patched + NR);
	check_site(handle[NR - 1]);
	check_site(handle[NR - 2]);
	for (i = 0; i < NR; i++) {
		t_err(dlclose(handle[i]), 0);
		close(fd[i]);
	}
	release();
}

static uint32_t may_end;

static void *wait_for_end(void *arg)
{
	/* acquire: what came before the end */
	while (!mmn_load_acquire(&may_end))
		usleep(1000);
	return arg;
}

TEST(memory_where_an_object_was_keeps_its_protection)
{
	volatile char *p;
	pthread_t thread;
	void *handle;
	int i;

	intercept();
	for (i = 0; i < 2; i++) {
		handle = dlopen(SITE_LIB, RTLD_NOW);
		t_ok(handle);
		check_site(handle);
		p = (char *)((uintptr_t)dlsym(handle, "site_munmap") &
			     ~(PAGE - 1));
		t_err(dlclose(handle), 0);
		t_eq(mmap((void *)p, PAGE, PROT_READ | PROT_WRITE,
			  ANON | MAP_FIXED, -1, 0),
		     p);
		/* with one thread, and with two */
		if (i)
			t_err(pthread_create(&thread, NULL, wait_for_end, NULL),
			      0);
		release();
		*p = 7;
		t_eq(*p, 7);
		munmap((void *)p, PAGE);
		if (!i)
			intercept();
	}
	mmn_store_release(&may_end, 1);
	t_err(pthread_join(thread, NULL), 0);
}

/* A file that is mapped as it is, not as a copy. */
TEST(code_of_shared_mappings_is_not_written)
{
	static char before[1 << 20], after[1 << 20];
	const ElfW(Ehdr) *head = (const void *)before;
	const ElfW(Phdr) * ph;
	char path[32];
	ssize_t size;
	size_t i;
	void *p;
	int fd;

	intercept();
	fd = copy_site_lib(path);
	size = pread(fd, before, sizeof(before), 0);
	t_ok(size > 0);
	ph = (const void *)(before + head->e_phoff);
	for (i = 0; i < head->e_phnum; i++) {
		if (ph[i].p_type != PT_LOAD || !(ph[i].p_flags & PF_X))
			continue;
		p = mmap(NULL, ph[i].p_filesz + ph[i].p_offset % PAGE,
			 PROT_READ | PROT_EXEC, MAP_SHARED, fd,
			 (off_t)(ph[i].p_offset & ~(PAGE - 1)));
		t_ne(p, MAP_FAILED);
		munmap(p, ph[i].p_filesz + ph[i].p_offset % PAGE);
	}
	t_eq(pread(fd, after, sizeof(after), 0), size);
	t_memeq(after, before, (size_t)size);
	close(fd);
	release();
}

TEST(an_object_loaded_later_is_left_alone_when_asked)
{
	struct mmn_intercept_options options = {
		.size = sizeof(options),
		.flags = MMN_INTERCEPT_NO_FOLLOW,
	};
	long (*site_munmap)(void *p, unsigned long length);
	struct counter counter;
	void *handle, *p;

	t_may_keep_mapped(4 << 20, "stubs and the arena stay");
	t_err(mmn_state_create(&state), 0);
	t_err(mmn_intercept_start(state, &options, NULL), 0);
	handle = dlopen(SITE_LIB, RTLD_NOW);
	t_ok(handle);
	*(void **)&site_munmap = dlsym(handle, "site_munmap");
	p = map_page();
	counter_insert(&counter, p, PAGE);
	t_eq(site_munmap(p, PAGE), 0);
	t_eq(counter.calls, 0);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
	t_err(dlclose(handle), 0);
	release();
}

TEST(a_place_that_somebody_else_rewrote_is_left_to_them)
{
	uint8_t *at = dlsym(RTLD_DEFAULT, "shmdt");
	static const uint8_t nops[5] = { 0x90, 0x90, 0x90, 0x90, 0x90 };
	uintptr_t page = (uintptr_t)at & ~(PAGE - 1);

	t_ok(at);
	intercept();
	t_eq(at[0], 0xe9);
	t_err(mprotect((void *)page, 2 * PAGE,
		       PROT_READ | PROT_WRITE | PROT_EXEC),
	      0);
	memcpy(at, nops, sizeof(nops));
	release();
	t_memeq(at, nops, sizeof(nops));
}

/* ---- who waits for whom ---- */

static uint32_t in_callback, go_on;

static void wait_in_callback(const struct mmn_invalidate_desc *desc)
{
	(void)desc;
	mmn_store_relaxed(&in_callback, 1);
	while (!mmn_load_relaxed(&go_on))
		sched_yield();
}

static void *unmap_page(void *p)
{
	munmap(p, PAGE);
	return NULL;
}

TEST(a_change_elsewhere_does_not_wait_for_a_callback)
{
	struct counter counter;
	pthread_t thread;
	void *p;

	intercept();
	p = map_page();
	counter_insert(&counter, p, PAGE);
	counter.also = wait_in_callback;
	t_err(pthread_create(&thread, NULL, unmap_page, p), 0);
	while (!mmn_load_relaxed(&in_callback))
		sched_yield();
	munmap(map_page(), PAGE);
	t_eq(counter.calls, 1);
	mmn_store_relaxed(&go_on, 1);
	t_err(pthread_join(thread, NULL), 0);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
	release();
}

/* What an observer has seen of the page that goes. */
struct page_events {
	const void *page;
	uint32_t nr;
};

static void count_event(void *arg, const struct mmn_call_event *event)
{
	struct page_events *events = arg;

	if (event->start == (uintptr_t)events->page)
		mmn_fetch_add_relaxed(&events->nr, 1);
}

static void intercept_for(struct mmn_state *whom, struct page_events *events)
{
	const struct mmn_intercept_options options = {
		.size = sizeof(options),
		.observe = count_event,
		.observe_arg = events,
		.observe_calls = 1u << MMN_CALL_MUNMAP,
	};

	t_err(mmn_intercept_start(whom, &options, NULL), 0);
}

/* Also when it has been started again for somebody else meanwhile. */
TEST(a_stop_waits_for_changes_under_way)
{
	struct page_events first = { 0 }, second = { 0 };
	struct mmn_state *other;
	struct counter counter;
	pthread_t thread;
	void *p = map_page();

	t_may_keep_mapped(4 << 20, "stubs and the arena stay");
	first.page = second.page = p;
	t_err(mmn_state_create(&state), 0);
	t_err(mmn_state_create(&other), 0);
	intercept_for(state, &first);
	counter_insert(&counter, p, PAGE);
	counter.also = wait_in_callback;
	t_err(pthread_create(&thread, NULL, unmap_page, p), 0);
	while (!mmn_load_relaxed(&in_callback))
		sched_yield();
	t_err(mmn_intercept_stop(), -ETIMEDOUT);
	t_err(mmn_intercept_stop(), -ENOENT);
	intercept_for(other, &second);
	mmn_store_relaxed(&go_on, 1);
	t_err(pthread_join(thread, NULL), 0);
	t_eq(first.nr, 1);
	t_eq(second.nr, 0);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
	t_err(mmn_intercept_stop(), 0);
	mmn_state_put(other);
	mmn_state_put(state);
}

/* ---- under load ---- */

static void *churn(void *arg)
{
	uint64_t end = now_ms() + 1000;
	unsigned int seed = (unsigned int)(uintptr_t)arg;
	char *block[64] = { NULL };
	uint64_t n = 0;

	for (; now_ms() < end; n++) {
		size_t i = (size_t)rand_r(&seed) % 64;
		size_t size = 1ul << (rand_r(&seed) % 21);

		free(block[i]);
		block[i] = malloc(size);
		block[i][0] = block[i][size - 1] = 1;
		if (n % 16 == 0)
			block[i] = realloc(block[i], size * 2);
	}
	for (n = 0; n < 64; n++)
		free(block[n]);
	return NULL;
}

TEST(threads_that_allocate_a_lot_are_followed_without_a_crash)
{
	struct counter counter;
	pthread_t thread[NR_THREADS];
	uintptr_t i;

	t_may_keep_mapped(512 << 20, "heaps of threads");
	intercept();
	counter_insert(&counter, NULL, 0);
	for (i = 0; i < NR_THREADS; i++)
		t_err(pthread_create(&thread[i], NULL, churn, (void *)(i + 1)),
		      0);
	for (i = 0; i < NR_THREADS; i++)
		t_err(pthread_join(thread[i], NULL), 0);
	t_gt(counter.calls, 0);
	t_note("%u changes", counter.calls);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
	release();
}

TEST(forks_under_load_leave_working_children, .timeout = 60)
{
	struct counter counter;
	pthread_t thread[NR_THREADS];
	int status, n;
	uintptr_t i;
	pid_t pid;

	t_may_keep_mapped(512 << 20, "heaps of threads");
	intercept();
	counter_insert(&counter, NULL, 0);
	for (i = 0; i < NR_THREADS; i++)
		t_err(pthread_create(&thread[i], NULL, churn, (void *)(i + 1)),
		      0);
	for (n = 0; n < 60; n++) {
		pid = fork();
		if (!pid) {
			char *p = malloc(1 << 20);

			munmap(map_page(), PAGE);
			free(p);
			_exit(mmn_range_read_begin(&counter.sub) == 0 ? 0 : 1);
		}
		t_gt(pid, 0);
		t_eq(waitpid(pid, &status, 0), pid);
		t_eq(status, 0);
	}
	for (i = 0; i < NR_THREADS; i++)
		t_err(pthread_join(thread[i], NULL), 0);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
	release();
}

static sigjmp_buf jump;
static volatile sig_atomic_t may_jump;

static void jump_out(int sig)
{
	(void)sig;
	if (may_jump)
		siglongjmp(jump, 1);
}

TEST(calls_that_a_signal_handler_leaves_by_a_jump_do_not_stay_open)
{
	struct itimerval often = { { 0, 700 }, { 0, 700 } }, never = { 0 };
	struct mmn_intercept_stats stats = { .size = sizeof(stats) };
	struct sigaction action = { .sa_handler = jump_out };
	uint64_t end = now_ms() + 400, seq;
	struct counter counter;
	volatile int jumps = 0;
	int stopped;

	t_may_keep_mapped(256 << 20, "what a jump left mapped");
	intercept();
	t_err(sigaction(SIGALRM, &action, NULL), 0);
	t_err(setitimer(ITIMER_REAL, &often, NULL), 0);
	if (sigsetjmp(jump, 1))
		jumps++;
	while (now_ms() < end) {
		may_jump = 1;
		munmap((void *)(16 * PAGE), PAGE);
		madvise((void *)(16 * PAGE), PAGE, MADV_DONTNEED);
		may_jump = 0;
	}
	t_err(setitimer(ITIMER_REAL, &never, NULL), 0);
	/* the next call of this thread finds what was left */
	munmap((void *)(16 * PAGE), PAGE);
	counter_insert(&counter, NULL, 0);
	t_err(mmn_range_read_begin_timed(&counter.sub,
					 (now_ms() + 1000) * 1000000, &seq),
	      0);
	t_err(mmn_intercept_get_stats(&stats), 0);
	t_note("%d jumps, %lu of them out of a call", jumps,
	       (unsigned long)stats.abandoned);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
	/* one that was left just while it was being counted stays counted */
	stopped = mmn_intercept_stop();
	t_ok(!stopped || stopped == -ETIMEDOUT);
	mmn_state_put(state);
}

/* The next call of this thread, whatever it is, finds what was left. */
static void check_nothing_is_open(void)
{
	struct counter counter;
	uint64_t seq;

	munmap((void *)(16 * PAGE), PAGE);
	counter_insert(&counter, NULL, 0);
	t_err(mmn_range_read_begin_try(&counter.sub, &seq), 0);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
}

TEST(a_fork_that_a_signal_handler_leaves_by_a_jump_does_not_stay_open)
{
	struct itimerval often = { { 0, 300 }, { 0, 300 } }, never = { 0 };
	struct sigaction action = { .sa_handler = jump_out };
	uint64_t end = now_ms() + 400;
	int stopped;

	intercept();
	t_err(sigaction(SIGALRM, &action, NULL), 0);
	t_err(setitimer(ITIMER_REAL, &often, NULL), 0);
	if (sigsetjmp(jump, 1)) {
		may_jump = 0;
		check_nothing_is_open();
	}
	while (now_ms() < end) {
		may_jump = 1;
		/* the kernel refuses it before it does anything */
		syscall(SYS_clone, CLONE_SIGHAND, 0, 0, 0, 0);
		may_jump = 0;
	}
	t_err(setitimer(ITIMER_REAL, &never, NULL), 0);
	/* one that was left just while it was being counted stays counted */
	stopped = mmn_intercept_stop();
	t_ok(!stopped || stopped == -ETIMEDOUT);
	mmn_state_put(state);
}

/* 1: the thread may begin its section; 2: it has ended. */
static uint32_t section;

static void await_section(uint32_t step)
{
	/* acquire: what came before the step */
	while (mmn_load_acquire(&section) < step)
		sched_yield();
}

static void *first_section(void *arg)
{
	await_section(1);
	dma_fence_read_begin();
	dma_fence_read_end();
	mmn_store_release(&section, 2);
	return arg;
}

/* As a device's thread may, which signals what the change waits for. */
static void wait_for_first_section(const struct mmn_invalidate_desc *desc)
{
	/* A fork changes everything. */
	if (desc->start || desc->last != UINTPTR_MAX)
		return;
	mmn_store_release(&section, 1);
	await_section(2);
}

TEST(a_fork_may_wait_for_the_first_read_section_of_a_thread)
{
	struct counter counter;
	pthread_t thread;
	pid_t pid;

	intercept();
	t_err(pthread_create(&thread, NULL, first_section, NULL), 0);
	counter_insert(&counter, NULL, 0);
	counter.also = wait_for_first_section;
	pid = fork();
	counter.also = NULL;
	if (!pid)
		_exit(0);
	t_gt(pid, 0);
	t_eq(waitpid(pid, NULL, 0), pid);
	t_err(pthread_join(thread, NULL), 0);
	t_eq(section, 2);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
	t_err(mmn_intercept_stop(), 0);
	mmn_state_put(state);
}

TEST(an_abandoned_change_is_closed_wherever_it_was_left)
{
	struct mmn_invalidate_desc desc;
	struct counter counter, later;
	uint64_t seq;

	intercept();
	counter_insert(&counter, NULL, 0);
	/* never opened */
	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, PAGE,
				 2 * PAGE - 1);
	mmn_invalidate_abandon(&desc);
	/* opened, not notified; and a reader that came to depend on it */
	t_ok(mmn_invalidate_open(&desc));
	counter_insert(&later, NULL, 0);
	t_err(mmn_range_read_begin_try(&later.sub, &seq), -EAGAIN);
	mmn_invalidate_abandon(&desc);
	t_err(mmn_range_read_begin_try(&later.sub, &seq), 0);
	t_err(mmn_range_read_begin_try(&counter.sub, &seq), 0);
	/* closed, and ready for another change */
	mmn_invalidate_abandon(&desc);
	t_err(mmn_invalidate_start(&desc), 0);
	t_err(mmn_invalidate_end(&desc), 0);
	mmn_invalidate_abandon(&desc);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
	t_err(mmn_range_subscription_remove(&later.sub), 0);
	release();
}

/* ---- observers and counters ---- */

static struct mmn_call_event last_event[MMN_NR_CALLS];
static volatile uint32_t nr_events[MMN_NR_CALLS];

static void remember(void *arg, const struct mmn_call_event *event)
{
	t_eq(arg, last_event);
	last_event[event->call] = *event;
	nr_events[event->call]++;
}

TEST(an_observer_is_told_of_changes_and_of_new_mappings)
{
	struct mmn_intercept_options options = {
		.size = sizeof(options),
		.observe = remember,
		.observe_arg = last_event,
		.observe_calls = 1u << MMN_CALL_MUNMAP | 1u << MMN_CALL_MAP |
				 1u << MMN_CALL_FORK,
	};
	int status;
	pid_t pid;
	char *p;

	t_may_keep_mapped(4 << 20, "stubs and the arena stay");
	t_err(mmn_state_create(&state), 0);
	t_err(mmn_intercept_start(state, &options, NULL), 0);
	p = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, ANON, -1, 0);
	t_eq(nr_events[MMN_CALL_MAP], 1);
	t_eq(last_event[MMN_CALL_MAP].start, (uintptr_t)p);
	t_eq(last_event[MMN_CALL_MAP].last, (uintptr_t)p + 3 * PAGE - 1);
	t_eq(last_event[MMN_CALL_MAP].result, (intptr_t)p);
	madvise(p, PAGE, MADV_DONTNEED);
	t_eq(nr_events[MMN_CALL_MADVISE], 0);
	munmap(p, 3 * PAGE);
	t_eq(nr_events[MMN_CALL_MUNMAP], 1);
	t_eq(last_event[MMN_CALL_MUNMAP].start, (uintptr_t)p);
	t_eq(last_event[MMN_CALL_MUNMAP].result, 0);
	t_gt(last_event[MMN_CALL_MUNMAP].ns, 0);
	pid = fork();
	if (!pid)
		_exit(0);
	t_eq(nr_events[MMN_CALL_FORK], 1);
	t_eq(last_event[MMN_CALL_FORK].result, pid);
	t_eq(waitpid(pid, &status, 0), pid);
	release();
}

TEST(changes_are_counted_by_kind)
{
	struct mmn_intercept_stats a = { .size = sizeof(a) }, b;
	struct counter counter;
	void *p;

	intercept();
	p = map_page();
	t_err(mmn_intercept_get_stats(&a), 0);
	mprotect(p, PAGE, PROT_READ);
	counter_insert(&counter, p, PAGE);
	madvise(p, PAGE, MADV_DONTNEED);
	munmap(p, PAGE);
	b.size = sizeof(b);
	t_err(mmn_intercept_get_stats(&b), 0);
	t_eq(b.calls[MMN_CALL_MPROTECT], a.calls[MMN_CALL_MPROTECT] + 1);
	t_eq(b.calls[MMN_CALL_MADVISE], a.calls[MMN_CALL_MADVISE] + 1);
	t_eq(b.calls[MMN_CALL_MUNMAP], a.calls[MMN_CALL_MUNMAP] + 1);
	t_eq(b.hits, a.hits + 2);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
	release();
}

TEST(names_exist_for_every_call_and_check)
{
	uint32_t i;

	for (i = 0; i < MMN_NR_CALLS; i++)
		t_ok(mmn_call_name(i));
	t_ok(!mmn_call_name(MMN_NR_CALLS));
	for (i = 0; i < MMN_NR_CHECKS; i++)
		t_ok(mmn_check_name(i));
	t_ok(!mmn_check_name(MMN_NR_CHECKS));
	t_streq(mmn_call_name(MMN_CALL_MUNMAP), "munmap");
	t_streq(mmn_check_name(MMN_CHECK_FREE), "free");
}

/* ---- the self-check ---- */

static void *sleep_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void check_self(bool threads)
{
	struct mmn_intercept_options options = {
		.size = sizeof(options),
		.flags = MMN_INTERCEPT_SELF_CHECK,
	};
	struct mmn_intercept_report report = { .size = sizeof(report) };
	uint32_t i, delivered = 0;
	pthread_t thread;

	t_may_keep_mapped(64 << 20, "stubs, stacks and heaps stay");
	if (threads)
		t_err(pthread_create(&thread, NULL, sleep_for_ever, NULL), 0);
	t_err(mmn_state_create(&state), 0);
	t_err(mmn_intercept_start(state, &options, &report), 0);
	for (i = 0; i < MMN_NR_CHECKS; i++) {
		if (report.check[i] == MMN_CHECK_MISSING)
			t_fail("%s is missing", mmn_check_name(i));
		if (report.check[i] == MMN_CHECK_DELIVERED)
			delivered++;
		else
			t_note("untested: %s", mmn_check_name(i));
	}
	t_ge(delivered, 12);
	t_eq(report.check[MMN_CALL_BRK],
	     threads ? MMN_CHECK_UNTESTED : MMN_CHECK_DELIVERED);
	t_eq(report.check[MMN_CHECK_THREAD_EXIT],
	     threads ? MMN_CHECK_DELIVERED : MMN_CHECK_UNTESTED);
	t_eq(report.check[MMN_CHECK_FREE], MMN_CHECK_DELIVERED);
	t_eq(report.check[MMN_CHECK_SYSCALL], MMN_CHECK_DELIVERED);
	release();
}

TEST(the_self_check_finds_everything_delivered)
{
	check_self(false);
}

TEST(the_self_check_finds_everything_delivered_with_threads)
{
	check_self(true);
}

TEST(the_self_check_notices_what_is_lost)
{
	struct mmn_intercept_options options = {
		.size = sizeof(options),
		.flags = MMN_INTERCEPT_SELF_CHECK,
	};
	struct mmn_intercept_report report = { .size = sizeof(report) };

	t_may_keep_mapped(4 << 20, "stubs and the arena stay");
	t_err(mmn_inject_set(MMN_INJECT_EVENT_LOST, 1, 1), 0);
	t_err(mmn_state_create(&state), 0);
	t_err(mmn_intercept_start(state, &options, &report), 0);
	t_eq(report.check[MMN_CALL_MUNMAP], MMN_CHECK_MISSING);
	t_eq(report.check[MMN_CHECK_FREE], MMN_CHECK_MISSING);
	mmn_inject_clear();
	release();
}

/* ---- faults on request ---- */

TEST(an_event_can_be_lost_on_request)
{
	struct counter counter;
	void *p;

	intercept();
	p = map_page();
	counter_insert(&counter, p, PAGE);
	t_err(mmn_inject_set(MMN_INJECT_EVENT_LOST, 1, 1), 0);
	munmap(p, PAGE);
	mmn_inject_clear();
	t_eq(counter.calls, 0);
	t_eq(mmn_inject_hits(MMN_INJECT_EVENT_LOST), 1);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
	release();
}

static struct mmn_subscription classic;
static volatile int mapped_at_end;

static void look_at_end(struct mmn_subscription *sub,
			const struct mmn_invalidate_desc *desc)
{
	unsigned char resident;

	(void)sub;
	mapped_at_end = !mincore((void *)desc->start, PAGE, &resident);
}

static const struct mmn_subscription_ops classic_ops = {
	.invalidate_range_end = look_at_end,
};

TEST(an_end_can_come_too_early_on_request)
{
	intercept();
	classic.ops = &classic_ops;
	t_err(mmn_subscription_register(&classic, state), 0);
	munmap(map_page(), PAGE);
	t_eq(mapped_at_end, 0);
	t_err(mmn_inject_set(MMN_INJECT_END_EARLY, 1, 1), 0);
	munmap(map_page(), PAGE);
	mmn_inject_clear();
	t_eq(mapped_at_end, 1);
	t_err(mmn_subscription_unregister(&classic), 0);
	release();
}

/* ---- wrong use ---- */

TEST(bad_arguments_are_refused)
{
	struct mmn_intercept_options options = { .size = sizeof(options) };
	struct mmn_intercept_report report = { .size = 4 };
	struct mmn_intercept_object object = { .size = 4 };
	struct mmn_intercept_stats stats = { .size = 4 };
	struct {
		struct mmn_intercept_options options;
		uint64_t more;
	} newer = { { .size = sizeof(newer) }, 0 };

	t_may_keep_mapped(4 << 20, "stubs and the arena stay");
	t_err(mmn_state_create(&state), 0);
	t_err(mmn_intercept_start(NULL, NULL, NULL), -EINVAL);
	t_err(mmn_intercept_start(state, NULL, &report), -EINVAL);
	options.size = 4;
	t_err(mmn_intercept_start(state, &options, NULL), -EINVAL);
	options.size = sizeof(options);
	options.flags = 1u << 31;
	t_err(mmn_intercept_start(state, &options, NULL), -EINVAL);
	options.flags = 0;
	options.observe_calls = 1;
	t_err(mmn_intercept_start(state, &options, NULL), -EINVAL);
	options.observe = remember;
	options.observe_calls = 1u << MMN_NR_CALLS;
	t_err(mmn_intercept_start(state, &options, NULL), -EINVAL);
	options.observe_calls = 0;
	options.reserved = 1;
	t_err(mmn_intercept_start(state, &options, NULL), -EINVAL);
	newer.more = 1;
	t_err(mmn_intercept_start(state, &newer.options, NULL), -E2BIG);
	t_err(mmn_intercept_stop(), -ENOENT);
	report.size = sizeof(report);
	t_err(mmn_intercept_get_report(&report), -ENOENT);
	t_err(mmn_intercept_get_report(NULL), -EINVAL);
	t_err(mmn_intercept_get_object(0, &object), -EINVAL);
	object.size = sizeof(object);
	t_err(mmn_intercept_get_object(0, &object), -ENOENT);
	t_err(mmn_intercept_get_stats(&stats), -EINVAL);
	t_err(mmn_intercept_get_stats(NULL), -EINVAL);

	newer.more = 0;
	t_err(mmn_intercept_start(state, &newer.options, NULL), 0);
	t_err(mmn_intercept_get_object(1000, &object), -ENOENT);
	report.size = 4;
	t_err(mmn_intercept_get_report(&report), -EINVAL);
	release();
}

TEST(a_second_start_is_refused)
{
	struct mmn_state *other;

	intercept();
	t_err(mmn_state_create(&other), 0);
	t_err(mmn_intercept_start(state, NULL, NULL), -EALREADY);
	t_err(mmn_intercept_start(other, NULL, NULL), -EBUSY);
	mmn_state_put(other);
	release();
	t_err(mmn_intercept_stop(), -ENOENT);
}

TEST(text_that_may_not_become_executable_is_an_error_without_effect)
{
	uint64_t before = sum_code();

	t_err(mmn_state_create(&state), 0);
	if (prctl(SET_MDWE, 1, 0, 0, 0))
		t_skip("this kernel cannot forbid it");
	t_err(mmn_intercept_start(state, NULL, NULL), -EPERM);
	t_err(mmn_intercept_stop(), -ENOENT);
	t_eq(sum_code(), before);
	mmn_state_put(state);
}

TEST(threads_on_a_kernel_that_cannot_synchronise_them_are_an_error)
{
	uint64_t before = sum_code();
	pthread_t thread;

	t_may_keep_mapped(64 << 20, "stubs and a stack");
	t_err(pthread_create(&thread, NULL, sleep_for_ever, NULL), 0);
	t_err(mmn_state_create(&state), 0);
	answer_syscall(SYS_membarrier, ENOSYS);
	t_err(mmn_intercept_start(state, NULL, NULL), -ENOTSUP);
	t_eq(sum_code(), before);
	mmn_state_put(state);
}

TEST(a_program_whose_text_cannot_be_looked_at_has_no_place)
{
	uint64_t before = sum_code();

	t_may_keep_mapped(4 << 20, "stubs stay");
	t_err(mmn_state_create(&state), 0);
	answer_syscall(SYS_process_vm_readv, EFAULT);
	t_err(mmn_intercept_start(state, NULL, NULL), -ENOTSUP);
	t_err(mmn_intercept_stop(), -ENOENT);
	t_eq(sum_code(), before);
	mmn_state_put(state);
}

TEST(a_start_without_memory_is_an_error_without_effect)
{
	uint64_t before = sum_code();

	t_err(mmn_state_create(&state), 0);
	answer_syscall_if(SYS_mmap, 1, PAGE, ENOMEM);
	t_err(mmn_intercept_start(state, NULL, NULL), -ENOMEM);
	t_err(mmn_intercept_stop(), -ENOENT);
	t_eq(sum_code(), before);
	mmn_state_put(state);
}

static void close_proc_mem(void)
{
	answer_syscall_if(SYS_openat, 2, O_RDWR | O_CLOEXEC, EACCES);
}

static void close_mprotect(void)
{
	answer_syscall_if(SYS_mprotect, 2, PROT_READ | PROT_WRITE, EACCES);
	answer_syscall_if(SYS_mprotect, 2, PROT_READ | PROT_WRITE | PROT_EXEC,
			  EACCES);
}

TEST(where_proc_mem_is_closed_the_text_is_written_by_mprotect)
{
	struct mmn_intercept_report report = { .size = sizeof(report) };
	uint64_t before = sum_code();
	struct counter counter;
	void *p = map_page();

	t_may_keep_mapped(4 << 20, "stubs and the arena stay");
	t_err(mmn_state_create(&state), 0);
	close_proc_mem();
	t_err(mmn_intercept_start(state, NULL, &report), 0);
	t_eq(report.was_live, 0);
	t_eq(report.write_mode, MMN_WRITE_MPROTECT);
	counter_insert(&counter, p, PAGE);
	munmap(p, PAGE);
	t_eq(counter.calls, 1);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
	release();
	t_eq(sum_code(), before);
}

TEST(text_that_cannot_be_written_is_an_error_without_effect)
{
	uint64_t before = sum_code();

	t_may_keep_mapped(4 << 20, "stubs stay");
	t_err(mmn_state_create(&state), 0);
	close_proc_mem();
	close_mprotect();
	t_err(mmn_intercept_start(state, NULL, NULL), -EPERM);
	t_err(mmn_intercept_stop(), -ENOENT);
	t_eq(sum_code(), before);
	mmn_state_put(state);
}

TEST(where_the_text_cannot_be_put_back_intercepting_goes_on)
{
	struct counter counter;
	uint64_t on;
	void *p;

	intercept();
	on = sum_code();
	p = map_page();
	counter_insert(&counter, p, PAGE);
	close_proc_mem();
	close_mprotect();
	t_err(mmn_intercept_stop(), -EPERM);
	t_eq(sum_code(), on);
	munmap(p, PAGE);
	t_eq(counter.calls, 1);
	t_err(mmn_intercept_start(state, NULL, NULL), -EALREADY);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
}

static volatile int start_in_observer, stop_in_observer;

static void start_and_stop_there(void *arg, const struct mmn_call_event *event)
{
	(void)arg;
	(void)event;
	start_in_observer = mmn_intercept_start(state, NULL, NULL);
	stop_in_observer = mmn_intercept_stop();
}

TEST(start_and_stop_in_an_observer_are_refused)
{
	struct mmn_intercept_options options = {
		.size = sizeof(options),
		.observe = start_and_stop_there,
		.observe_calls = 1u << MMN_CALL_MUNMAP,
	};

	t_may_keep_mapped(4 << 20, "stubs and the arena stay");
	t_err(mmn_state_create(&state), 0);
	t_err(mmn_intercept_start(state, &options, NULL), 0);
	munmap(map_page(), PAGE);
	t_eq(start_in_observer, -EBUSY);
	t_eq(stop_in_observer, -EBUSY);
	release();
}

static volatile int start_in_callback, stop_in_callback;

static void start_and_stop(const struct mmn_invalidate_desc *desc)
{
	(void)desc;
	start_in_callback = mmn_intercept_start(state, NULL, NULL);
	stop_in_callback = mmn_intercept_stop();
}

TEST(start_and_stop_in_a_callback_are_refused)
{
	struct counter counter;
	void *p;

	intercept();
	p = map_page();
	counter_insert(&counter, p, PAGE);
	counter.also = start_and_stop;
	munmap(p, PAGE);
	t_eq(start_in_callback, -EBUSY);
	t_eq(stop_in_callback, -EBUSY);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
	release();
}

static void *volatile other_page;

static void unmap_other(const struct mmn_invalidate_desc *desc)
{
	void *p = other_page;

	(void)desc;
	other_page = NULL;
	if (p)
		munmap(p, PAGE);
}

TEST(a_callback_may_change_memory_that_nobody_watches)
{
	struct counter counter;
	void *p;

	intercept();
	p = map_page();
	other_page = map_page();
	counter_insert(&counter, p, PAGE);
	counter.also = unmap_other;
	munmap(p, PAGE);
	t_eq(counter.calls, 1);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
	release();
}

TEST(a_callback_that_changes_watched_memory_is_reported)
{
	struct counter counter, other;
	void *p;

	t_need_selfcheck();
	intercept();
	p = map_page();
	other_page = map_page();
	counter_insert(&counter, p, PAGE);
	counter_insert(&other, other_page, PAGE);
	counter.also = unmap_other;
	t_bug_expected("a callback changes memory");
	munmap(p, PAGE);
	t_eq(counter.calls, 1);
	t_eq(other.calls, 1);
	t_err(mmn_range_subscription_remove(&counter.sub), 0);
	t_err(mmn_range_subscription_remove(&other.sub), 0);
	release();
}
