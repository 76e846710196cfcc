/* SPDX-License-Identifier: MIT */
/* Pages on demand: the region's mutex is kept when the pages are there. */
#include "compat/drivers.h"

static bool odp_invalidate(struct mmu_interval_notifier *mni,
			   const struct mmu_notifier_range *range,
			   unsigned long cur_seq)
{
	struct odp_mr *mr = container_of(mni, struct odp_mr, notifier);
	unsigned long addr, end;

	if (!mmu_notifier_range_blockable(range))
		return false;
	mutex_lock(&mr->umem_mutex);
	mmu_interval_set_seq(mni, cur_seq);
	addr = max(mni->interval_tree.start, range->start) & PAGE_MASK;
	end = min(mni->interval_tree.last + 1, range->end);
	for (; addr < end; addr += PAGE_SIZE) {
		unsigned long *dma = &mr->dma[(addr - VM_BASE) >> PAGE_SHIFT];

		mr->npages -= *dma != 0;
		*dma = 0;
	}
	mutex_unlock(&mr->umem_mutex);
	return true;
}

static const struct mmu_interval_notifier_ops odp_ops = {
	.invalidate = odp_invalidate,
};

int odp_reg(struct odp_mr *mr, struct vm *vm, unsigned long start,
	    unsigned long length)
{
	mutex_init(&mr->umem_mutex);
	mr->vm = vm;
	return mmu_interval_notifier_insert(&mr->notifier, vm->mm, start,
					    length, &odp_ops);
}

void odp_dereg(struct odp_mr *mr)
{
	mutex_lock(&mr->umem_mutex);
	for (int i = 0; i < VM_PAGES; i++)
		mr->dma[i] = 0;
	mr->npages = 0;
	mutex_unlock(&mr->umem_mutex);
	mmu_interval_notifier_remove(&mr->notifier);
}

int odp_map_dma_and_lock(struct odp_mr *mr, unsigned long start,
			 unsigned long end)
{
	unsigned long seq, addr, words[VM_PAGES];

	if (start < mr->notifier.interval_tree.start ||
	    end - 1 > mr->notifier.interval_tree.last)
		return -EFAULT;
	for (;;) {
		seq = mmu_interval_read_begin(&mr->notifier);
		for (addr = start; addr < end; addr += PAGE_SIZE)
			words[(addr - start) >> PAGE_SHIFT] =
				vm_read(mr->vm, addr);
		if (mmu_interval_check_retry(&mr->notifier, seq))
			continue;
		mutex_lock(&mr->umem_mutex);
		if (!mmu_interval_read_retry(&mr->notifier, seq))
			break;
		mutex_unlock(&mr->umem_mutex);
	}
	for (addr = start; addr < end; addr += PAGE_SIZE) {
		unsigned long *dma = &mr->dma[(addr - VM_BASE) >> PAGE_SHIFT];

		mr->npages += *dma == 0;
		*dma = words[(addr - start) >> PAGE_SHIFT];
	}
	return 0;
}
