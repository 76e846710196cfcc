/* SPDX-License-Identifier: MIT */
#ifndef MMN_MMU_NOTIFIER_H
#define MMN_MMU_NOTIFIER_H
/*
 * The notifiers of <mmn/notifier.h> under Linux's names.
 *
 * For code that was written against the kernel's header: names, argument order,
 * exclusive ends, sequences of type unsigned long and return values are the
 * kernel's.  New code has no reason to use it.  What differs underneath is
 * listed in doc/KERNEL-MAP.md, each with the reason why such code does not
 * notice: it waits less, and wrong use is reported instead of corrupting.
 *
 * A struct mm_struct is a struct mmn_state that goes by another name; it cannot
 * be looked into.  Both interfaces may be used on one address space at once.
 *
 * Not in <mmn/mmn.h>: who does not ask for these names does not get them.
 */
#include <errno.h>
#include <limits.h>

#include <mmn/notifier.h>

#if ULONG_MAX < UINT64_MAX
#error "a sequence does not fit into an unsigned long here: use <mmn/notifier.h>"
#endif

MMN_BEGIN_DECLS

/* ------------------------------------------------------------------ */
/* Address spaces                                                     */
/* ------------------------------------------------------------------ */

struct mm_struct;

/** mmn_mm_of - the kernel's name for a state; no reference is taken */
static inline struct mm_struct *mmn_mm_of(struct mmn_state *state)
{
	return (struct mm_struct *)(void *)state;
}

/** mmn_state_of - the state behind an mm; no reference is taken */
static inline struct mmn_state *mmn_state_of(struct mm_struct *mm)
{
	return (struct mmn_state *)(void *)mm;
}

/** mmgrab - mmn_state_get() */
static inline void mmgrab(struct mm_struct *mm)
{
	mmn_state_get(mmn_state_of(mm));
}

/** mmdrop - mmn_state_put() */
static inline void mmdrop(struct mm_struct *mm)
{
	mmn_state_put(mmn_state_of(mm));
}

/** mm_has_notifiers - mmn_state_has_subscriptions() */
static inline bool mm_has_notifiers(struct mm_struct *mm)
{
	return mmn_state_has_subscriptions(mmn_state_of(mm));
}

/** mmu_notifier_release - mmn_state_release(); a second one does nothing */
static inline void mmu_notifier_release(struct mm_struct *mm)
{
	(void)mmn_state_release(mmn_state_of(mm));
}

/* ------------------------------------------------------------------ */
/* Changes                                                            */
/* ------------------------------------------------------------------ */

enum mmu_notifier_event {
	MMU_NOTIFY_UNMAP = MMN_EVENT_UNMAP,
	MMU_NOTIFY_CLEAR = MMN_EVENT_CLEAR,
	MMU_NOTIFY_PROTECTION_VMA = MMN_EVENT_PROTECTION_VMA,
	MMU_NOTIFY_PROTECTION_PAGE = MMN_EVENT_PROTECTION_PAGE,
	MMU_NOTIFY_SOFT_DIRTY = MMN_EVENT_SOFT_DIRTY,
	MMU_NOTIFY_RELEASE = MMN_EVENT_RELEASE,
	MMU_NOTIFY_MIGRATE = MMN_EVENT_MIGRATE,
	MMU_NOTIFY_EXCLUSIVE = MMN_EVENT_EXCLUSIVE
};

#define MMU_NOTIFIER_RANGE_BLOCKABLE MMN_INVALIDATE_BLOCKABLE

/**
 * struct mmu_notifier_range - one change
 * @mm: the address space
 * @start: first byte
 * @end: behind the last byte; ULONG_MAX stands for the end of the address space
 * @flags: MMU_NOTIFIER_RANGE_*
 * @event: what kind of change
 * @owner: for callbacks to recognise their own changes by
 *
 * The same object is given to start and to end, and stays where it is in
 * between.  A callback gets a copy that lives as long as the call.
 */
struct mmu_notifier_range {
	struct mm_struct *mm;
	unsigned long start;
	unsigned long end;
	unsigned int flags;
	enum mmu_notifier_event event;
	void *owner;
	/* private: */
	struct mmn_invalidate_desc desc_;
};

