/* SPDX-License-Identifier: MIT */
/*
 * Drivers written for Linux's header run on libmmn through
 * <mmn/mmu_notifier.h>, and see what they would see there.
 */
#include "compat/drivers.h"
#include "t/tap.h"

#define ALL_START VM_BASE
#define ALL_END (VM_BASE + VM_PAGES * PAGE_SIZE)
#define ADDR(page) (VM_BASE + (unsigned long)(page)*PAGE_SIZE)

static void vm_create(struct vm *vm)
{
	struct mmn_state *state;

	t_err(mmn_state_create(&state), 0);
	vm->mm = mmn_mm_of(state);
	for (int i = 0; i < VM_PAGES; i++)
		vm->page[i] = 1;
}

static void vm_destroy(struct vm *vm)
{
	mmu_notifier_release(vm->mm);
	mmdrop(vm->mm);
}

static void vm_write(struct vm *vm, unsigned long start, unsigned long end)
{
	for (; start < end; start += PAGE_SIZE)
		__atomic_fetch_add(&vm->page[(start - VM_BASE) >> PAGE_SHIFT],
				   1, __ATOMIC_RELAXED);
}

static void vm_change(struct vm *vm, enum mmu_notifier_event event,
		      unsigned long start, unsigned long end)
{
	struct mmu_notifier_range range;

	mmu_notifier_range_init(&range, event, 0, vm->mm, start, end);
	mmu_notifier_invalidate_range_start(&range);
	vm_write(vm, start, end);
	mmu_notifier_invalidate_range_end(&range);
}

/* --- what each driver is promised ----------------------------------------- */

TEST(a_region_on_demand_maps_invalidates_and_refuses_what_may_not_sleep)
{
	struct odp_mr *mr = kzalloc(sizeof(*mr));
	struct mmu_notifier_range range;
	struct vm vm;

	vm_create(&vm);
	t_err(odp_reg(mr, &vm, ADDR(4), 8 * PAGE_SIZE), 0);
	t_ok(mm_has_notifiers(vm.mm));
	t_ok(mr->notifier.mm == vm.mm);
	t_err(odp_map_dma_and_lock(mr, ADDR(3), ADDR(5)), -EFAULT);
	t_err(odp_map_dma_and_lock(mr, ADDR(4), ADDR(12)), 0);
	mutex_unlock(&mr->umem_mutex);
	t_eq(mr->npages, 8);

	vm_change(&vm, MMU_NOTIFY_CLEAR, ADDR(0), ADDR(4));
	vm_change(&vm, MMU_NOTIFY_CLEAR, ADDR(12), ADDR(13));
	t_eq(mr->npages, 8);
	vm_change(&vm, MMU_NOTIFY_UNMAP, ADDR(10), ADDR(20));
	t_eq(mr->npages, 6);

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, vm.mm, ADDR(4),
				ADDR(5));
	t_err(mmu_notifier_invalidate_range_start_nonblock(&range), -EAGAIN);
	t_eq(mr->npages, 6);
	/* The refused change is closed: nobody waits for it. */
	t_err(odp_map_dma_and_lock(mr, ADDR(4), ADDR(5)), 0);
	mutex_unlock(&mr->umem_mutex);
	odp_dereg(mr);
	kfree(mr);
	vm_destroy(&vm);
}

