/* SPDX-License-Identifier: MIT */
#ifndef MMN_MIRROR_H
#define MMN_MIRROR_H
/*
 * Mirrors: a device's own table of part of an address space, kept right.
 *
 * Three levels, each usable by itself:
 *
 *   struct mmn_pages   what the kernel tells a process about its own memory:
 *                      mappings, presence, page frames
 *   mmn_range_fault()  one word per page of a range, with pages faulted in as
 *                      asked for, inside a read section of a subscription
 *   struct mmn_mirror  a table of device maps that is filled by the canonical
 *                      loop and torn down before the memory changes
 *
 * The semantics of the middle one are those of Linux's hmm_range_fault(), so
 * that drivers written for one are at home in the other.
 *
 * What no user-space program can see, and what follows from it:
 *
 *   - The kernel replaces the page under an address without any call of the
 *     program when a write breaks copy-on-write sharing.  A hold that is to
 *     stay right must be taken when that has already happened: see
 *     MMN_FAULT_SETTLE, which mirrors use.
 *   - Whether a page-table entry permits writing is not told.  MMN_PFN_WRITE is
 *     worked out from what is: see there.
 *   - Page migration and swapping are invisible.  A device that pins its pages
 *     (io_uring) excludes both; for others see their documentation.
 */
#include <mmn/common.h>
#include <mmn/device.h>
#include <mmn/notifier.h>

MMN_BEGIN_DECLS

/* ------------------------------------------------------------------ */
/* What the kernel tells a process about its own memory               */
/* ------------------------------------------------------------------ */

struct mmn_pages;

/* Do without a facility even where the kernel has it (tests, comparisons). */
#define MMN_PAGES_NO_QUERY (1u << 0)	/* PROCMAP_QUERY, Linux 6.11 */
#define MMN_PAGES_NO_SCAN (1u << 1)	/* PAGEMAP_SCAN, Linux 6.7 */
#define MMN_PAGES_NO_POPULATE (1u << 2) /* MADV_POPULATE_*, Linux 5.14 */

/**
 * struct mmn_pages_config - how to look
 * @size: sizeof(struct mmn_pages_config)
 * @flags: MMN_PAGES_NO_*
 */
struct mmn_pages_config {
	uint32_t size;
	uint32_t flags;
};

/**
 * mmn_pages_open - get ready to look at the memory of this process
 * @config: may be NULL
 * @ret_pages: the object
 *
 * Opens two descriptors (close-on-exec) in the descriptor table of the calling
 * thread: whoever opens it uses and closes it.  One thread at a time; several
 * objects are independent.  Holds about 9 KiB, not from the heap.  A fork child
 * opens its own: the parent's object would tell about the parent.
 *
 * Context: may sleep; also callbacks.
 * Return: 0; -EINVAL, -E2BIG (@config); -ENOMEM; -ENOTSUP (no way to fault
 * pages in: neither MADV_POPULATE nor process_vm_readv()); what opening
 * /proc/thread-self/pagemap or maps gave (-ENOENT without /proc, -EMFILE,
 * -EACCES); -EIO (pagemap does not know the object's own page).
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_pages_open(const struct mmn_pages_config *config,
				  struct mmn_pages **ret_pages);

/**
 * mmn_pages_close - done looking
 * @pages: may be NULL
 *
 * Context: any; the thread (or another with the same descriptor table) that
 * opened it.
 */
MMN_PUBLIC
void mmn_pages_close(struct mmn_pages *pages);

/**
 * mmn_pages_missing - which facilities does this object do without?
 * @pages: the object
 *
 * Return: MMN_PAGES_NO_* of those that the kernel lacks or that were refused in
 * the config.
 */
MMN_PUBLIC
uint32_t mmn_pages_missing(const struct mmn_pages *pages);

/**
 * mmn_pages_pfn_visible - does the kernel show this process page frames?
 * @pages: the object
 *
 * It does when the opener had CAP_SYS_ADMIN.  If not, MMN_PFN_VALID words have
 * frame 0, which no process is ever given.
 */
MMN_PUBLIC
bool mmn_pages_pfn_visible(const struct mmn_pages *pages);

