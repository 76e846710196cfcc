/* SPDX-License-Identifier: MIT */
#ifndef MMN_SOURCE_H
#define MMN_SOURCE_H
/*
 * Event sources: who tells a state that memory changes.
 *
 * manual: a program, allocator or emulator that knows its own changes calls
 * mmn_invalidate_start() and mmn_invalidate_end() around them.  There is
 * nothing to set up, and nothing here.
 *
 * intercept: the system calls of this process, whoever makes them, as long as
 * they are made by code that libmmn can rewrite: libc (its own calls inside
 * free(), realloc(), thread exit, dlclose(), posix_spawn(), syscall() included),
 * ld.so, and every other loaded object.  Each `mov $number,%eax; syscall` of a
 * call that changes memory becomes a jump to a small stub:
 *
 *	call site           stub and dispatcher
 *
 *	jmp stub      ->    which bytes does this call change?
 *	                    mmn_invalidate_open(): nobody there?  go on
 *	                    (mmn_invalidate_notify(): callbacks)
 *	                    the call itself
 *	next insn     <-    mmn_invalidate_close() or mmn_invalidate_end()
 *
 * so that the callbacks run before the change, in the thread that makes it,
 * without signals and without privileges.  doc/SOURCES.md has the coverage,
 * call by call, and what this cannot see: raw system calls of code that cannot
 * be rewritten, io_uring's own MADVISE, other processes, and what the kernel does
 * by itself.
 */
#include <mmn/common.h>

MMN_BEGIN_DECLS

struct mmn_state;

/* ------------------------------------------------------------------ */
/* Kinds of call                                                      */
/* ------------------------------------------------------------------ */

#define MMN_CALL_MUNMAP 0u
#define MMN_CALL_MMAP_FIXED 1u /* mmap over what may be mapped */
#define MMN_CALL_MREMAP 2u
#define MMN_CALL_MADVISE 3u
#define MMN_CALL_PROCESS_MADVISE 4u
#define MMN_CALL_MPROTECT 5u /* pkey_mprotect too */
#define MMN_CALL_BRK 6u	     /* shrinking */
#define MMN_CALL_SHMDT 7u
#define MMN_CALL_SHMAT 8u /* with SHM_REMAP */
#define MMN_CALL_REMAP_FILE_PAGES 9u
#define MMN_CALL_FALLOCATE 10u /* that takes pages out of a file */
#define MMN_CALL_TRUNCATE 11u  /* shrinking, ftruncate too */
#define MMN_CALL_FORK 12u      /* anything that copies the address space */
#define MMN_CALL_EXEC 13u
#define MMN_CALL_MAP 14u /* a new mapping: observed, not a change */
#define MMN_NR_CALLS 15u

/**
 * mmn_call_name - the name of a kind of call
 * @call: MMN_CALL_*
 *
 * Context: any.
 * Return: a constant string such as "munmap"; NULL when @call is none.
 */
MMN_PUBLIC
const char *mmn_call_name(uint32_t call);

/**
 * struct mmn_call_event - one intercepted call, after it was made
 * @call: MMN_CALL_*
 * @reserved: 0
 * @start: first byte of the change (the smallest range around all of them when
 *	the call made several); for MMN_CALL_MAP, of the new mapping
 * @last: last byte, inclusive
 * @result: what the system call returned: a value, or a negative errno
 * @ns: from before the callbacks to after the end of the change
 */
struct mmn_call_event {
	uint32_t call;
	uint32_t reserved;
	uintptr_t start;
	uintptr_t last;
	intptr_t result;
	uint64_t ns;
};

/* ------------------------------------------------------------------ */
/* Intercept: options                                                 */
/* ------------------------------------------------------------------ */

/* Try every kind of change on scratch memory and report what arrived. */
#define MMN_INTERCEPT_SELF_CHECK (1u << 0)
/* Do not look into objects that are mapped later. */
#define MMN_INTERCEPT_NO_FOLLOW (1u << 1)
/* Rewrite libc and ld.so only. */
#define MMN_INTERCEPT_LIBC_ONLY (1u << 2)

/**
 * struct mmn_intercept_options - how to intercept
 * @size: sizeof(struct mmn_intercept_options)
 * @flags: MMN_INTERCEPT_*
 * @observe: called after a call of one of the kinds in @observe_calls, in
 *	the thread that made it, whether or not anybody was subscribed; NULL for
 *	nobody.  The rules for invalidation callbacks hold for it, and it must
 *	not change memory.
 * @observe_arg: handed to it
 * @observe_calls: bit (1 << MMN_CALL_*) for each kind to be observed
 * @reserved: 0
 */