/** mmu_notifier_range_init_owner - describe a change, and who makes it */
static inline void
mmu_notifier_range_init_owner(struct mmu_notifier_range *range,
			      enum mmu_notifier_event event, unsigned int flags,
			      struct mm_struct *mm, unsigned long start,
			      unsigned long end, void *owner)
{
	range->mm = mm;
	range->start = start;
	range->end = end;
	range->flags = flags;
	range->event = event;
	range->owner = owner;
}

/** mmu_notifier_range_init - describe a change; the owner is NULL */
static inline void mmu_notifier_range_init(struct mmu_notifier_range *range,
					   enum mmu_notifier_event event,
					   unsigned int flags,
					   struct mm_struct *mm,
					   unsigned long start,
					   unsigned long end)
{
	mmu_notifier_range_init_owner(range, event, flags, mm, start, end,
				      NULL);
}

/** mmu_notifier_range_blockable - may this callback sleep? */
static inline bool
mmu_notifier_range_blockable(const struct mmu_notifier_range *range)
{
	return range->flags & MMU_NOTIFIER_RANGE_BLOCKABLE;
}

/* An end of ULONG_MAX includes the last byte: too much is allowed. */
static inline uintptr_t mmu_notifier_last_(unsigned long end)
{
	return end == ULONG_MAX ? UINTPTR_MAX : (uintptr_t)end - 1;
}

static inline unsigned long mmu_notifier_end_(uintptr_t last)
{
	return last == UINTPTR_MAX ? ULONG_MAX : (unsigned long)last + 1;
}

/* What a callback gets. */
static inline void
mmu_notifier_range_of_(struct mmu_notifier_range *range,
		       const struct mmn_invalidate_desc *desc)
{
	range->mm = mmn_mm_of(desc->state);
	range->start = desc->start;
	range->end = mmu_notifier_end_(desc->last);
	range->flags = desc->flags;
	range->event = (enum mmu_notifier_event)desc->event;
	range->owner = (void *)(uintptr_t)desc->owner;
}

static inline void mmu_notifier_desc_init_(struct mmu_notifier_range *range)
{
	mmn_invalidate_desc_init(&range->desc_, mmn_state_of(range->mm),
				 (uint32_t)range->event, range->start,
				 mmu_notifier_last_(range->end));
	range->desc_.flags = range->flags;
	range->desc_.owner = range->owner;
}

/**
 * mmu_notifier_invalidate_range_start - mmn_invalidate_start()
 * @range: not open
 *
 * A range without a byte in it concerns nobody: start and end do nothing.
 */
static inline void
mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range)
{
	range->flags |= MMU_NOTIFIER_RANGE_BLOCKABLE;
	if (range->start >= range->end)
		return;
	mmu_notifier_desc_init_(range);
	(void)mmn_invalidate_start(&range->desc_);
}

/**
 * mmu_notifier_invalidate_range_start_nonblock - the same without sleeping
 * @range: not open
 *
 * Return: 0; -EAGAIN: somebody refused, do not call end.
 */
static inline int
mmu_notifier_invalidate_range_start_nonblock(struct mmu_notifier_range *range)
{
	range->flags &= ~MMU_NOTIFIER_RANGE_BLOCKABLE;
	if (range->start >= range->end)
		return 0;
	mmu_notifier_desc_init_(range);
	return mmn_invalidate_start_nonblock(&range->desc_);
}

/** mmu_notifier_invalidate_range_end - mmn_invalidate_end() */
static inline void
mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range)
{
	if (range->start < range->end)
		(void)mmn_invalidate_end(&range->desc_);
}

/* ------------------------------------------------------------------ */
/* Interval notifiers                                                 */
/* ------------------------------------------------------------------ */

struct mmu_interval_notifier;

/**
 * struct mmu_interval_notifier_finish - a second pass
 * @notifier: filled in by the library before @invalidate_finish
 */
struct mmu_interval_notifier_finish {
	struct mmu_interval_notifier *notifier;
	/* private: */
	struct mmn_range_finish finish_;
};

/**
 * struct mmu_interval_notifier_ops - what a subscriber does
 *
 * @invalidate: as in struct mmn_range_ops
 * @invalidate_start: first of two passes; goes before @invalidate when both are
 *	there
 * @invalidate_finish: second pass
 */
