/* SPDX-License-Identifier: MIT */
/*
 * Shared memory of a GPU: a wide notifier is inserted when the first range in
 * its window is used.  The first pass zaps, the second waits for the flush; a
 * second change at the same time finds the one finish object in use and does
 * all at once.
 */
#include "compat/drivers.h"

static void svm_flush(struct svm *svm)
{
	__atomic_fetch_add(&svm->flushes, 1, __ATOMIC_RELAXED);
}

static bool svm_invalidate_start(struct mmu_interval_notifier *mni,
				 const struct mmu_notifier_range *range,
				 unsigned long cur_seq,
				 struct mmu_interval_notifier_finish **final)
{
	struct svm_notifier *notifier =
		container_of(mni, struct svm_notifier, notifier);
	struct svm *svm = notifier->svm;
	unsigned long addr, end;

	if (!mmu_notifier_range_blockable(range))
		return false;
	addr = max(mni->interval_tree.start, range->start) & PAGE_MASK;
	end = min(mni->interval_tree.last + 1, range->end);
	pthread_rwlock_wrlock(&svm->notifier_lock);
	mmu_interval_set_seq(mni, cur_seq);
	for (; addr < end; addr += PAGE_SIZE) {
		svm->gpu[(addr - VM_BASE) >> PAGE_SHIFT] = 0;
		if (range->event == MMU_NOTIFY_UNMAP)
			svm->unmapped[(addr - VM_BASE) >> PAGE_SHIFT] = true;
	}
	if (!notifier->finish_inuse) {
		notifier->finish_inuse = true;
		*final = &notifier->finish;
	} else {
		svm_flush(svm);
	}
	pthread_rwlock_unlock(&svm->notifier_lock);
	return true;
}

static void svm_invalidate_finish(struct mmu_interval_notifier_finish *final)
{
	struct svm_notifier *notifier =
		container_of(final, struct svm_notifier, finish);

	assert(final->notifier == &notifier->notifier);
	svm_flush(notifier->svm);
	pthread_rwlock_wrlock(&notifier->svm->notifier_lock);
	notifier->finish_inuse = false;
	pthread_rwlock_unlock(&notifier->svm->notifier_lock);
}

static const struct mmu_interval_notifier_ops svm_ops = {
	.invalidate_start = svm_invalidate_start,
	.invalidate_finish = svm_invalidate_finish,
};

int svm_init(struct svm *svm, struct vm *vm)
{
	svm->vm = vm;
	return -pthread_rwlock_init(&svm->notifier_lock, NULL);
}

void svm_fini(struct svm *svm)
{
	for (unsigned int i = 0; i < SVM_WINDOWS; i++) {
		if (!svm->window[i])
			continue;
		mmu_interval_notifier_remove(&svm->window[i]->notifier);
		kfree(svm->window[i]);
		svm->window[i] = NULL;
	}
	pthread_rwlock_destroy(&svm->notifier_lock);
}

/* One thread faults for one svm, so the windows need no lock. */
static struct svm_notifier *svm_window(struct svm *svm, unsigned long addr)
{
	unsigned long nr = (addr - VM_BASE) / SVM_WINDOW;
	struct svm_notifier *notifier = svm->window[nr];
	int err;

	if (notifier)
		return notifier;
	notifier = kzalloc(sizeof(*notifier));
	if (!notifier)
		return ERR_PTR(-ENOMEM);
	notifier->svm = svm;
	err = mmu_interval_notifier_insert(&notifier->notifier, svm->vm->mm,
					   VM_BASE + nr * SVM_WINDOW,
					   SVM_WINDOW, &svm_ops);
	if (err) {
		kfree(notifier);
		return ERR_PTR(err);
	}
	svm->window[nr] = notifier;
	return notifier;
}

int svm_range_get_pages(struct svm *svm, unsigned long start, unsigned long end)
{
	struct svm_notifier *notifier = svm_window(svm, start);
	unsigned long seq, addr, words[VM_PAGES];

	if (IS_ERR(notifier))
		return (int)PTR_ERR(notifier);
	if (end - 1 > notifier->notifier.interval_tree.last)
		return -EINVAL;
again:
	seq = mmu_interval_read_begin(&notifier->notifier);
	for (addr = start; addr < end; addr += PAGE_SIZE)
		words[(addr - start) >> PAGE_SHIFT] = vm_read(svm->vm, addr);
	pthread_rwlock_rdlock(&svm->notifier_lock);
	if (mmu_interval_read_retry(&notifier->notifier, seq)) {
		pthread_rwlock_unlock(&svm->notifier_lock);
		goto again;
	}
	for (addr = start; addr < end; addr += PAGE_SIZE)
		svm->gpu[(addr - VM_BASE) >> PAGE_SHIFT] =
			words[(addr - start) >> PAGE_SHIFT];
	pthread_rwlock_unlock(&svm->notifier_lock);
	return 0;
}