struct mmn_intercept_options {
	uint32_t size;
	uint32_t flags;
	void (*observe)(void *arg, const struct mmn_call_event *event);
	void *observe_arg;
	uint32_t observe_calls;
	uint32_t reserved;
};

/* ------------------------------------------------------------------ */
/* Intercept: what became of it                                       */
/* ------------------------------------------------------------------ */

/* Result of a self-check, and what was tried.  MMN_CALL_FORK and so on, then: */
#define MMN_CHECK_UNTESTED 0u
#define MMN_CHECK_DELIVERED 1u
#define MMN_CHECK_MISSING 2u

#define MMN_CHECK_FREE 14u	  /* free() of a large block */
#define MMN_CHECK_THREAD_EXIT 15u /* stack of a thread that ended */
#define MMN_CHECK_DLCLOSE 16u
#define MMN_CHECK_SYSCALL 17u /* syscall(SYS_munmap, ...) */
#define MMN_NR_CHECKS 18u

/**
 * mmn_check_name - the name of a row of the self-check
 * @check: an index into struct mmn_intercept_report's check
 *
 * Context: any.
 * Return: a constant string such as "free"; NULL when @check is none.
 */
MMN_PUBLIC
const char *mmn_check_name(uint32_t check);

/* How text was written. */
#define MMN_WRITE_NONE 0u     /* nothing to write */
#define MMN_WRITE_PROC_MEM 1u /* /proc/self/mem: protection untouched */
#define MMN_WRITE_MPROTECT 2u /* writable for a moment */

/**
 * struct mmn_intercept_report - what an installation found and did
 * @size: sizeof(struct mmn_intercept_report), set by the caller
 * @write_mode: MMN_WRITE_*
 * @nr_objects: loaded objects looked at
 * @nr_found: places that make a call of interest
 * @nr_patched: those that are intercepted now
 * @nr_refused: those left alone; mmn_intercept_get_object() has the reason
 * @nr_unknown: system call instructions whose call could not be told; they may
 *	change memory unseen
 * @was_live: other threads were running
 * @install_ns: how long the installation took, without the self-check
 * @check: MMN_CHECK_UNTESTED, _DELIVERED or _MISSING, one per row
 */
struct mmn_intercept_report {
	uint32_t size;
	uint32_t write_mode;
	uint32_t nr_objects;
	uint32_t nr_found;
	uint32_t nr_patched;
	uint32_t nr_refused;
	uint32_t nr_unknown;
	uint32_t was_live;
	uint64_t install_ns;
	uint8_t check[32];
};

/* Why a place was left alone (struct mmn_intercept_object). */
#define MMN_REFUSE_NONE 0u
#define MMN_REFUSE_NO_UNWIND 1u	  /* its function is not in .eh_frame_hdr */
#define MMN_REFUSE_SHAPE 2u	  /* no single instruction to replace */
#define MMN_REFUSE_TARGET 3u	  /* a branch leads into it */
#define MMN_REFUSE_CACHE_LINE 4u  /* cannot be changed under threads */
#define MMN_REFUSE_SMALL_STACK 5u /* code of a language with tiny stacks */
#define MMN_REFUSE_FULL 6u	  /* no room within reach, or too many */
#define MMN_REFUSE_WRITE 7u	  /* its text cannot be written */

/**
 * struct mmn_intercept_object - one loaded object
 * @size: sizeof(struct mmn_intercept_object), set by the caller
 * @reason: MMN_REFUSE_* of the last place that was left alone
 * @start: first byte of its first executable segment
 * @last: last byte of its last one
 * @nr_found: as in struct mmn_intercept_report, and so on
 * @name: its path, cut if need be; "" for the program itself
 */
struct mmn_intercept_object {
	uint32_t size;
	uint32_t reason;
	uintptr_t start;
	uintptr_t last;
	uint32_t nr_found;
	uint32_t nr_patched;
	uint32_t nr_refused;
	uint32_t nr_unknown;
	char name[128];
};

/**
 * struct mmn_intercept_stats - what went through
 * @size: sizeof(struct mmn_intercept_stats), set by the caller
 * @reserved: 0
 * @calls: changes so far, by MMN_CALL_*; MMN_CALL_MAP only when observed
 * @hits: those that had to tell somebody
 * @whole: those whose range could not be found out and that were told as a change
 *	of everything
 * @abandoned: those that a signal handler left by a jump and that were ended
 *	by the next change of the same thread
 */