struct mmu_interval_notifier_ops {
	bool (*invalidate)(struct mmu_interval_notifier *interval_sub,
			   const struct mmu_notifier_range *range,
			   unsigned long cur_seq);
	bool (*invalidate_start)(struct mmu_interval_notifier *interval_sub,
				 const struct mmu_notifier_range *range,
				 unsigned long cur_seq,
				 struct mmu_interval_notifier_finish **final);
	void (*invalidate_finish)(struct mmu_interval_notifier_finish *final);
};

/* The part of the kernel's tree node that drivers read. */
struct interval_tree_node {
	unsigned long start;
	unsigned long last;
};

/**
 * struct mmu_interval_notifier - a subscription to a range
 * @interval_tree: the range, both ends inclusive
 * @ops: what to call
 * @mm: the address space; NULL after an insert that failed
 *
 * Needs no initialisation before it is inserted, and no more than the alignment
 * that malloc() gives; it must not move while it is inserted.
 */
struct mmu_interval_notifier {
	struct interval_tree_node interval_tree;
	const struct mmu_interval_notifier_ops *ops;
	struct mm_struct *mm;
	/* private: the subscription, somewhere in here, and who it belongs to */
	uint64_t space_[(sizeof(struct mmn_range_subscription) +
			 __alignof__(struct mmn_range_subscription)) /
			sizeof(uint64_t)];
};

/** mmu_interval_sub - the same in <mmn/notifier.h>, for what Linux lacks */
static inline struct mmn_range_subscription *
mmu_interval_sub(struct mmu_interval_notifier *interval_sub)
{
	uintptr_t mask = __alignof__(struct mmn_range_subscription) - 1;
	uintptr_t addr = ((uintptr_t)interval_sub->space_ + mask) & ~mask;

	return (struct mmn_range_subscription *)addr;
}

/* Where the way back stands: behind the subscription. */
static inline struct mmu_interval_notifier **
mmu_interval_back_(struct mmn_range_subscription *sub)
{
	return (struct mmu_interval_notifier **)(void *)(sub + 1);
}

static inline bool
mmu_interval_invalidate_(struct mmn_range_subscription *sub,
			 const struct mmn_invalidate_desc *desc,
			 uint64_t cur_seq)
{
	struct mmu_interval_notifier *interval_sub = *mmu_interval_back_(sub);
	struct mmu_notifier_range range;

	mmu_notifier_range_of_(&range, desc);
	return interval_sub->ops->invalidate(interval_sub, &range, cur_seq);
}

static inline bool
mmu_interval_invalidate_start_(struct mmn_range_subscription *sub,
			       const struct mmn_invalidate_desc *desc,
			       uint64_t cur_seq,
			       struct mmn_range_finish **ret_finish)
{
	struct mmu_interval_notifier *interval_sub = *mmu_interval_back_(sub);
	struct mmu_interval_notifier_finish *final = NULL;
	struct mmu_notifier_range range;

	mmu_notifier_range_of_(&range, desc);
	if (!interval_sub->ops->invalidate_start(interval_sub, &range, cur_seq,
						 &final))
		return false;
	if (final) {
		final->notifier = interval_sub;
		*ret_finish = &final->finish_;
	}
	return true;
}

static inline void
mmu_interval_invalidate_finish_(struct mmn_range_finish *finish)
{
	struct mmu_interval_notifier_finish *final =
		(struct mmu_interval_notifier_finish
			 *)(void *)((char *)finish -
				    offsetof(
					    struct mmu_interval_notifier_finish,
					    finish_));

	final->notifier->ops->invalidate_finish(final);
}

/**
 * mmu_interval_notifier_insert - subscribe to a range
 * @interval_sub: not inserted
 * @mm: the address space, live
 * @start: first byte
 * @length: bytes
 * @ops: must outlive the subscription
 *
 * Return: 0; -EOVERFLOW (no byte, or the range would wrap); -EINVAL (@mm was
 * released; @ops has neither form, or a first pass without a second);
 * -ESTALE (in a fork child).
 */