/* What a mapping permits and is. */
#define MMN_REGION_READ (1u << 0)
#define MMN_REGION_WRITE (1u << 1)
#define MMN_REGION_EXEC (1u << 2)
#define MMN_REGION_SHARED (1u << 3)
/* Made by the kernel, of no page that could be held: [vvar], [vsyscall]. */
#define MMN_REGION_SPECIAL (1u << 4)

/**
 * struct mmn_region - one mapping of the process
 * @start: first byte
 * @last: last byte, inclusive
 * @flags: MMN_REGION_*
 * @page_shift: log2 of the bytes of a page of it; more than that of
 *	mmn_page_size() for hugetlb, if the kernel tells (PROCMAP_QUERY)
 * @offset: of @start in the file, bytes
 * @inode: of the file, 0 for anonymous memory
 * @dev_major: of the file's device
 * @dev_minor: of the file's device
 */
struct mmn_region {
	uintptr_t start;
	uintptr_t last;
	uint32_t flags;
	uint32_t page_shift;
	uint64_t offset;
	uint64_t inode;
	uint32_t dev_major;
	uint32_t dev_minor;
};

/**
 * mmn_pages_region - which mapping is at an address, or next above it?
 * @pages: the object
 * @addr: any byte
 * @ret_region: the mapping that covers @addr, or else the first above it
 *
 * True when it was read; what it is worth later is for the caller's read section
 * to tell.
 *
 * Context: also callbacks and under locks; makes system calls.
 * Return: 0; -ENOENT when nothing is mapped at or above @addr; -ESTALE
 * (the object of a fork parent); -EIO when the kernel's answer makes no sense.
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_pages_region(struct mmn_pages *pages, uintptr_t addr,
				    struct mmn_region *ret_region);

/**
 * mmn_page_size - bytes of a base page
 * Context: any.
 */
MMN_PUBLIC
size_t mmn_page_size(void);

/* ------------------------------------------------------------------ */
/* Range fault                                                        */
/* ------------------------------------------------------------------ */

/*
 * One 64-bit word per page of base size.  The layout is that of hmm_pfns.
 *
 * VALID	out: the page is there and may be read.
 * REQ_FAULT	in: it must become VALID, or the call fails.
 * WRITE	out: it may be written, and as far as user space can see a write
 *		goes to this very page: the mapping is writable and the page
 *		is not shared with anybody by copy-on-write.  Certain after
 *		REQ_WRITE; in a snapshot, an entry that the kernel keeps
 *		read-only for reasons of its own (dirty tracking) may show it.
 * REQ_WRITE	in, together with REQ_FAULT: it must become writable.
 * ERROR	out: it can never be read: nothing mapped, not readable, made
 *		by the kernel, a guard page.
 * STICKY	the caller's marks: copied from input to output.
 * ORDER	out: log2 of the pages of the CPU's mapping that holds this
 *		page, which may reach beyond the range.  Known with
 *		PAGEMAP_SCAN for transparent huge pages and with
 *		PROCMAP_QUERY for hugetlb, else 0.
 * PFN		out: the page frame; 0 when the process may not know.
 *
 * 0 on output: nothing there now; a later REQ_FAULT could succeed.  (A device
 * mapping that the kernel marks only in smaps also shows 0; REQ_FAULT says
 * -EFAULT for it.)
 */
#define MMN_PFN_VALID (1ull << 63)
#define MMN_PFN_REQ_FAULT (1ull << 63)
#define MMN_PFN_WRITE (1ull << 62)
#define MMN_PFN_REQ_WRITE (1ull << 62)
#define MMN_PFN_ERROR (1ull << 61)
#define MMN_PFN_DEVICE_MAPPED (1ull << 60)
#define MMN_PFN_MARK1 (1ull << 59)
#define MMN_PFN_MARK2 (1ull << 58)
#define MMN_PFN_STICKY (MMN_PFN_DEVICE_MAPPED | MMN_PFN_MARK1 | MMN_PFN_MARK2)
#define MMN_PFN_ORDER_SHIFT 53
#define MMN_PFN_ORDER_MASK (0x1full << MMN_PFN_ORDER_SHIFT)
#define MMN_PFN_FRAME_MASK ((1ull << MMN_PFN_ORDER_SHIFT) - 1)

/** mmn_pfn_order - log2 of the pages of the CPU's mapping */
static inline unsigned int mmn_pfn_order(uint64_t word)
{
	return (unsigned int)((word & MMN_PFN_ORDER_MASK) >>
			      MMN_PFN_ORDER_SHIFT);
}

