/* SPDX-License-Identifier: MIT */
#ifndef T_TAP_H
#define T_TAP_H
/*
 * The test runner: every test binary is this header, tap.c and tests.
 *
 *	#include "t/tap.h"
 *
 *	TEST(insert_refuses_an_empty_range)
 *	{
 *		t_err(mmn_range_subscription_insert(&sub, 4096, 4095), -EINVAL);
 *	}
 *
 * A test is named after the behaviour it proves.  It runs in a process of its
 * own with a time limit, ends at its first failed expectation, and fails also
 * when it crashes, hangs, exits on its own, leaves descriptors or mappings
 * behind, causes a misuse report that it did not announce, or expects nothing
 * at all.  The binary needs no arguments and no environment:
 *
 *	x-test			every test, in TAP
 *	x-test --list		the names
 *	x-test NAME		that one test without a process of its own,
 *				for gdb; so does a debugger that is attached
 *	x-test 'GLOB' NAME...	those tests, each in its own process
 *
 * T_TIMEOUT_SCALE in the environment multiplies the time limits; the meson
 * set-ups for sanitizers and valgrind set it.
 */
#ifdef NDEBUG
#error "tests are worth nothing with NDEBUG"
#endif

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define T_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define T_TSAN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define T_ASAN 1
#endif
#ifdef __SANITIZE_THREAD__
#define T_TSAN 1
#endif
/* For tests of what a sanitizer cannot live with: if (T_TSAN) t_skip("..."); */
#ifndef T_ASAN
#define T_ASAN 0
#endif
#ifndef T_TSAN
#define T_TSAN 0
#endif

struct t_test {
	const char *name;
	void (*run)(void);
	/* Seconds; 0 means the default of T_TIMEOUT. */
	unsigned int timeout;
	/* Where it stands: the order of the tests is that of the source. */
	const char *file;
	int line;
	struct t_test *next;
};

enum { T_TIMEOUT = 20 };

/*
 * TEST(name, options...) { body }
 *
 * Options are members of struct t_test: TEST(x, .timeout = 60).
 */
#define TEST(name_, ...)                                                       \
	static void test_##name_(void);                                        \
	static struct t_test test_##name_##_entry = { .name = #name_,          \
						      .run = test_##name_,     \
						      .file = __FILE__,        \
						      .line = __LINE__,        \
						      ##__VA_ARGS__ };         \
	__attribute__((constructor)) static void test_##name_##_register(void) \
	{                                                                      \
		t_register(&test_##name_##_entry);                             \
	}                                                                      \
	static void test_##name_(void)

void t_register(struct t_test *test);

/* A line for the reader of the log. */
__attribute__((format(printf, 1, 2))) void t_note(const char *format, ...);

/* End the test: it cannot be run here, and why. */
__attribute__((noreturn, format(printf, 1, 2))) void t_skip(const char *format,
							    ...);

/* End the test: it failed, and why. */
#define t_fail(...) t_fail_at(__FILE__, __LINE__, __VA_ARGS__)

/*
 * Announce one misuse report whose text contains @text, before the call that
 * causes it.  The test fails if the report does not come.  Misuse is reported
 * by selfcheck builds only; in other builds the test is skipped here.
 */
void t_bug_expected(const char *text);

/* How many announced misuse reports have come so far. */
unsigned int t_bugs_seen(void);

/* Skip the test in builds that report no misuse. */
void t_need_selfcheck(void);

/*
 * Does an emulator of the processor stand between the program and the kernel
 * (T_EMULATED in the environment)?  It has mappings and messages of its own, and
 * leaves system calls out.
 */
bool t_is_emulated(void);

/* Skip the test there; @why says what it lacks. */
void t_need_kernel(const char *why);

/*
 * How much of something: @usual, or as much as was asked for in so many words, @full,
 * when T_FULL is in the environment, as `make check-long` has it.
 */
unsigned int t_size(unsigned int usual, unsigned int full);

/*
 * Allow the test to leave up to @bytes mapped, for memory that the library
 * keeps for the life of the process on purpose.
 */
void t_may_keep_mapped(size_t bytes, const char *why);

/* Allow the test to leave @count descriptors open, for the same reason. */
void t_may_keep_open(unsigned int count, const char *why);

/*
 * Expectations.  Each evaluates its arguments once and ends the test when it
 * does not hold, from whichever thread or child process of the test it runs
 * in.  Integers of any type and pointers compare by value: -1 is never equal
 * to UINT64_MAX.
 */
#define t_ok(expr) t_ok_at(!!(expr), __FILE__, __LINE__, #expr)
#define t_eq(a, b) t_compare(a, ==, b)
#define t_ne(a, b) t_compare(a, !=, b)
#define t_lt(a, b) t_compare(a, <, b)
#define t_le(a, b) t_compare(a, <=, b)
#define t_gt(a, b) t_compare(a, >, b)
#define t_ge(a, b) t_compare(a, >=, b)

/* The call returns this negative errno, or 0. */
#define t_err(call, want) t_err_at((call), (want), __FILE__, __LINE__, #call)

#define t_streq(a, b) t_streq_at((a), (b), __FILE__, __LINE__, #a, #b)
#define t_memeq(a, b, n) t_memeq_at((a), (b), (n), __FILE__, __LINE__, #a, #b)

/* Private: what the macros above expand to. */
struct t_value {
	uint64_t bits;
	enum { T_SIGNED, T_UNSIGNED, T_POINTER } kind;
};

#define t_value(x)                                                           \
	((struct t_value){ .bits = (uint64_t)(x),                            \
			   .kind = _Generic((x), _Bool                       \
					    : T_UNSIGNED, char               \
					    : T_SIGNED, signed char          \
					    : T_SIGNED, short                \
					    : T_SIGNED, int                  \
					    : T_SIGNED, long                 \
					    : T_SIGNED, long long            \
					    : T_SIGNED, unsigned char        \
					    : T_UNSIGNED, unsigned short     \
					    : T_UNSIGNED, unsigned int       \
					    : T_UNSIGNED, unsigned long      \
					    : T_UNSIGNED, unsigned long long \
					    : T_UNSIGNED, default            \
					    : T_POINTER) })

#define t_compare(a, op, b) \
	t_compare_at(t_value(a), #op, t_value(b), __FILE__, __LINE__, #a, #b)

__attribute__((noreturn, format(printf, 3, 4))) void
t_fail_at(const char *file, int line, const char *format, ...);
void t_ok_at(bool ok, const char *file, int line, const char *expr);
void t_compare_at(struct t_value a, const char *op, struct t_value b,
		  const char *file, int line, const char *a_text,
		  const char *b_text);
void t_err_at(long got, long want, const char *file, int line,
	      const char *expr);
void t_streq_at(const char *a, const char *b, const char *file, int line,
		const char *a_text, const char *b_text);
void t_memeq_at(const void *a, const void *b, size_t n, const char *file,
		int line, const char *a_text, const char *b_text);

/* For tests of the runner itself: a misuse report with this text has come. */
void t_bug_report(const char *text);

#endif
