/* SPDX-License-Identifier: MIT */
/*
 * A driver as it is written for Linux: <mmn/mmu_notifier.h> has the kernel's
 * names.  Only the line that makes the address space is not from there.
 *
 * prints:
 *	mapped: 1
 *	mapped: 0
 */
#include <mmn/mmu_notifier.h>

#include <pthread.h>
#include <stdio.h>

static char memory[16384];

struct region {
	struct mmu_interval_notifier notifier;
	pthread_mutex_t lock;
	bool mapped;
};

static bool invalidate(struct mmu_interval_notifier *mni,
		       const struct mmu_notifier_range *range,
		       unsigned long cur_seq)
{
	struct region *region = (struct region *)mni;

	if (!mmu_notifier_range_blockable(range))
		return false;
	pthread_mutex_lock(&region->lock);
	mmu_interval_set_seq(mni, cur_seq);
	region->mapped = false;
	pthread_mutex_unlock(&region->lock);
	return true;
}

static void map(struct region *region)
{
	unsigned long seq;

	for (;;) {
		seq = mmu_interval_read_begin(&region->notifier);
		/* Look at the memory here. */
		pthread_mutex_lock(&region->lock);
		if (!mmu_interval_read_retry(&region->notifier, seq))
			break;
		pthread_mutex_unlock(&region->lock);
	}
	region->mapped = true;
	pthread_mutex_unlock(&region->lock);
}

int main(void)
{
	static const struct mmu_interval_notifier_ops ops = {
		.invalidate = invalidate,
	};
	static struct region region = { .lock = PTHREAD_MUTEX_INITIALIZER };
	unsigned long start = (unsigned long)memory;
	struct mmu_notifier_range range;
	struct mmn_state *state;
	struct mm_struct *mm;

	if (mmn_state_create(&state))
		return 1;
	mm = mmn_mm_of(state);
	if (mmu_interval_notifier_insert(&region.notifier, mm, start,
					 sizeof(memory), &ops))
		return 1;
	map(&region);
	printf("mapped: %d\n", region.mapped);

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, mm, start + 4096,
				start + 8192);
	mmu_notifier_invalidate_range_start(&range);
	printf("mapped: %d\n", region.mapped);
	mmu_notifier_invalidate_range_end(&range);

	mmu_interval_notifier_remove(&region.notifier);
	mmdrop(mm);
	return 0;
}
