/* SPDX-License-Identifier: MIT */
#ifndef MMN_SOURCE_ENTRY_H
#define MMN_SOURCE_ENTRY_H
/*
 * Between a call site and C: what the stubs call, and how vector state is kept.
 *
 * A stub has stepped over the red zone and calls mmn_intercept_entry(), which
 * saves what a system call keeps and C does not, and asks the dispatcher what
 * to do.  The answer goes back to the stub in rcx, which a system call
 * destroys anyway and which can be tested without touching the flags:
 *
 *	MMN_VERDICT_DONE	the call was made, rax is its result
 *	MMN_VERDICT_PASS	make the call in the stub, every register as it
 *				was: nothing of libmmn's is on the stack, so the
 *				call may return twice, or on another stack
 *	MMN_VERDICT_BRACKET	same, and call mmn_intercept_leave() after it
 */
#include <stdint.h>

#define MMN_VERDICT_DONE 0u
#define MMN_VERDICT_PASS 1u
#define MMN_VERDICT_BRACKET 2u

/* The registers of a system call, as mmn_intercept_entry() pushes them. */
struct mmn_regs {
	/* the number before the call, the result after it */
	uint64_t rax;
	/* rdi rsi rdx r10 r8 r9 */
	uint64_t args[6];
	uint64_t flags;
};

/* Called by stubs only: their calling convention is not C's. */
void mmn_intercept_entry(void);
void mmn_intercept_leave(void);

/*
 * Calls fn(arg) with the caller's vector, mask and x87 registers saved, and in
 * the state that the ABI promises to functions.  Needs some 1 to 3 KiB of stack.
 */
long mmn_with_vector_state(long (*fn)(void *arg), void *arg);

/* Finds out what has to be saved on this processor.  Before the first use. */
void mmn_vector_state_init(void);

/* What it has found out, for the assembly behind mmn_with_vector_state(). */
extern uint32_t mmn_vector_mode;
extern uint32_t mmn_vector_size;
extern uint32_t mmn_vector_mask;

/* dispatch.c */
uint32_t mmn_intercept_dispatch(struct mmn_regs *regs);
void mmn_intercept_after(struct mmn_regs *regs);

#endif
