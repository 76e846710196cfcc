/* SPDX-License-Identifier: MIT */
#ifndef MMN_BASE_ATOMIC_H
#define MMN_BASE_ATOMIC_H
/*
 * The only file that spells a memory order.
 *
 * The names are the kernel's ideas spelled out, so that one search finds every
 * ordered access.  They work on plain integers and pointers: no _Atomic, so
 * that the structs stay usable from C++ and readable by sparse.
 *
 * An access with an order stronger than relaxed carries, in the comment above
 * it, pair(tag): which side it is, where the other side stands, and what goes
 * wrong without it.  scripts/check-pairs.py fails the build otherwise.
 *
 * ThreadSanitizer does not see fences that stand alone.  mmn_smp_mb() is
 * therefore a last resort for store-to-load order (the two-column table
 * "[W] MB [R]" belongs beside it); everything else puts the order on an access.
 */
#include <stdint.h>

/*
 * Code that is compiled for the explorer (src/ladder/subject.h) tells it where
 * each access stands.
 */
#ifndef MMN_ATOMIC_SITE
#define MMN_ATOMIC_SITE(name, p) ((void)0)
#endif

#define mmn_load_relaxed(p)                    \
	(MMN_ATOMIC_SITE(mmn_load_relaxed, p), \
	 __atomic_load_n((p), __ATOMIC_RELAXED))
#define mmn_load_acquire(p)                    \
	(MMN_ATOMIC_SITE(mmn_load_acquire, p), \
	 __atomic_load_n((p), __ATOMIC_ACQUIRE))
#define mmn_store_relaxed(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_store_relaxed, p), \
	 __atomic_store_n((p), (v), __ATOMIC_RELAXED))
#define mmn_store_release(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_store_release, p), \
	 __atomic_store_n((p), (v), __ATOMIC_RELEASE))

/*
 * One order over all of these: of two threads that each store one word and then
 * load the other's, one sees the store.  ThreadSanitizer understands them.
 */
#define mmn_load_seq_cst(p)                    \
	(MMN_ATOMIC_SITE(mmn_load_seq_cst, p), \
	 __atomic_load_n((p), __ATOMIC_SEQ_CST))
/*
 * An emulator may let a load pass such a store where the processor does not: qemu 7.2
 * has no barrier between stlr and ldar.  An exchange is not passed.
 */
#if defined(MMN_STORE_BY_EXCHANGE) && !defined(MMN_LADDER)
#define mmn_store_seq_cst(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_store_seq_cst, p), \
	 (void)__atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST))
#else
#define mmn_store_seq_cst(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_store_seq_cst, p), \
	 __atomic_store_n((p), (v), __ATOMIC_SEQ_CST))
#endif
#define mmn_fetch_add_seq_cst(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_fetch_add_seq_cst, p), \
	 __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST))
#define mmn_cmpxchg_seq_cst(p, expected, v)                   \
	(MMN_ATOMIC_SITE(mmn_cmpxchg_seq_cst, p),             \
	 __atomic_compare_exchange_n((p), (expected), (v), 0, \
				     __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))

#define mmn_xchg_relaxed(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_xchg_relaxed, p), \
	 __atomic_exchange_n((p), (v), __ATOMIC_RELAXED))
#define mmn_xchg_acquire(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_xchg_acquire, p), \
	 __atomic_exchange_n((p), (v), __ATOMIC_ACQUIRE))
#define mmn_xchg_release(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_xchg_release, p), \
	 __atomic_exchange_n((p), (v), __ATOMIC_RELEASE))
#define mmn_xchg_acq_rel(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_xchg_acq_rel, p), \
	 __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL))

#define mmn_fetch_add_relaxed(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_fetch_add_relaxed, p), \
	 __atomic_fetch_add((p), (v), __ATOMIC_RELAXED))
#define mmn_fetch_add_acquire(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_fetch_add_acquire, p), \
	 __atomic_fetch_add((p), (v), __ATOMIC_ACQUIRE))