/** mmn_pfn_frame - the page frame; 0 means unknown, or not VALID */
static inline uint64_t mmn_pfn_frame(uint64_t word)
{
	return word & MMN_PFN_FRAME_MASK;
}

/*
 * A page of a writable private mapping that must be VALID must be writable too:
 * then no later write of the program replaces it behind the caller's back, until
 * a fork, which is announced.  Takes memory for pages never written so far.
 */
#define MMN_FAULT_SETTLE (1u << 0)

/**
 * struct mmn_range_fault - a range to look at
 * @size: sizeof(struct mmn_range_fault)
 * @flags: MMN_FAULT_*
 * @sub: the subscription of the read section; NULL to look without one, when
 *	the words are for a report only
 * @seq: what mmn_range_read_begin() returned.  If the range is looked at in
 *	several calls, the value of the first begin belongs into all of them
 *	and into the final mmn_range_read_retry(): with a newer one, a change
 *	of an earlier part in between would go unseen
 * @start: first byte, page aligned
 * @last: last byte of the last page, inclusive; inside @sub's range
 * @words: one per page; inputs are requests and sticky marks
 * @default_flags: requests for every page
 * @flags_mask: which requests of the input words count
 * @next: out, also on errors: words of pages below it are outputs, words of
 *	pages at and above it still hold their inputs
 * @faults: out: pages that had to be faulted in, or asked to be writable
 *
 * A page's request is (word & @flags_mask) | @default_flags; bits other than
 * REQ_FAULT and REQ_WRITE do not count.  Both 0 is a pure snapshot: nothing is
 * faulted in and nothing about contents is an error.
 */
struct mmn_range_fault {
	uint32_t size;
	uint32_t flags;
	const struct mmn_range_subscription *sub;
	uint64_t seq;
	uintptr_t start;
	uintptr_t last;
	uint64_t *words;
	uint64_t default_flags;
	uint64_t flags_mask;
	uintptr_t next;
	uint64_t faults;
};

/**
 * mmn_range_fault - one word per page, faulted in as requested
 * @pages: how to look
 * @fault: what to look at; @fault->words, next and faults are written
 *
 *	page                  no request   REQ_FAULT     + REQ_WRITE
 *	------------------------------------------------------------------
 *	not mapped            ERROR        -EFAULT       -EFAULT
 *	not readable          ERROR        -EFAULT       -EFAULT
 *	I/O, special          ERROR or 0   -EFAULT       -EFAULT
 *	guard page            ERROR        -EFAULT       -EFAULT
 *	beyond the file       0            -EFAULT       -EFAULT
 *	empty, swapped        0            VALID         VALID WRITE, or
 *	                                                 -EPERM (mapping r/o)
 *	there, read-only      VALID        VALID         the same
 *	there, copy pending   VALID        VALID         copied
 *	there, writable       VALID WRITE  VALID WRITE   VALID WRITE
 *
 * Faulting in never changes contents.  The words mean nothing until
 * mmn_range_read_retry(), with the driver's lock held, has said false.
 * If the program's memory changes unannounced in the middle, the function looks
 * again by itself.
 *
 * Context: may sleep; not from callbacks; without the driver's lock.
 * Return: 0; -EBUSY (the section has collided: begin again, with fresh
 * inputs); -EFAULT (a requested page cannot be had: @fault->next tells which);
 * -EPERM (write requested where the mapping is read-only; same); -ENOMEM (no
 * memory to fault in, or pages vanish as fast as they are faulted in); -EINVAL
 * (alignment, last < start, outside of @sub, no words, unknown flags, REQ_WRITE
 * without REQ_FAULT in @default_flags); -E2BIG (@fault->size); -ESTALE (the
 * object of a fork parent); -EIO (the kernel's answer makes no sense).
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_range_fault(struct mmn_pages *pages,
				   struct mmn_range_fault *fault);

/* ------------------------------------------------------------------ */
/* The mirror                                                         */
/* ------------------------------------------------------------------ */

struct mmn_mirror;

/**
 * struct mmn_mirror_lock_ops - a driver's lock as functions
 * @lock: take it; may sleep
 * @unlock: drop it
 * @trylock: take it if that needs no wait
 * @is_held: does the calling thread hold it?  May be NULL: not asserted
 */
