/* SPDX-License-Identifier: MIT */
/*
 * Classic subscriptions under Linux's names.
 *
 * The library tells by the operations that are there what a subscriber is (one
 * with an end, one that flushes TLBs), and by their address which subscribers
 * are shared.  So there is one table for each table of a driver that is shared,
 * and one for each set of operations for those that are not.  They are kept for
 * ever: there are as many as drivers have tables.
 */
#include <mmn/mmu_notifier.h>

#include <stdlib.h>

#include "base/atomic.h"
#include "notifier/state.h"

/*
 * struct translation - what the library calls for a table of a driver
 * @ops: only the operations that the driver has
 * @driver: the driver's table, NULL when it is not shared
 * @next: what was added before
 */
struct translation {
	struct mmn_subscription_ops ops;
	const struct mmu_notifier_ops *driver;
	struct translation *next;
};

static struct translation *translations;

/* The operation that allocates is not told for whom. */
static __thread const struct mmu_notifier_ops *getting
	__attribute__((tls_model("initial-exec")));

static struct mmu_notifier *notifier_of(struct mmn_subscription *sub)
{
	return (struct mmu_notifier *)((char *)sub -
				       offsetof(struct mmu_notifier, sub_));
}

static void call_release(struct mmn_subscription *sub, struct mmn_state *state)
{
	struct mmu_notifier *notifier = notifier_of(sub);

	notifier->ops->release(notifier, mmn_mm_of(state));
}

static bool call_clear_flush_young(struct mmn_subscription *sub,
				   struct mmn_state *state, uintptr_t start,
				   uintptr_t last)
{
	struct mmu_notifier *notifier = notifier_of(sub);

	return notifier->ops->clear_flush_young(notifier, mmn_mm_of(state),
						start, mmu_notifier_end_(last));
}

static bool call_clear_young(struct mmn_subscription *sub,
			     struct mmn_state *state, uintptr_t start,
			     uintptr_t last)
{
	struct mmu_notifier *notifier = notifier_of(sub);

	return notifier->ops->clear_young(notifier, mmn_mm_of(state), start,
					  mmu_notifier_end_(last));
}

static bool call_test_young(struct mmn_subscription *sub,
			    struct mmn_state *state, uintptr_t addr)
{
	struct mmu_notifier *notifier = notifier_of(sub);

	return notifier->ops->test_young(notifier, mmn_mm_of(state), addr);
}

static int call_start(struct mmn_subscription *sub,
		      const struct mmn_invalidate_desc *desc)
{
	struct mmu_notifier *notifier = notifier_of(sub);
	struct mmu_notifier_range range;

	mmu_notifier_range_of_(&range, desc);
	return notifier->ops->invalidate_range_start(notifier, &range);
}

static void call_end(struct mmn_subscription *sub,
		     const struct mmn_invalidate_desc *desc)
{
	struct mmu_notifier *notifier = notifier_of(sub);
	struct mmu_notifier_range range;

	mmu_notifier_range_of_(&range, desc);
	notifier->ops->invalidate_range_end(notifier, &range);
}

static void call_secondary_tlbs(struct mmn_subscription *sub,
				struct mmn_state *state, uintptr_t start,
				uintptr_t last)
{
	struct mmu_notifier *notifier = notifier_of(sub);

	notifier->ops->arch_invalidate_secondary_tlbs(
		notifier, mmn_mm_of(state), start, mmu_notifier_end_(last));
}

static bool is_error(const void *pointer)
{
	return (uintptr_t)pointer >= (uintptr_t)-4095;
}

static int call_alloc(struct mmn_state *state,
		      struct mmn_subscription **ret_sub)
{
	struct mm_struct *mm = mmn_mm_of(state);
	struct mmu_notifier *notifier = getting->alloc_notifier(mm);

	if (is_error(notifier))
		return (int)(intptr_t)notifier;
	notifier->ops = getting;
	notifier->mm = mm;
	notifier->sub_ = (struct mmn_subscription){ 0 };
	*ret_sub = &notifier->sub_;
	return 0;
}

static void call_free(struct mmn_subscription *sub)
{
	struct mmu_notifier *notifier = notifier_of(sub);

	notifier->ops->free_notifier(notifier);
}

