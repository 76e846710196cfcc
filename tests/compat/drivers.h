/* SPDX-License-Identifier: MIT */
#ifndef COMPAT_DRIVERS_H
#define COMPAT_DRIVERS_H
/*
 * Drivers as they are written for Linux, cut down to what they do with
 * notifiers.  Each keeps a device table with one word per page, 0 for none.
 */
#include <mmn/mmu_notifier.h>

#include "compat/linux.h"

/* --- one notifier per memory region, pages on demand (RDMA) --------------- */

struct odp_mr {
	struct mmu_interval_notifier notifier;
	struct mutex umem_mutex;
	struct vm *vm;
	unsigned long dma[VM_PAGES];
	unsigned int npages;
};

int odp_reg(struct odp_mr *mr, struct vm *vm, unsigned long start,
	    unsigned long length);
void odp_dereg(struct odp_mr *mr);
/* On success the region's mutex is held: the hardware table can be written. */
int odp_map_dma_and_lock(struct odp_mr *mr, unsigned long start,
			 unsigned long end);

/* --- a hypervisor: one classic notifier, its own sequence ----------------- */

struct kvm {
	struct mmu_notifier mmu_notifier;
	struct mutex mmu_lock;
	struct vm *vm;
	unsigned long mmu_invalidate_seq;
	long mmu_invalidate_in_progress;
	unsigned long mmu_invalidate_start;
	unsigned long mmu_invalidate_end;
	unsigned long spte[VM_PAGES];
	bool accessed[VM_PAGES];
	bool released;
};

int kvm_create(struct kvm *kvm, struct vm *vm);
void kvm_destroy(struct kvm *kvm);
/* 0, or -EAGAIN: enter the guest again, it will fault again. */
int kvm_fault(struct kvm *kvm, unsigned long addr);

/* --- shared memory of a GPU: wide notifiers, small ranges, two passes ----- */

#define SVM_WINDOW (16 * PAGE_SIZE)
#define SVM_WINDOWS (VM_PAGES * PAGE_SIZE / SVM_WINDOW)

struct svm_notifier {
	struct svm *svm;
	struct mmu_interval_notifier notifier;
	struct mmu_interval_notifier_finish finish;
	bool finish_inuse;
};

struct svm {
	pthread_rwlock_t notifier_lock;
	struct vm *vm;
	struct svm_notifier *window[SVM_WINDOWS];
	unsigned long gpu[VM_PAGES];
	bool unmapped[VM_PAGES];
	unsigned long flushes;
};

int svm_init(struct svm *svm, struct vm *vm);
void svm_fini(struct svm *svm);
int svm_range_get_pages(struct svm *svm, unsigned long start,
			unsigned long end);

/* --- a test device and a graphics driver: notifiers for one fault --------- */

struct dmirror {
	struct mmu_interval_notifier notifier;
	struct mutex mutex;
	struct vm *vm;
	unsigned long pt[VM_PAGES];
	void *owner;
	unsigned long own;
};

int dmirror_open(struct dmirror *dmirror, struct vm *vm, void *owner);
void dmirror_close(struct dmirror *dmirror);
int dmirror_fault(struct dmirror *dmirror, unsigned long start,
		  unsigned long end);
/* One page, under a notifier that lives as long as the call. */
int dmirror_fault_once(struct dmirror *dmirror, unsigned long addr);

/* --- an IOMMU that walks the CPU's tables: get and put -------------------- */

struct sva_domain {
	struct mmu_notifier notifier;
	unsigned long flushed_start;
	unsigned long flushed_end;
	unsigned int flushes;
	bool released;
};

extern unsigned int sva_domains; /* that exist */
struct sva_domain *sva_bind(struct mm_struct *mm);
void sva_unbind(struct sva_domain *domain);

#endif