struct mmn_mirror_lock_ops {
	void (*lock)(void *lock);
	void (*unlock)(void *lock);
	bool (*trylock)(void *lock);
	bool (*is_held)(void *lock);
};

#define MMN_MIRROR_LOCK_MANAGED 0u /* the mirror's own */
#define MMN_MIRROR_LOCK_MUTEX 1u   /* the driver's pthread_mutex_t */
#define MMN_MIRROR_LOCK_OPS 2u	   /* the driver's, by functions */

/**
 * struct mmn_mirror_lock - which lock protects the table
 *
 * Both ways that were argued about for Linux in 2019 are there.  A driver with
 * tables of its own that must change together with the mirror's binds its lock;
 * everybody else lets the mirror manage one.
 *
 * The lock is taken in invalidation callbacks, so it is never held across a
 * call that changes memory.  The mirror blocks all signals while it holds it,
 * since a handler of the program may change memory; a driver that takes its own
 * lock elsewhere does the same, or knows that its handlers do not.
 */
struct mmn_mirror_lock {
	uint32_t kind;
	uint32_t reserved;
	/* MUTEX: pthread_mutex_t *; OPS: the argument of the functions */
	void *lock;
	const struct mmn_mirror_lock_ops *ops;
};

/**
 * struct mmn_mirror_hooks - what a mirror tells its owner
 * @torn_down: the memory in [start, last] is about to change, and what was
 *	mirrored of it, if anything, has been taken down; called with the lock
 *	held, in the callback: its rules hold.  [start, last] is the change cut
 *	to the mirror's range.
 */
struct mmn_mirror_hooks {
	void (*torn_down)(void *arg, const struct mmn_invalidate_desc *desc,
			  uintptr_t start, uintptr_t last);
};

/*
 * After the device has taken hold, look once more and store those words: for a
 * device that pins, the frame in the word is then the frame it holds.
 */
#define MMN_MIRROR_WORDS_AFTER (1u << 0)

/**
 * struct mmn_mirror_config - how to set up a mirror
 * @size: sizeof(struct mmn_mirror_config)
 * @flags: MMN_MIRROR_*
 * @device: holds the pages; must outlive the mirror
 * @access: MMN_DEVICE_*: what the device may do
 * @run_pages: pages per device map, at most 4096; 0 means 64.  A change tears
 *	down whole maps, so this is also the grain of invalidation
 * @lock: which lock
 * @hooks: may be NULL; must outlive the mirror
 * @hooks_arg: first argument of the hooks
 * @owner: of the range subscription; changes with the same one are left out
 * @install_delay_ns: for tests and demonstrations: sleep this long between
 *	looking and installing, so that collisions become likely
 */
struct mmn_mirror_config {
	uint32_t size;
	uint32_t flags;
	struct mmn_device *device;
	uint32_t access;
	uint32_t run_pages;
	struct mmn_mirror_lock lock;
	const struct mmn_mirror_hooks *hooks;
	void *hooks_arg;
	const void *owner;
	uint64_t install_delay_ns;
};

/**
 * mmn_mirror_create - a device table over a range
 * @state: the address space of this process, live; a reference is taken
 * @start: first byte, page aligned
 * @last: last byte of the last page, inclusive
 * @config: copied
 * @ret_mirror: the mirror, empty
 *
 * Owns one range subscription over the whole range.  Nothing is held yet.
 *
 * Context: may sleep; not from callbacks.
 * Return: 0; -EINVAL (alignment, last < start, no device, no or unknown access,
 * run_pages, a lock without its parts, unknown flags, state released);
 * -E2BIG; -ENOMEM; -ESTALE (@state is a fork parent's).
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_mirror_create(struct mmn_state *state, uintptr_t start,
				     uintptr_t last,
				     const struct mmn_mirror_config *config,
				     struct mmn_mirror **ret_mirror);

/**
 * mmn_mirror_destroy - take everything down
 * @mirror: may be NULL; without fills and accesses under way
 *
 * Waits for transfers under way.  In a fork child only memory is given back.
 * Context: may sleep; not from callbacks; without the lock.
 */
MMN_PUBLIC
void mmn_mirror_destroy(struct mmn_mirror *mirror);

