/* SPDX-License-Identifier: MIT */
/*
 * Between a call site and C, x86-64.  See entry.h.
 *
 * Flags: a system call keeps them, so they are put back, by sahf and an addition
 * that sets the overflow flag, because popf costs ten times as much; only a
 * program that makes system calls with the direction flag set gets the popf.
 * Nothing after that may touch flags: mov, lea, pop and jrcxz do not.
 */
#include "source/entry.h"

#include <cpuid.h>
#include <stddef.h>

_Static_assert(offsetof(struct mmn_regs, args) == 8 &&
		       offsetof(struct mmn_regs, flags) == 56 &&
		       sizeof(struct mmn_regs) == 64,
	       "as pushed below");

__asm__(".pushsection .text\n"
	".macro mmn_stub_call name, target\n"
	"	.p2align 4\n"
	"	.globl \\name\n"
	"	.hidden \\name\n"
	"	.type \\name, @function\n"
	"\\name:\n"
	"	.cfi_startproc\n"
	"	.cfi_undefined rip\n"
	"	endbr64\n"
	"	pushfq\n"
	"	push %r9\n"
	"	push %r8\n"
	"	push %r10\n"
	"	push %rdx\n"
	"	push %rsi\n"
	"	push %rdi\n"
	"	push %rax\n"
	"	push %rbp\n"
	"	.cfi_def_cfa_offset 80\n"
	"	mov %rsp, %rbp\n"
	"	.cfi_def_cfa_register rbp\n"
	"	lea 8(%rbp), %rdi\n"
	"	and $-16, %rsp\n"
	"	cld\n"
	"	call \\target\n"
	"	mov %eax, %ecx\n"
	"	mov %rbp, %rsp\n"
	"	.cfi_def_cfa_register rsp\n"
	"	mov 64(%rsp), %eax\n"
	"	test $0x400, %eax\n"
	"	jnz 2f\n"
	"	xchg %al, %ah\n"
	"	and $8, %al\n"
	"	add $0x78, %al\n"
	"	sahf\n"
	"1:	pop %rbp\n"
	"	pop %rax\n"
	"	pop %rdi\n"
	"	pop %rsi\n"
	"	pop %rdx\n"
	"	pop %r10\n"
	"	pop %r8\n"
	"	pop %r9\n"
	"	lea 8(%rsp), %rsp\n"
	"	.cfi_def_cfa_offset 8\n"
	"	ret\n"
	"2:	.cfi_def_cfa_offset 80\n"
	"	pushq 64(%rsp)\n"
	"	popfq\n"
	"	jmp 1b\n"
	"	.cfi_endproc\n"
	"	.size \\name, . - \\name\n"
	".endm\n"
	"mmn_stub_call mmn_intercept_entry, mmn_intercept_dispatch\n"
	"mmn_stub_call mmn_intercept_leave, mmn_intercept_after\n"
	".popsection\n");

/* How mmn_with_vector_state() saves: 0 fxsave, 1 xsave, 2 xsavec. */
__attribute__((visibility("hidden"))) uint32_t mmn_vector_mode;
/* Bytes, and which components. */
__attribute__((visibility("hidden"))) uint32_t mmn_vector_size = 512;
__attribute__((visibility("hidden"))) uint32_t mmn_vector_mask;