TEST(a_hypervisor_sees_starts_ends_and_ages_in_pairs)
{
	struct mmu_notifier_range outer, inner;
	struct kvm *kvm = kzalloc(sizeof(*kvm));
	struct vm vm;

	vm_create(&vm);
	t_err(kvm_create(kvm, &vm), 0);
	t_err(kvm_fault(kvm, ADDR(3)), 0);
	t_ok(mmu_notifier_test_young(vm.mm, ADDR(3)));
	t_ok(mmu_notifier_clear_flush_young(vm.mm, ADDR(2), ADDR(5)));
	t_ok(!mmu_notifier_test_young(vm.mm, ADDR(3)));
	t_ok(!mmu_notifier_clear_young(vm.mm, ADDR(2), ADDR(5)));

	mmu_notifier_range_init(&outer, MMU_NOTIFY_UNMAP, 0, vm.mm, ADDR(0),
				ADDR(2));
	mmu_notifier_range_init(&inner, MMU_NOTIFY_UNMAP, 0, vm.mm, ADDR(8),
				ADDR(9));
	mmu_notifier_invalidate_range_start(&outer);
	t_ok(kvm->spte[3]);
	t_err(kvm_fault(kvm, ADDR(1)), -EAGAIN);
	t_err(kvm_fault(kvm, ADDR(5)), 0);
	mmu_notifier_invalidate_range_start(&inner);
	t_err(kvm_fault(kvm, ADDR(5)), -EAGAIN);
	mmu_notifier_invalidate_range_end(&outer);
	mmu_notifier_invalidate_range_end(&inner);
	t_eq(kvm->mmu_invalidate_in_progress, 0);
	t_eq(kvm->mmu_invalidate_seq, 2);
	t_err(kvm_fault(kvm, ADDR(1)), 0);

	kvm_destroy(kvm);
	t_ok(kvm->released);
	/* The same object again. */
	kvm->released = false;
	t_err(kvm_create(kvm, &vm), 0);
	mmu_notifier_release(vm.mm);
	t_ok(kvm->released);
	kvm_destroy(kvm);
	kfree(kvm);
	mmdrop(vm.mm);
}

TEST(windows_of_shared_memory_are_torn_down_in_two_passes)
{
	struct svm *svm = kzalloc(sizeof(*svm));
	struct mmu_notifier_range range;
	struct vm vm;

	vm_create(&vm);
	t_err(svm_init(svm, &vm), 0);
	t_err(svm_range_get_pages(svm, ADDR(14), ADDR(16)), 0);
	t_err(svm_range_get_pages(svm, ADDR(16), ADDR(18)), 0);
	t_err(svm_range_get_pages(svm, ADDR(40), ADDR(42)), 0);
	t_ok(svm->gpu[15] && svm->gpu[16] && svm->gpu[40]);

	vm_change(&vm, MMU_NOTIFY_PROTECTION_VMA, ADDR(15), ADDR(17));
	t_ok(svm->gpu[14] && !svm->gpu[15] && !svm->gpu[16] && svm->gpu[17]);
	t_ok(!svm->unmapped[15]);
	t_eq(svm->flushes, 2);
	/* Both finish objects are free again. */
	t_ok(!svm->window[0]->finish_inuse && !svm->window[1]->finish_inuse);
	t_ok(svm->window[0]->finish.notifier == &svm->window[0]->notifier);
	vm_change(&vm, MMU_NOTIFY_UNMAP, ADDR(40), ADDR(41));
	t_ok(svm->unmapped[40] && !svm->unmapped[41]);

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, vm.mm, ADDR(17),
				ADDR(18));
	t_err(mmu_notifier_invalidate_range_start_nonblock(&range), -EAGAIN);
	t_ok(svm->gpu[17]);
	svm_fini(svm);
	kfree(svm);
	vm_destroy(&vm);
}

TEST(a_mirror_knows_its_own_changes_and_tries_its_lock)
{
	struct dmirror *dmirror = kzalloc(sizeof(*dmirror));
	struct mmu_notifier_range range;
	struct vm vm;

	vm_create(&vm);
	t_err(dmirror_open(dmirror, &vm, dmirror), 0);
	t_err(dmirror_fault(dmirror, ALL_START, ALL_END), 0);

	mmu_notifier_range_init_owner(&range, MMU_NOTIFY_MIGRATE, 0, vm.mm,
				      ADDR(0), ADDR(1), dmirror);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	t_eq(dmirror->own, 1);
	t_ok(dmirror->pt[0]);

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, vm.mm, ADDR(0),
				ADDR(1));
	mutex_lock(&dmirror->mutex);
	t_err(mmu_notifier_invalidate_range_start_nonblock(&range), -EAGAIN);
	mutex_unlock(&dmirror->mutex);
	t_ok(dmirror->pt[0]);
	t_err(mmu_notifier_invalidate_range_start_nonblock(&range), 0);
	t_ok(!dmirror->pt[0]);
	mmu_notifier_invalidate_range_end(&range);

	t_err(dmirror_fault_once(dmirror, ADDR(0)), 0);
	t_ok(dmirror->pt[0]);
	/* Everything, as at the end of an address space. */
	mmu_notifier_range_init(&range, MMU_NOTIFY_UNMAP, 0, vm.mm, 0,
				ULONG_MAX);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	t_ok(!dmirror->pt[0] && !dmirror->pt[63]);
	dmirror_close(dmirror);
	kfree(dmirror);
	vm_destroy(&vm);
}