/*
 * Mirror what is there and leave out the rest, instead of faulting everything
 * in: pages that are absent, cannot be read, or cannot be held by the device
 * are skipped and nothing about contents is an error.
 */
#define MMN_MIRROR_FILL_PRESENT (1u << 0)

/* No limit for mmn_mirror_fill.budget_ns. */
#define MMN_MIRROR_NO_LIMIT UINT64_MAX

/**
 * struct mmn_mirror_fill - a range to bring into the mirror
 * @size: sizeof(struct mmn_mirror_fill)
 * @flags: MMN_MIRROR_FILL_*
 * @start: first byte, page aligned, in the mirror's range
 * @last: last byte of the last page, inclusive
 * @budget_ns: for everything together, waiting for open changes included.  When
 *	it is spent no further step is begun; a step under way is finished.
 *	0: do not wait; the first attempt is carried through
 * @pages: out: pages of the range that were mirrored on return
 * @new_pages: out: of those, how many this call brought in
 * @skipped: out, FILL_PRESENT only: pages left out
 * @collisions: out: attempts thrown away
 */
struct mmn_mirror_fill {
	uint32_t size;
	uint32_t flags;
	uintptr_t start;
	uintptr_t last;
	uint64_t budget_ns;
	uint64_t pages;
	uint64_t new_pages;
	uint64_t skipped;
	uint64_t collisions;
};

/**
 * mmn_mirror_fill - a device fault: bring a range into the mirror
 * @mirror: the mirror
 * @pages: how to look; of the calling thread
 * @fill: what; the out members are written on success
 *
 * The canonical loop: begin, look at the range (and fault in what the access
 * needs), let the device take hold with no lock held, take the lock, and install
 * if nothing collided; otherwise let go and start over, until the budget is
 * spent.  One read section covers the whole call, whatever number of maps it
 * takes, and its first sequence is the one that is checked: all of it is
 * installed, or nothing.  Keep ranges moderate where memory changes often.
 *
 * Parts that are mirrored already stay as they are.  Several threads may fill at
 * once, each with its own @pages.  Pages of writable private mappings are
 * settled (MMN_FAULT_SETTLE).
 *
 * Context: may sleep; not from callbacks, not inside a change of this thread;
 * without the lock.
 * Return: 0; -ETIMEDOUT (the budget is spent: by changes that stayed open, or by
 * collisions); -EFAULT, -EPERM, -ENOMEM, -EIO as mmn_range_fault();
 * -EFAULT, -ENOMEM, -ENOSPC, -EDQUOT as mmn_device_map(); -EINVAL (alignment,
 * last < start, outside of the mirror, unknown flags); -E2BIG; -ESTALE (in a
 * fork child).  After an error nothing was installed by this call.
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_mirror_fill(struct mmn_mirror *mirror,
				   struct mmn_pages *pages,
				   struct mmn_mirror_fill *fill);

/**
 * mmn_mirror_evict - give up part of the mirror
 * @mirror: the mirror
 * @start: first byte; any alignment
 * @last: last byte, inclusive
 * @ret_pages: pages given up, may be NULL.  Maps that overlap the range are
 *	given up whole
 *
 * Waits for transfers under way on them.
 * Context: may sleep; not from callbacks; without the lock.
 * Return: 0; -EINVAL (last < start); -ESTALE (in a fork child).
 */
MMN_PUBLIC
int mmn_mirror_evict(struct mmn_mirror *mirror, uintptr_t start, uintptr_t last,
		     uint64_t *ret_pages);

/**
 * struct mmn_mirror_access - the lock, held
 */
struct mmn_mirror_access {
	/* private: */
	struct mmn_mirror *mirror;
	uint64_t private_[4];
};

/**
 * mmn_mirror_access_begin - take the mirror's lock
 * mmn_mirror_access_end - drop it
 * @mirror: the mirror
 * @access: the caller's memory, from begin to end
 *
 * In between entries stay what they are: a change that would take them away
 * waits.  All signals are blocked.  Do not call anything that changes memory.
 * With a bound lock a driver may take that lock by itself instead.
 *
 * Context: may sleep; not from callbacks; does not nest.
 */
MMN_PUBLIC
void mmn_mirror_access_begin(struct mmn_mirror *mirror,
			     struct mmn_mirror_access *access);