__asm__(".pushsection .text\n"
	"	.p2align 4\n"
	"	.globl mmn_with_vector_state\n"
	"	.hidden mmn_with_vector_state\n"
	"	.type mmn_with_vector_state, @function\n"
	"mmn_with_vector_state:\n"
	"	.cfi_startproc\n"
	"	endbr64\n"
	"	push %rbp\n"
	"	.cfi_def_cfa_offset 16\n"
	"	.cfi_offset rbp, -16\n"
	"	mov %rsp, %rbp\n"
	"	.cfi_def_cfa_register rbp\n"
	"	sub $16, %rsp\n"
	"	mov mmn_vector_size(%rip), %ecx\n"
	"	sub %rcx, %rsp\n"
	"	and $-64, %rsp\n"
	"	mov mmn_vector_mask(%rip), %eax\n"
	"	mov mmn_vector_mode(%rip), %ecx\n"
	"	xor %edx, %edx\n"
	"	test %ecx, %ecx\n"
	"	jz 2f\n"
	/* the header must be zero: not all of it is written */
	"	movq $0, 512(%rsp)\n"
	"	movq $0, 520(%rsp)\n"
	"	movq $0, 528(%rsp)\n"
	"	movq $0, 536(%rsp)\n"
	"	movq $0, 544(%rsp)\n"
	"	movq $0, 552(%rsp)\n"
	"	movq $0, 560(%rsp)\n"
	"	movq $0, 568(%rsp)\n"
	"	cmp $1, %ecx\n"
	"	je 1f\n"
	"	xsavec64 (%rsp)\n"
	"	jmp 3f\n"
	"1:	xsave64 (%rsp)\n"
	"	jmp 3f\n"
	"2:	fxsave64 (%rsp)\n"
	"3:	movl $0x1f80, -8(%rbp)\n"
	"	ldmxcsr -8(%rbp)\n"
	"	fninit\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	call *%rax\n"
	"	mov %rax, %rsi\n"
	"	mov mmn_vector_mask(%rip), %eax\n"
	"	xor %edx, %edx\n"
	"	cmpl $0, mmn_vector_mode(%rip)\n"
	"	je 4f\n"
	"	xrstor64 (%rsp)\n"
	"	jmp 5f\n"
	"4:	fxrstor64 (%rsp)\n"
	"5:	mov %rsi, %rax\n"
	"	leave\n"
	"	.cfi_def_cfa rsp, 8\n"
	"	ret\n"
	"	.cfi_endproc\n"
	"	.size mmn_with_vector_state, . - mmn_with_vector_state\n"
	".popsection\n");

/*
 * What C code of the library and of callbacks may use: x87, SSE, AVX, MPX and
 * AVX-512.  Not the AMX tiles (8 KiB that no callback touches, and the stack may
 * be small), not the protection keys (a callback's change of them is meant).
 */
#define VECTOR_COMPONENTS 0xffu
#define CPUID_XSAVE 0x0du
#define CPUID_1_ECX_OSXSAVE (1u << 27)
#define CPUID_XSAVE_1_EAX_XSAVEC (1u << 1)
#define CPUID_XSAVE_N_ECX_ALIGN64 (1u << 1)
#define XSAVE_HEADER_END 576u

void mmn_vector_state_init(void)
{
	uint32_t eax, ebx, ecx, edx, enabled, i, mask, size;
	uint32_t mode = 1;

	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) ||
	    !(ecx & CPUID_1_ECX_OSXSAVE))
		return;
	__asm__ volatile("xgetbv" : "=a"(enabled), "=d"(edx) : "c"(0));
	mask = enabled & VECTOR_COMPONENTS;
	if (__get_cpuid_count(CPUID_XSAVE, 1, &eax, &ebx, &ecx, &edx) &&
	    (eax & CPUID_XSAVE_1_EAX_XSAVEC))
		mode = 2;
	size = XSAVE_HEADER_END;
	for (i = 2; i < 8; i++) {
		if (!(mask & (1u << i)) ||
		    !__get_cpuid_count(CPUID_XSAVE, i, &eax, &ebx, &ecx, &edx))
			continue;
		if (mode == 2) {
			if (ecx & CPUID_XSAVE_N_ECX_ALIGN64)
				size = (size + 63) & ~63u;
			size += eax;
		} else if (ebx + eax > size) {
			size = ebx + eax;
		}
	}
	mmn_vector_size = size;
	mmn_vector_mask = mask;
	mmn_vector_mode = mode;
}