TEST(an_iommu_is_shared_flushed_and_freed_once)
{
	struct sva_domain *one, *two;
	struct vm vm, other;

	vm_create(&vm);
	vm_create(&other);
	one = sva_bind(vm.mm);
	t_ok(!IS_ERR(one));
	t_ok(one->notifier.mm == vm.mm);
	t_ok(sva_bind(vm.mm) == one);
	two = sva_bind(other.mm);
	t_ok(two != one);
	t_eq(sva_domains, 2);

	mmu_notifier_arch_invalidate_secondary_tlbs(vm.mm, ADDR(1), ADDR(3));
	t_eq(one->flushes, 1);
	t_eq(one->flushed_start, ADDR(1));
	t_eq(one->flushed_end, ADDR(3));
	mmu_notifier_arch_invalidate_secondary_tlbs(vm.mm, 0, ULONG_MAX);
	t_eq(one->flushed_end, ULONG_MAX);
	t_eq(two->flushes, 0);

	sva_unbind(one);
	t_eq(sva_domains, 2);
	sva_unbind(one);
	mmu_notifier_synchronize();
	t_eq(sva_domains, 1);
	mmu_notifier_release(other.mm);
	t_ok(two->released);
	sva_unbind(two);
	mmu_notifier_synchronize();
	t_eq(sva_domains, 0);
	vm_destroy(&vm);
	mmdrop(other.mm);
}

/* --- return values --------------------------------------------------------- */

static bool never(struct mmu_interval_notifier *mni,
		  const struct mmu_notifier_range *range, unsigned long cur_seq)
{
	t_fail("a callback that nobody may reach");
}

TEST(inserts_fail_as_in_the_kernel_and_can_be_removed_anyway)
{
	static const struct mmu_interval_notifier_ops ops = { .invalidate =
								      never };
	static const struct mmu_interval_notifier_ops none;
	struct mmu_interval_notifier mni;
	struct vm vm;

	vm_create(&vm);
	t_err(mmu_interval_notifier_insert(&mni, vm.mm, 4096, 0, &ops),
	      -EOVERFLOW);
	t_ok(!mni.mm);
	mmu_interval_notifier_remove(&mni);
	t_err(mmu_interval_notifier_insert(&mni, vm.mm, ULONG_MAX, 2, &ops),
	      -EOVERFLOW);
	t_err(mmu_interval_notifier_insert(&mni, vm.mm, ULONG_MAX, 1, &ops), 0);
	t_eq(mni.interval_tree.last, ULONG_MAX);
	mmu_interval_notifier_remove(&mni);
	t_err(mmu_interval_notifier_insert(&mni, vm.mm, 0, 1, &none), -EINVAL);
	t_ok(!mni.mm);
	t_err(mmu_interval_notifier_insert_locked(&mni, vm.mm, 1, 1, &ops), 0);
	mmu_interval_notifier_remove(&mni);
	mmu_notifier_release(vm.mm);
	t_err(mmu_interval_notifier_insert(&mni, vm.mm, 0, 1, &ops), -EINVAL);
	t_ok(!mni.mm);
	mmu_interval_notifier_remove(&mni);
	mmdrop(vm.mm);
}

static int start_nothing(struct mmu_notifier *mn,
			 const struct mmu_notifier_range *range)
{
	return 0;
}