static inline int
mmu_interval_notifier_insert(struct mmu_interval_notifier *interval_sub,
			     struct mm_struct *mm, unsigned long start,
			     unsigned long length,
			     const struct mmu_interval_notifier_ops *ops)
{
	static const struct mmn_range_ops one_pass = { mmu_interval_invalidate_,
						       NULL, NULL, NULL };
	static const struct mmn_range_ops two_passes = {
		NULL, mmu_interval_invalidate_start_,
		mmu_interval_invalidate_finish_, NULL
	};
	struct mmn_range_config config = { (uint32_t)sizeof(config), 0,
					   &one_pass, mmn_driver_no_lock(),
					   NULL };
	struct mmn_range_subscription *sub = mmu_interval_sub(interval_sub);
	uintptr_t last = 0;
	int ret;

	interval_sub->mm = NULL;
	interval_sub->ops = ops;
	if (ops->invalidate_start)
		config.ops = &two_passes;
	ret = mmn_range_subscription_init(sub, &config);
	if (ret)
		return ret;
	*mmu_interval_back_(sub) = interval_sub;
	if (ops->invalidate_start ? !ops->invalidate_finish : !ops->invalidate)
		return -EINVAL;
	if (mmn_range_last(start, length, &last))
		return -EOVERFLOW;
	interval_sub->interval_tree.start = start;
	interval_sub->interval_tree.last = last;
	interval_sub->mm = mm;
	ret = mmn_range_subscription_insert(sub, mmn_state_of(mm), start, last);
	if (ret)
		interval_sub->mm = NULL;
	return ret;
}

/** mmu_interval_notifier_insert_locked - the same: there is no lock to hold */
static inline int
mmu_interval_notifier_insert_locked(struct mmu_interval_notifier *interval_sub,
				    struct mm_struct *mm, unsigned long start,
				    unsigned long length,
				    const struct mmu_interval_notifier_ops *ops)
{
	return mmu_interval_notifier_insert(interval_sub, mm, start, length,
					    ops);
}

/**
 * mmu_interval_notifier_remove - mmn_range_subscription_remove()
 * @interval_sub: inserted; or its insert failed, then nothing happens
 */
static inline void
mmu_interval_notifier_remove(struct mmu_interval_notifier *interval_sub)
{
	(void)mmn_range_subscription_remove(mmu_interval_sub(interval_sub));
}

/** mmu_interval_read_begin - mmn_range_read_begin() */
static inline unsigned long
mmu_interval_read_begin(struct mmu_interval_notifier *interval_sub)
{
	return mmn_range_read_begin(mmu_interval_sub(interval_sub));
}

/** mmu_interval_read_retry - mmn_range_read_retry() */
static inline bool
mmu_interval_read_retry(struct mmu_interval_notifier *interval_sub,
			unsigned long seq)
{
	return mmn_range_read_retry(mmu_interval_sub(interval_sub), seq);
}

/** mmu_interval_check_retry - mmn_range_check_retry() */
static inline bool
mmu_interval_check_retry(struct mmu_interval_notifier *interval_sub,
			 unsigned long seq)
{
	return mmn_range_check_retry(mmu_interval_sub(interval_sub), seq);
}

/** mmu_interval_set_seq - mmn_range_set_seq() */
static inline void
mmu_interval_set_seq(struct mmu_interval_notifier *interval_sub,
		     unsigned long cur_seq)
{
	mmn_range_set_seq(mmu_interval_sub(interval_sub), cur_seq);
}

/* ------------------------------------------------------------------ */
/* Classic notifiers                                                  */
/* ------------------------------------------------------------------ */

struct mmu_notifier;

/**
 * struct mmu_notifier_ops - what a classic subscriber does
 *
 * As struct mmn_subscription_ops, with exclusive ends.  @alloc_notifier
 * returns the object or a negative errno as a pointer.
 */
struct mmu_notifier_ops {
	void (*release)(struct mmu_notifier *subscription,
			struct mm_struct *mm);
	bool (*clear_flush_young)(struct mmu_notifier *subscription,
				  struct mm_struct *mm, unsigned long start,
				  unsigned long end);
	bool (*clear_young)(struct mmu_notifier *subscription,
			    struct mm_struct *mm, unsigned long start,
			    unsigned long end);
	bool (*test_young)(struct mmu_notifier *subscription,
			   struct mm_struct *mm, unsigned long address);
	int (*invalidate_range_start)(struct mmu_notifier *subscription,
				      const struct mmu_notifier_range *range);
	void (*invalidate_range_end)(struct mmu_notifier *subscription,
				     const struct mmu_notifier_range *range);
	void (*arch_invalidate_secondary_tlbs)(
		struct mmu_notifier *subscription, struct mm_struct *mm,
		unsigned long start, unsigned long end);
	struct mmu_notifier *(*alloc_notifier)(struct mm_struct *mm);
	void (*free_notifier)(struct mmu_notifier *subscription);
};