MMN_PUBLIC
void mmn_mirror_access_end(struct mmn_mirror_access *access);

/**
 * struct mmn_mirror_entry - what the mirror knows about an address
 * @start: first byte of the device map
 * @last: its last byte, inclusive
 * @map: the device map; live while the lock is held
 * @addr: first byte of the page
 * @word: its word as of mmn_range_fault()
 * @words: the words of all pages of the map
 */
struct mmn_mirror_entry {
	uintptr_t start;
	uintptr_t last;
	struct mmn_device_map *map;
	uintptr_t addr;
	uint64_t word;
	const uint64_t *words;
};

/**
 * mmn_mirror_lookup - is this address mirrored?
 * @mirror: the mirror
 * @addr: any byte
 * @ret_entry: the entry of its page
 *
 * Context: the lock is held (asserted in debug builds); never sleeps.
 * Return: 0; -ENOENT.
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_mirror_lookup(struct mmn_mirror *mirror, uintptr_t addr,
				     struct mmn_mirror_entry *ret_entry);

/**
 * mmn_mirror_next - the entry of this address, or the first above it
 * @mirror: the mirror
 * @addr: any byte
 * @ret_entry: the entry; go on with ret_entry->last + 1, unless that wraps
 *
 * Context, Return: as mmn_mirror_lookup().
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_mirror_next(struct mmn_mirror *mirror, uintptr_t addr,
				   struct mmn_mirror_entry *ret_entry);

/**
 * mmn_mirror_submit_locked - start a transfer on an entry
 * @mirror: the mirror
 * @addr: first byte in the process
 * @transfer: length, access, buffer and done are the caller's; map and offset
 *	are filled in here
 *
 * The lookup and the submission are one step, so that the transfer is either
 * refused or waited for by the change that takes the entry away.
 *
 * Context: the lock is held; not from invalidation callbacks; also from a
 * transfer's done.
 * Return: 0; -ENOENT (not mirrored: fill first); -ERANGE (reaches beyond the
 * entry's map: split it at entry.last); -EPERM (write without MMN_PFN_WRITE in
 * every page's word); else as mmn_device_submit().
 */
MMN_PUBLIC
MMN_MUST_CHECK int
mmn_mirror_submit_locked(struct mmn_mirror *mirror, uintptr_t addr,
			 struct mmn_device_transfer *transfer);

/**
 * mmn_mirror_submit - mmn_mirror_submit_locked() with the lock taken inside
 *
 * Context: may sleep; without the lock; else the same.
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmn_mirror_submit(struct mmn_mirror *mirror, uintptr_t addr,
				     struct mmn_device_transfer *transfer);

/**
 * struct mmn_mirror_stats - counters since creation
 * @size: sizeof(struct mmn_mirror_stats), set by the caller
 * @runs: device maps installed now
 * @pages: pages installed now
 * @table_bytes: memory of the table now
 * @fills: calls of mmn_mirror_fill() that succeeded
 * @filled_pages: pages installed by them
 * @collisions: attempts thrown away because a change came in between
 * @timeouts: fills that gave up
 * @invalidations: changes that overlapped the mirror
 * @invalidated_runs: device maps taken down by changes
 * @invalidated_pages: pages of those
 * @refused: non-blocking changes refused
 * @evicted_pages: pages given up by mmn_mirror_evict()
 */
struct mmn_mirror_stats {
	uint32_t size;
	uint32_t reserved;
	uint64_t runs;
	uint64_t pages;
	uint64_t table_bytes;
	uint64_t fills;
	uint64_t filled_pages;
	uint64_t collisions;
	uint64_t timeouts;
	uint64_t invalidations;
	uint64_t invalidated_runs;
	uint64_t invalidated_pages;
	uint64_t refused;
	uint64_t evicted_pages;
};

/**
 * mmn_mirror_get_stats - read the counters
 * @mirror: the mirror
 * @stats: size set; filled as far as size reaches
 *
 * One consistent set.
 * Context: may sleep; without the lock.
 * Return: 0; -EINVAL (size 0 or smaller than its own first member).
 */
MMN_PUBLIC
int mmn_mirror_get_stats(struct mmn_mirror *mirror,
			 struct mmn_mirror_stats *stats);

MMN_END_DECLS

#endif