static struct mmn_subscription_ops translate(const struct mmu_notifier_ops *ops)
{
	struct mmn_subscription_ops ours = {
		.release = ops->release ? call_release : NULL,
		.clear_flush_young =
			ops->clear_flush_young ? call_clear_flush_young : NULL,
		.clear_young = ops->clear_young ? call_clear_young : NULL,
		.test_young = ops->test_young ? call_test_young : NULL,
		.invalidate_range_start =
			ops->invalidate_range_start ? call_start : NULL,
		.invalidate_range_end =
			ops->invalidate_range_end ? call_end : NULL,
		.invalidate_secondary_tlbs = ops->arch_invalidate_secondary_tlbs
						     ? call_secondary_tlbs
						     : NULL,
		.alloc_subscription = ops->alloc_notifier ? call_alloc : NULL,
		.free_subscription = ops->free_notifier ? call_free : NULL,
	};

	return ours;
}

static bool ops_are_equal(const struct mmn_subscription_ops *a,
			  const struct mmn_subscription_ops *b)
{
	return a->release == b->release &&
	       a->clear_flush_young == b->clear_flush_young &&
	       a->clear_young == b->clear_young &&
	       a->test_young == b->test_young &&
	       a->invalidate_range_start == b->invalidate_range_start &&
	       a->invalidate_range_end == b->invalidate_range_end &&
	       a->invalidate_secondary_tlbs == b->invalidate_secondary_tlbs &&
	       a->alloc_subscription == b->alloc_subscription &&
	       a->free_subscription == b->free_subscription;
}

/*
 * The operations are compared too: a driver that was unloaded may have left its
 * address to another one.
 */
static struct translation *find(struct translation *first,
				const struct mmn_subscription_ops *ops,
				const struct mmu_notifier_ops *driver)
{
	struct translation *it;

	for (it = first; it; it = it->next) {
		if (it->driver == driver && ops_are_equal(&it->ops, ops))
			break;
	}
	return it;
}

/* The table for @ops, made if there is none; NULL when memory is short. */
static const struct mmn_subscription_ops *
translation_of(const struct mmu_notifier_ops *ops, bool shared)
{
	struct mmn_subscription_ops ours = translate(ops);
	const struct mmu_notifier_ops *driver = shared ? ops : NULL;
	struct translation *first, *found, *fresh = NULL;

	for (;;) {
		/*
		 * pair(translations): acquire, with the release in
		 * translation_of().  Without it a table is used that is not
		 * filled in.
		 */
		first = mmn_load_acquire(&translations);
		found = find(first, &ours, driver);
		if (found) {
			free(fresh);
			return &found->ops;
		}
		if (!fresh)
			fresh = malloc(sizeof(*fresh));
		if (!fresh)
			return NULL;
		fresh->ops = ours;
		fresh->driver = driver;
		fresh->next = first;
		/*
		 * pair(translations): release, with the acquire in
		 * translation_of().  Without it a table is used that is not
		 * filled in.
		 */
		if (mmn_cmpxchg_release(&translations, &first, fresh))
			return &fresh->ops;
	}
}

/*
 * An object that was never registered may hold anything, but hardly the mark and
 * the generation of this process.
 */
static bool is_registered(struct mmu_notifier *notifier)
{
	const struct classic_sub *sub = classic_of(&notifier->sub_);

	/* relaxed: who calls twice knows of the first time */
	return mmn_load_relaxed(&sub->status) == SUB_INSERTED &&
	       sub->generation == mmn_process_generation();
}

int mmu_notifier_register(struct mmu_notifier *subscription,
			  struct mm_struct *mm)
{
	if (!subscription)
		return 0;
	if (!subscription->ops)
		return -EINVAL;
	if (is_registered(subscription))
		return -EEXIST;
	subscription->mm = mm;
	subscription->sub_ = (struct mmn_subscription){
		.ops = translation_of(subscription->ops, false)
	};
	if (!subscription->sub_.ops)
		return -ENOMEM;
	return mmn_subscription_register(&subscription->sub_, mmn_state_of(mm));
}

struct mmu_notifier *mmu_notifier_get(const struct mmu_notifier_ops *ops,
				      struct mm_struct *mm)
{
	const struct mmu_notifier_ops *outer = getting;
	const struct mmn_subscription_ops *ours;
	struct mmn_subscription *sub;
	int ret = -EINVAL;

	if (!ops)
		goto out;
	ret = -ENOMEM;
	ours = translation_of(ops, true);
	if (!ours)
		goto out;
	getting = ops;
	ret = mmn_subscription_get(ours, mmn_state_of(mm), &sub);
	getting = outer;
	if (!ret)
		return notifier_of(sub);
out:
	return (struct mmu_notifier *)(intptr_t)ret;
}