#define mmn_fetch_add_release(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_fetch_add_release, p), \
	 __atomic_fetch_add((p), (v), __ATOMIC_RELEASE))
#define mmn_fetch_add_acq_rel(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_fetch_add_acq_rel, p), \
	 __atomic_fetch_add((p), (v), __ATOMIC_ACQ_REL))
#define mmn_fetch_sub_relaxed(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_fetch_sub_relaxed, p), \
	 __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED))
#define mmn_fetch_sub_release(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_fetch_sub_release, p), \
	 __atomic_fetch_sub((p), (v), __ATOMIC_RELEASE))
#define mmn_fetch_sub_acq_rel(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_fetch_sub_acq_rel, p), \
	 __atomic_fetch_sub((p), (v), __ATOMIC_ACQ_REL))
#define mmn_fetch_or_relaxed(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_fetch_or_relaxed, p), \
	 __atomic_fetch_or((p), (v), __ATOMIC_RELAXED))
#define mmn_fetch_or_acquire(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_fetch_or_acquire, p), \
	 __atomic_fetch_or((p), (v), __ATOMIC_ACQUIRE))
#define mmn_fetch_or_release(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_fetch_or_release, p), \
	 __atomic_fetch_or((p), (v), __ATOMIC_RELEASE))
#define mmn_fetch_or_acq_rel(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_fetch_or_acq_rel, p), \
	 __atomic_fetch_or((p), (v), __ATOMIC_ACQ_REL))
#define mmn_fetch_and_relaxed(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_fetch_and_relaxed, p), \
	 __atomic_fetch_and((p), (v), __ATOMIC_RELAXED))
#define mmn_fetch_and_release(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_fetch_and_release, p), \
	 __atomic_fetch_and((p), (v), __ATOMIC_RELEASE))
#define mmn_fetch_and_acq_rel(p, v)                 \
	(MMN_ATOMIC_SITE(mmn_fetch_and_acq_rel, p), \
	 __atomic_fetch_and((p), (v), __ATOMIC_ACQ_REL))

/*
 * Compare and exchange, strong: true when *p was *expected and is now v;
 * otherwise *expected holds what was found, read with the relaxed order.
 */
#define mmn_cmpxchg_relaxed(p, expected, v)                   \
	(MMN_ATOMIC_SITE(mmn_cmpxchg_relaxed, p),             \
	 __atomic_compare_exchange_n((p), (expected), (v), 0, \
				     __ATOMIC_RELAXED, __ATOMIC_RELAXED))
#define mmn_cmpxchg_acquire(p, expected, v)                   \
	(MMN_ATOMIC_SITE(mmn_cmpxchg_acquire, p),             \
	 __atomic_compare_exchange_n((p), (expected), (v), 0, \
				     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
#define mmn_cmpxchg_release(p, expected, v)                   \
	(MMN_ATOMIC_SITE(mmn_cmpxchg_release, p),             \
	 __atomic_compare_exchange_n((p), (expected), (v), 0, \
				     __ATOMIC_RELEASE, __ATOMIC_RELAXED))
#define mmn_cmpxchg_acq_rel(p, expected, v)                   \
	(MMN_ATOMIC_SITE(mmn_cmpxchg_acq_rel, p),             \
	 __atomic_compare_exchange_n((p), (expected), (v), 0, \
				     __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))

/* Orders earlier stores before later loads, which nothing else above does. */
#define mmn_smp_mb()                         \
	(MMN_ATOMIC_SITE(mmn_smp_mb, fence), \
	 __atomic_thread_fence(__ATOMIC_SEQ_CST))

/* Keeps the compiler, not the machine, from moving accesses across. */
#if defined(MMN_LADDER)
#define mmn_barrier() ladder_compiler_barrier()
#else
#define mmn_barrier() __asm__ __volatile__("" ::: "memory")
#endif

static inline void mmn_cpu_relax(void)
{
#if defined(MMN_LADDER)
	ladder_spin();
#elif defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("yield" ::: "memory");
#else
	mmn_barrier();
#endif
}

#endif