/**
 * struct mmu_notifier - a subscriber to a whole address space
 * @ops: set by the driver before registration
 * @mm: set by the library
 */
struct mmu_notifier {
	const struct mmu_notifier_ops *ops;
	struct mm_struct *mm;
	/* private: */
	struct mmn_subscription sub_;
};

/**
 * mmu_notifier_register - mmn_subscription_register()
 * @subscription: @ops is set, the rest may be anything; not registered.  NULL
 *	prepares the kernel's tables and does nothing here.
 * @mm: the address space, live
 *
 * Return: 0; -ENOMEM; -EEXIST (registered, here or elsewhere; it stays as it is);
 * else as mmn_subscription_register().
 */
MMN_PUBLIC
MMN_MUST_CHECK int mmu_notifier_register(struct mmu_notifier *subscription,
					 struct mm_struct *mm);

/** __mmu_notifier_register - the same: there is no lock to hold */
static inline int __mmu_notifier_register(struct mmu_notifier *subscription,
					  struct mm_struct *mm)
{
	return mmu_notifier_register(subscription, mm);
}

/**
 * mmu_notifier_get - one shared subscription per (mm, ops)
 * @ops: with alloc_notifier and free_notifier
 * @mm: the address space, live
 *
 * Return: the subscription, one user more; or a negative errno as a pointer:
 * -ENOMEM, what alloc_notifier returned, or as mmn_subscription_get().
 */
MMN_PUBLIC
MMN_MUST_CHECK struct mmu_notifier *
mmu_notifier_get(const struct mmu_notifier_ops *ops, struct mm_struct *mm);

/** mmu_notifier_get_locked - the same: there is no lock to hold */
static inline struct mmu_notifier *
mmu_notifier_get_locked(const struct mmu_notifier_ops *ops,
			struct mm_struct *mm)
{
	return mmu_notifier_get(ops, mm);
}

/** mmu_notifier_unregister - mmn_subscription_unregister() */
static inline void mmu_notifier_unregister(struct mmu_notifier *subscription,
					   struct mm_struct *mm)
{
	(void)mm;
	(void)mmn_subscription_unregister(&subscription->sub_);
}

/** mmu_notifier_put - mmn_subscription_put() */
static inline void mmu_notifier_put(struct mmu_notifier *subscription)
{
	(void)mmn_subscription_put(&subscription->sub_);
}

/** mmu_notifier_synchronize - mmn_subscription_synchronize() */
static inline void mmu_notifier_synchronize(void)
{
	(void)mmn_subscription_synchronize();
}

/** mmu_notifier_clear_flush_young - mmn_clear_flush_young() */
static inline bool mmu_notifier_clear_flush_young(struct mm_struct *mm,
						  unsigned long start,
						  unsigned long end)
{
	return start < end && mmn_clear_flush_young(mmn_state_of(mm), start,
						    mmu_notifier_last_(end));
}

/** mmu_notifier_clear_young - mmn_clear_young() */
static inline bool mmu_notifier_clear_young(struct mm_struct *mm,
					    unsigned long start,
					    unsigned long end)
{
	return start < end && mmn_clear_young(mmn_state_of(mm), start,
					      mmu_notifier_last_(end));
}

/** mmu_notifier_test_young - mmn_test_young() */
static inline bool mmu_notifier_test_young(struct mm_struct *mm,
					   unsigned long address)
{
	return mmn_test_young(mmn_state_of(mm), address);
}

/** mmu_notifier_arch_invalidate_secondary_tlbs */
static inline void mmu_notifier_arch_invalidate_secondary_tlbs(
	struct mm_struct *mm, unsigned long start, unsigned long end)
{
	if (start < end)
		mmn_invalidate_secondary_tlbs(mmn_state_of(mm), start,
					      mmu_notifier_last_(end));
}

MMN_END_DECLS

#endif