static void flush_nothing(struct mmu_notifier *mn, struct mm_struct *mm,
			  unsigned long start, unsigned long end)
{
}

static struct mmu_notifier *alloc_nothing(struct mm_struct *mm)
{
	return ERR_PTR(-ENOSPC);
}

static void free_nothing(struct mmu_notifier *mn)
{
	t_fail("nothing is freed");
}

TEST(registrations_fail_as_in_the_kernel)
{
	static const struct mmu_notifier_ops both = {
		.invalidate_range_start = start_nothing,
		.arch_invalidate_secondary_tlbs = flush_nothing,
	};
	static const struct mmu_notifier_ops full = {
		.alloc_notifier = alloc_nothing,
		.free_notifier = free_nothing,
	};
	static const struct mmu_notifier_ops bare;
	struct mmu_notifier mn = { .ops = &both };
	struct vm vm;

	vm_create(&vm);
	t_err(mmu_notifier_register(NULL, vm.mm), 0);
	t_err(mmu_notifier_register(&mn, vm.mm), -EINVAL);
	mn.ops = NULL;
	t_err(__mmu_notifier_register(&mn, vm.mm), -EINVAL);
	t_err(PTR_ERR(mmu_notifier_get(&full, vm.mm)), -ENOSPC);
	t_err(PTR_ERR(mmu_notifier_get_locked(&bare, vm.mm)), -EINVAL);
	t_err(PTR_ERR(mmu_notifier_get(NULL, vm.mm)), -EINVAL);
	mn.ops = &bare;
	mmu_notifier_release(vm.mm);
	t_err(mmu_notifier_register(&mn, vm.mm), -EINVAL);
	t_err(PTR_ERR(sva_bind(vm.mm)), -EINVAL);
	t_eq(sva_domains, 0);
	mmdrop(vm.mm);
}

TEST(an_object_is_registered_once_at_a_time)
{
	static const struct mmu_notifier_ops ops = {
		.invalidate_range_start = start_nothing,
	};
	struct mmu_notifier mn = { .ops = &ops };
	struct vm vm, other;

	vm_create(&vm);
	vm_create(&other);
	/* All but the operations may be anything. */
	memset(&mn.sub_, 0xa5, sizeof(mn.sub_));
	t_err(mmu_notifier_register(&mn, vm.mm), 0);
	t_err(mmu_notifier_register(&mn, vm.mm), -EEXIST);
	t_err(mmu_notifier_register(&mn, other.mm), -EEXIST);
	t_ok(mn.mm == vm.mm);
	vm_change(&vm, MMU_NOTIFY_CLEAR, ADDR(0), ADDR(1));
	mmu_notifier_unregister(&mn, vm.mm);
	t_ok(!mm_has_notifiers(vm.mm));
	t_err(mmu_notifier_register(&mn, other.mm), 0);
	vm_change(&other, MMU_NOTIFY_CLEAR, ADDR(0), ADDR(1));
	mmu_notifier_unregister(&mn, other.mm);
	vm_destroy(&vm);
	vm_destroy(&other);
}

TEST(a_range_without_bytes_is_no_change)
{
	struct mmu_notifier_range range;
	struct dmirror dmirror = { .own = 0 };
	struct vm vm;

	vm_create(&vm);
	t_err(dmirror_open(&dmirror, &vm, NULL), 0);
	t_err(dmirror_fault(&dmirror, ADDR(0), ADDR(1)), 0);
	mmu_notifier_range_init(&range, MMU_NOTIFY_UNMAP, 0, vm.mm, ADDR(0),
				ADDR(0));
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	t_err(mmu_notifier_invalidate_range_start_nonblock(&range), 0);
	mmu_notifier_invalidate_range_end(&range);
	t_ok(!mmu_notifier_clear_young(vm.mm, 0, 0));
	t_ok(dmirror.pt[0]);
	dmirror_close(&dmirror);
	vm_destroy(&vm);
}

/* --- all of them at once --------------------------------------------------- */

