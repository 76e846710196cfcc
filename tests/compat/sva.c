/* SPDX-License-Identifier: MIT */
/* An IOMMU: its hardware walks the CPU's tables, only its TLB goes stale. */
#include "compat/drivers.h"

unsigned int sva_domains;

static struct mmu_notifier *sva_alloc(struct mm_struct *mm)
{
	struct sva_domain *domain = kzalloc(sizeof(*domain));

	if (!domain)
		return ERR_PTR(-ENOMEM);
	__atomic_fetch_add(&sva_domains, 1, __ATOMIC_RELAXED);
	return &domain->notifier;
}

static void sva_free(struct mmu_notifier *mn)
{
	kfree(container_of(mn, struct sva_domain, notifier));
	__atomic_fetch_sub(&sva_domains, 1, __ATOMIC_RELAXED);
}

static void sva_flush(struct mmu_notifier *mn, struct mm_struct *mm,
		      unsigned long start, unsigned long end)
{
	struct sva_domain *domain =
		container_of(mn, struct sva_domain, notifier);

	domain->flushed_start = start;
	domain->flushed_end = end;
	domain->flushes++;
}

static void sva_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	container_of(mn, struct sva_domain, notifier)->released = true;
}

static const struct mmu_notifier_ops sva_ops = {
	.arch_invalidate_secondary_tlbs = sva_flush,
	.release = sva_release,
	.alloc_notifier = sva_alloc,
	.free_notifier = sva_free,
};

struct sva_domain *sva_bind(struct mm_struct *mm)
{
	struct mmu_notifier *mn = mmu_notifier_get(&sva_ops, mm);

	if (IS_ERR(mn))
		return ERR_PTR(PTR_ERR(mn));
	return container_of(mn, struct sva_domain, notifier);
}

void sva_unbind(struct sva_domain *domain)
{
	mmu_notifier_put(&domain->notifier);
}
