/* SPDX-License-Identifier: MIT */
/*
 * What a function call has to preserve goes to the stack, the stacks are
 * exchanged, and it comes back from the other one.  swapcontext() would do, with
 * two system calls each time.
 */
#include "ladder/fiber.h"

#include <stdint.h>
#include <string.h>

void fiber_switch_stacks(void **save, void *to);

#if defined(__x86_64__)

__asm__(".text\n"
	".globl fiber_switch_stacks\n"
	".hidden fiber_switch_stacks\n"
	".type fiber_switch_stacks, @function\n"
	"fiber_switch_stacks:\n"
	"	push %rbp\n"
	"	push %rbx\n"
	"	push %r12\n"
	"	push %r13\n"
	"	push %r14\n"
	"	push %r15\n"
	"	mov %rsp, (%rdi)\n"
	"	mov %rsi, %rsp\n"
	"	pop %r15\n"
	"	pop %r14\n"
	"	pop %r13\n"
	"	pop %r12\n"
	"	pop %rbx\n"
	"	pop %rbp\n"
	"	ret\n"
	".size fiber_switch_stacks, . - fiber_switch_stacks\n");

/* Six registers, and the address to return to; then the stack is aligned. */
#define SAVED_WORDS 6
#define RETURN_WORD 6

#elif defined(__aarch64__)

__asm__(".text\n"
	".globl fiber_switch_stacks\n"
	".hidden fiber_switch_stacks\n"
	".type fiber_switch_stacks, @function\n"
	"fiber_switch_stacks:\n"
	"	sub sp, sp, #160\n"
	"	stp x19, x20, [sp, #0]\n"
	"	stp x21, x22, [sp, #16]\n"
	"	stp x23, x24, [sp, #32]\n"
	"	stp x25, x26, [sp, #48]\n"
	"	stp x27, x28, [sp, #64]\n"
	"	stp x29, x30, [sp, #80]\n"
	"	stp d8, d9, [sp, #96]\n"
	"	stp d10, d11, [sp, #112]\n"
	"	stp d12, d13, [sp, #128]\n"
	"	stp d14, d15, [sp, #144]\n"
	"	mov x9, sp\n"
	"	str x9, [x0]\n"
	"	mov sp, x1\n"
	"	ldp x19, x20, [sp, #0]\n"
	"	ldp x21, x22, [sp, #16]\n"
	"	ldp x23, x24, [sp, #32]\n"
	"	ldp x25, x26, [sp, #48]\n"
	"	ldp x27, x28, [sp, #64]\n"
	"	ldp x29, x30, [sp, #80]\n"
	"	ldp d8, d9, [sp, #96]\n"
	"	ldp d10, d11, [sp, #112]\n"
	"	ldp d12, d13, [sp, #128]\n"
	"	ldp d14, d15, [sp, #144]\n"
	"	add sp, sp, #160\n"
	"	ret\n"
	".size fiber_switch_stacks, . - fiber_switch_stacks\n");

#define SAVED_WORDS 20
#define RETURN_WORD 11

#else
#error "mmn ladder: no context switch for this architecture"
#endif

void fiber_switch(struct fiber *from, const struct fiber *to)
{
	fiber_switch_stacks(&from->sp, to->sp);
}

void fiber_start(struct fiber *fiber, void *stack, size_t size,
		 void (*entry)(void))
{
	uint64_t *sp = (uint64_t *)((char *)stack + size - 128);

	/*
	 * As if entry() had been called: on x86-64 its return address lies at
	 * an address that is 8 more than a multiple of 16.
	 */
	sp -= SAVED_WORDS + 2;
	memset(sp, 0, (SAVED_WORDS + 2) * sizeof(*sp));
	sp[RETURN_WORD] = (uintptr_t)entry;
	fiber->sp = sp;
}
