/* SPDX-License-Identifier: MIT */
/*
 * A hypervisor: the sequence moves at the end of a change, so a fault looks
 * at the changes in progress as well, by the hull of their ranges.
 */
#include "compat/drivers.h"

static bool overlaps_vm(const struct mmu_notifier_range *range)
{
	return range->start < VM_BASE + VM_PAGES * PAGE_SIZE &&
	       range->end > VM_BASE;
}

static int kvm_range_start(struct mmu_notifier *mn,
			   const struct mmu_notifier_range *range)
{
	struct kvm *kvm = container_of(mn, struct kvm, mmu_notifier);
	unsigned long addr, end;

	if (!overlaps_vm(range))
		return 0;
	mutex_lock(&kvm->mmu_lock);
	if (!kvm->mmu_invalidate_in_progress++) {
		kvm->mmu_invalidate_start = range->start;
		kvm->mmu_invalidate_end = range->end;
	} else {
		kvm->mmu_invalidate_start =
			min(kvm->mmu_invalidate_start, range->start);
		kvm->mmu_invalidate_end =
			max(kvm->mmu_invalidate_end, range->end);
	}
	addr = max(VM_BASE, range->start) & PAGE_MASK;
	end = min(VM_BASE + VM_PAGES * PAGE_SIZE, range->end);
	for (; addr < end; addr += PAGE_SIZE)
		kvm->spte[(addr - VM_BASE) >> PAGE_SHIFT] = 0;
	mutex_unlock(&kvm->mmu_lock);
	return 0;
}

static void kvm_range_end(struct mmu_notifier *mn,
			  const struct mmu_notifier_range *range)
{
	struct kvm *kvm = container_of(mn, struct kvm, mmu_notifier);

	if (!overlaps_vm(range))
		return;
	mutex_lock(&kvm->mmu_lock);
	smp_store_release(&kvm->mmu_invalidate_seq,
			  kvm->mmu_invalidate_seq + 1);
	kvm->mmu_invalidate_in_progress--;
	assert(kvm->mmu_invalidate_in_progress >= 0);
	mutex_unlock(&kvm->mmu_lock);
}

static bool test_and_clear(struct kvm *kvm, unsigned long start,
			   unsigned long end, bool clear)
{
	bool young = false;

	for (; start < end; start += PAGE_SIZE) {
		bool *accessed =
			&kvm->accessed[(start - VM_BASE) >> PAGE_SHIFT];

		young |= *accessed;
		if (clear)
			*accessed = false;
	}
	return young;
}

static bool kvm_clear_flush_young(struct mmu_notifier *mn, struct mm_struct *mm,
				  unsigned long start, unsigned long end)
{
	return test_and_clear(container_of(mn, struct kvm, mmu_notifier), start,
			      end, true);
}

static bool kvm_test_young(struct mmu_notifier *mn, struct mm_struct *mm,
			   unsigned long address)
{
	return test_and_clear(container_of(mn, struct kvm, mmu_notifier),
			      address, address + 1, false);
}

static void kvm_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct kvm *kvm = container_of(mn, struct kvm, mmu_notifier);

	mutex_lock(&kvm->mmu_lock);
	for (int i = 0; i < VM_PAGES; i++)
		kvm->spte[i] = 0;
	kvm->released = true;
	mutex_unlock(&kvm->mmu_lock);
}

static const struct mmu_notifier_ops kvm_ops = {
	.invalidate_range_start = kvm_range_start,
	.invalidate_range_end = kvm_range_end,
	.clear_flush_young = kvm_clear_flush_young,
	.clear_young = kvm_clear_flush_young,
	.test_young = kvm_test_young,
	.release = kvm_release,
};

int kvm_create(struct kvm *kvm, struct vm *vm)
{
	mutex_init(&kvm->mmu_lock);
	kvm->vm = vm;
	kvm->mmu_notifier.ops = &kvm_ops;
	return mmu_notifier_register(&kvm->mmu_notifier, vm->mm);
}

void kvm_destroy(struct kvm *kvm)
{
	mmu_notifier_unregister(&kvm->mmu_notifier, kvm->vm->mm);
}

int kvm_fault(struct kvm *kvm, unsigned long addr)
{
	unsigned long seq, word;
	int ret = -EAGAIN;

	seq = smp_load_acquire(&kvm->mmu_invalidate_seq);
	word = vm_read(kvm->vm, addr);
	mutex_lock(&kvm->mmu_lock);
	if (kvm->mmu_invalidate_in_progress &&
	    addr >= kvm->mmu_invalidate_start && addr < kvm->mmu_invalidate_end)
		goto out;
	if (kvm->mmu_invalidate_seq != seq)
		goto out;
	kvm->spte[(addr - VM_BASE) >> PAGE_SHIFT] = word;
	kvm->accessed[(addr - VM_BASE) >> PAGE_SHIFT] = true;
	ret = 0;
out:
	mutex_unlock(&kvm->mmu_lock);
	return ret;
}