struct world {
	struct vm vm;
	struct odp_mr *mr;
	struct svm *svm;
	struct dmirror *dmirror;
	struct kvm *kvm;
	bool stop;
};

enum { ROUNDS = 3000 };

/* Between start and end nobody has a word of the range. */
static void check_torn_down(struct world *w, unsigned int page)
{
	mutex_lock(&w->mr->umem_mutex);
	t_ok(!w->mr->dma[page]);
	mutex_unlock(&w->mr->umem_mutex);
	pthread_rwlock_rdlock(&w->svm->notifier_lock);
	t_ok(!w->svm->gpu[page]);
	pthread_rwlock_unlock(&w->svm->notifier_lock);
	mutex_lock(&w->dmirror->mutex);
	t_ok(!w->dmirror->pt[page]);
	mutex_unlock(&w->dmirror->mutex);
	mutex_lock(&w->kvm->mmu_lock);
	t_ok(!w->kvm->spte[page]);
	mutex_unlock(&w->kvm->mmu_lock);
}

static void *keep_faulting(void *arg)
{
	struct world *w = arg;

	for (unsigned int i = 0; !READ_ONCE(w->stop); i++) {
		unsigned int page = i * 7 % VM_PAGES;

		t_err(odp_map_dma_and_lock(w->mr, ADDR(page), ADDR(page + 1)),
		      0);
		mutex_unlock(&w->mr->umem_mutex);
		t_err(svm_range_get_pages(w->svm, ADDR(page), ADDR(page + 1)),
		      0);
		t_err(dmirror_fault(w->dmirror, ADDR(page), ADDR(page + 1)), 0);
		t_err(dmirror_fault_once(w->dmirror, ADDR(page)), 0);
		t_ok(kvm_fault(w->kvm, ADDR(page)) != -EFAULT);
	}
	return NULL;
}

TEST(no_driver_keeps_a_word_of_memory_that_changes)
{
	struct world w = { .stop = false };
	struct mmu_notifier_range range;
	pthread_t thread;

	vm_create(&w.vm);
	w.mr = kzalloc(sizeof(*w.mr));
	w.svm = kzalloc(sizeof(*w.svm));
	w.dmirror = kzalloc(sizeof(*w.dmirror));
	w.kvm = kzalloc(sizeof(*w.kvm));
	t_err(odp_reg(w.mr, &w.vm, ALL_START, ALL_END - ALL_START), 0);
	t_err(svm_init(w.svm, &w.vm), 0);
	t_err(dmirror_open(w.dmirror, &w.vm, w.dmirror), 0);
	t_err(kvm_create(w.kvm, &w.vm), 0);
	t_eq(pthread_create(&thread, NULL, keep_faulting, &w), 0);

	for (unsigned int i = 0; i < ROUNDS; i++) {
		unsigned int page = i * 5 % VM_PAGES;

		mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, w.vm.mm,
					ADDR(page), ADDR(page + 1));
		mmu_notifier_invalidate_range_start(&range);
		check_torn_down(&w, page);
		vm_write(&w.vm, ADDR(page), ADDR(page + 1));
		mmu_notifier_invalidate_range_end(&range);
	}
	WRITE_ONCE(w.stop, true);
	pthread_join(thread, NULL);
	/* What is there is true. */
	for (unsigned int i = 0; i < VM_PAGES; i++) {
		unsigned long now = w.vm.page[i];

		t_ok(!w.mr->dma[i] || w.mr->dma[i] == now);
		t_ok(!w.svm->gpu[i] || w.svm->gpu[i] == now);
		t_ok(!w.dmirror->pt[i] || w.dmirror->pt[i] == now);
		t_ok(!w.kvm->spte[i] || w.kvm->spte[i] == now);
	}
	kvm_destroy(w.kvm);
	dmirror_close(w.dmirror);
	svm_fini(w.svm);
	odp_dereg(w.mr);
	kfree(w.kvm);
	kfree(w.dmirror);
	kfree(w.svm);
	kfree(w.mr);
	vm_destroy(&w.vm);
}
