/* SPDX-License-Identifier: MIT */
/*
 * A test device that mirrors nearly everything, tries its lock when it may not
 * sleep, and knows its own changes by their owner; and the way of a graphics
 * driver, which puts a notifier on the stack for each fault.
 */
#include "compat/drivers.h"

static bool dmirror_invalidate(struct mmu_interval_notifier *mni,
			       const struct mmu_notifier_range *range,
			       unsigned long cur_seq)
{
	struct dmirror *dmirror = container_of(mni, struct dmirror, notifier);
	unsigned long addr, end;

	if (range->event == MMU_NOTIFY_MIGRATE &&
	    range->owner == dmirror->owner) {
		dmirror->own++;
		return true;
	}
	if (mmu_notifier_range_blockable(range))
		mutex_lock(&dmirror->mutex);
	else if (!mutex_trylock(&dmirror->mutex))
		return false;
	mmu_interval_set_seq(mni, cur_seq);
	addr = max(VM_BASE, range->start) & PAGE_MASK;
	end = min(VM_BASE + VM_PAGES * PAGE_SIZE, range->end);
	for (; addr < end; addr += PAGE_SIZE)
		dmirror->pt[(addr - VM_BASE) >> PAGE_SHIFT] = 0;
	mutex_unlock(&dmirror->mutex);
	return true;
}

static const struct mmu_interval_notifier_ops dmirror_ops = {
	.invalidate = dmirror_invalidate,
};

int dmirror_open(struct dmirror *dmirror, struct vm *vm, void *owner)
{
	mutex_init(&dmirror->mutex);
	dmirror->vm = vm;
	dmirror->owner = owner;
	return mmu_interval_notifier_insert(&dmirror->notifier, vm->mm, 0,
					    ULONG_MAX & PAGE_MASK,
					    &dmirror_ops);
}

void dmirror_close(struct dmirror *dmirror)
{
	mmu_interval_notifier_remove(&dmirror->notifier);
}

int dmirror_fault(struct dmirror *dmirror, unsigned long start,
		  unsigned long end)
{
	unsigned long seq, addr, words[VM_PAGES];

	for (;;) {
		seq = mmu_interval_read_begin(&dmirror->notifier);
		for (addr = start; addr < end; addr += PAGE_SIZE)
			words[(addr - start) >> PAGE_SHIFT] =
				vm_read(dmirror->vm, addr);
		mutex_lock(&dmirror->mutex);
		if (!mmu_interval_read_retry(&dmirror->notifier, seq))
			break;
		mutex_unlock(&dmirror->mutex);
	}
	for (addr = start; addr < end; addr += PAGE_SIZE)
		dmirror->pt[(addr - VM_BASE) >> PAGE_SHIFT] =
			words[(addr - start) >> PAGE_SHIFT];
	mutex_unlock(&dmirror->mutex);
	return 0;
}

struct once {
	struct mmu_interval_notifier notifier;
	struct dmirror *dmirror;
};

/* The wide notifier tears down; this one only makes the fault start over. */
static bool once_invalidate(struct mmu_interval_notifier *mni,
			    const struct mmu_notifier_range *range,
			    unsigned long cur_seq)
{
	struct once *once = container_of(mni, struct once, notifier);

	if (mmu_notifier_range_blockable(range))
		mutex_lock(&once->dmirror->mutex);
	else if (!mutex_trylock(&once->dmirror->mutex))
		return false;
	mmu_interval_set_seq(mni, cur_seq);
	mutex_unlock(&once->dmirror->mutex);
	return true;
}

static const struct mmu_interval_notifier_ops once_ops = {
	.invalidate = once_invalidate,
};

int dmirror_fault_once(struct dmirror *dmirror, unsigned long addr)
{
	struct once once = { .dmirror = dmirror };
	unsigned long word;
	int ret;

	ret = mmu_interval_notifier_insert(&once.notifier, dmirror->vm->mm,
					   addr, PAGE_SIZE, &once_ops);
	if (ret)
		return ret;
	for (;;) {
		unsigned long seq = mmu_interval_read_begin(&once.notifier);

		word = vm_read(dmirror->vm, addr);
		mutex_lock(&dmirror->mutex);
		if (!mmu_interval_read_retry(&once.notifier, seq))
			break;
		mutex_unlock(&dmirror->mutex);
	}
	dmirror->pt[(addr - VM_BASE) >> PAGE_SHIFT] = word;
	mutex_unlock(&dmirror->mutex);
	mmu_interval_notifier_remove(&once.notifier);
	return 0;
}