struct mmn_intercept_stats {
	uint32_t size;
	uint32_t reserved;
	uint64_t calls[16];
	uint64_t hits;
	uint64_t whole;
	uint64_t abandoned;
};

/* ------------------------------------------------------------------ */
/* Intercept: the calls                                               */
/* ------------------------------------------------------------------ */

/**
 * mmn_intercept_start - follow the changes of this process
 * @state: stands for this process's address space; a reference is kept
 * @options: NULL for the defaults
 * @ret_report: NULL, or its size set: what was found and done
 *
 * From the return on every change made at a rewritten place is announced to
 * @state, in all threads, also those that are older than this call and those
 * that block all signals.  With one thread nothing but the bytes of the places
 * changes.  With several, each place is first turned into a one-instruction loop
 * by one atomic store, so that threads that come by wait there for the few
 * microseconds that the rest takes; their text is writable for that moment.  A
 * thread of real-time priority that spins there on the only processor would
 * keep this one from going on: install before starting such threads.
 *
 * Places that cannot be rewritten are left alone and reported.
 *
 * Context: may sleep; not from callbacks, signal handlers or destructors of
 * the dynamic linker; best before threads.
 * Return: 0; -EINVAL (no state, unknown flags, calls to observe without an
 * observer, a report of another size); -E2BIG (options newer than the
 * library); -EALREADY (intercepts for @state already); -EBUSY (for another
 * state; or called from a callback or an observer); -ENOTSUP (another
 * architecture, no place that can be rewritten, or running threads on a kernel
 * without membarrier's SYNC_CORE); -EPERM (the text cannot be made writable);
 * -ENOMEM (no page for the source itself);
 * -ESTALE (in the fork child of a process that intercepts).  After an error
 * nothing is changed.
 */
MMN_PUBLIC
MMN_MUST_CHECK int
mmn_intercept_start(struct mmn_state *state,
		    const struct mmn_intercept_options *options,
		    struct mmn_intercept_report *ret_report);

/**
 * mmn_intercept_stop - put every place back and wait for calls under way
 *
 * Every byte is as it was; a place that somebody else has rewritten since is
 * left to them, and one that lies across two cache lines stays rewritten where
 * threads run now that did not when it was installed: it does nothing but the
 * call.  On return no event of this source is under way.  The stubs stay
 * mapped, since threads may be on their way through them.
 *
 * Context: may sleep; not from callbacks, hold no lock that a callback takes.
 * Return: 0; -ENOENT (not intercepting); -EBUSY (from a callback or an observer,
 * or inside an intercepted call); -ETIMEDOUT (all places are back, but a call has
 * been under way for two seconds, or was left by a jump of a signal handler at
 * an unlucky instruction; the state is kept for it, and the observer must be,
 * until a later stop finds nobody under way; it may be started again meanwhile,
 * for any state: the call stays with its own);
 * -EPERM (the text cannot be written any more; intercepting goes on);
 * -ESTALE (in a fork child).
 */
MMN_PUBLIC
int mmn_intercept_stop(void);

/**
 * mmn_intercept_get_report - what has been found and done so far
 * @ret_report: its size set; what follows it is written
 *
 * Objects that were mapped since the installation are counted in.
 *
 * Context: may sleep; not from callbacks.
 * Return: 0; -ENOENT (not intercepting); -EINVAL (unknown size).
 */
MMN_PUBLIC
int mmn_intercept_get_report(struct mmn_intercept_report *ret_report);

/**
 * mmn_intercept_get_object - one object of the report
 * @index: from 0
 * @ret_object: its size set
 *
 * Only objects with a system call of interest, or one that is not known, are
 * listed.  From 256 on the last one, "(others)", stands for all that are not
 * listed.
 *
 * Context: may sleep; not from callbacks.
 * Return: 0; -ENOENT (not intercepting, or @index is past the last one);
 * -EINVAL (unknown size).
 */
MMN_PUBLIC
int mmn_intercept_get_object(uint32_t index,
			     struct mmn_intercept_object *ret_object);

/**
 * mmn_intercept_get_stats - what went through so far
 * @ret_stats: its size set
 *
 * Counters of the whole process life, across stop and start.  Each is exact
 * once the calls that it counts have returned.
 *
 * Context: any.
 * Return: 0; -EINVAL (unknown size).
 */
MMN_PUBLIC
int mmn_intercept_get_stats(struct mmn_intercept_stats *ret_stats);

MMN_END_DECLS

#endif
