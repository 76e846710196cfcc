/* SPDX-License-Identifier: MIT */
/*
 * What a subscription and a change take, and which lines of memory a reader
 * touches.  The sizes are those of the table in doc/PERFORMANCE.md.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <mmn/mmu_notifier.h>
#include <mmn/notifier.h>

#include "base/compiler.h"
#include "notifier/state.h"
#include "t/tap.h"

#define LINE 64
#define line_of(member) (offsetof(struct range_sub, member) / LINE)

TEST(the_words_of_a_reader_share_a_line_with_nothing_that_others_write)
{
	t_eq(line_of(open), line_of(seq));
	t_ne(line_of(node), line_of(seq));
	t_ne(line_of(running), line_of(seq));
	t_ne(line_of(status), line_of(seq));
	t_ne(line_of(sleepers), line_of(seq));
	t_ne(line_of(nr_retries), line_of(seq));
	t_ne(line_of(longest_wait_ns), line_of(seq));
	/* The neighbour in an array is somebody else. */
	t_eq(sizeof(struct mmn_range_subscription) % LINE, 0);
	t_eq(_Alignof(struct mmn_range_subscription) % LINE, 0);
}

TEST(sizes_are_those_that_are_documented)
{
	t_eq(sizeof(struct mmn_range_subscription), 192);
	t_eq(sizeof(struct mmn_subscription), 96);
	t_eq(sizeof(struct mmn_invalidate_desc), 104);
	t_eq(sizeof(struct mmu_interval_notifier), 288);
	t_eq(sizeof(struct mmu_notifier), 112);
}

static bool invalidate(struct mmn_range_subscription *sub,
		       const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	mmn_range_set_seq(sub, cur_seq);
	return true;
}

TEST(a_reader_writes_nothing_when_no_change_is_open)
{
	static const struct mmn_range_ops ops = { .invalidate = invalidate };
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &ops };
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	struct mmn_invalidate_desc desc;
	struct mmn_range_stats stats = { .size = sizeof(stats) };
	struct mmn_range_subscription *sub;
	struct mmn_state *state;
	uint64_t seq, other;

	sub = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	t_ok(sub != MAP_FAILED);
	t_err(mmn_state_create(&state), 0);
	t_err(mmn_range_subscription_init(sub, &config), 0);
	t_err(mmn_range_subscription_insert(sub, state, 4096, 8191), 0);
	/* An unrelated change is open. */
	mmn_invalidate_desc_init(&desc, state, MMN_EVENT_UNMAP, 8192, 8192);
	t_err(mmn_invalidate_start(&desc), 0);

	t_eq(mprotect(sub, size, PROT_READ), 0);
	seq = mmn_range_read_begin(sub);
	t_ok(seq & 1);
	t_err(mmn_range_read_begin_try(sub, &other), 0);
	t_eq(other, seq);
	t_err(mmn_range_read_begin_timed(sub, 0, &other), 0);
	t_ok(!mmn_range_check_retry(sub, seq));
	t_ok(!mmn_range_read_retry(sub, seq));
	t_err(mmn_range_get_stats(sub, &stats), 0);
	t_eq(mprotect(sub, size, PROT_READ | PROT_WRITE), 0);

	t_err(mmn_invalidate_end(&desc), 0);
	t_err(mmn_range_subscription_remove(sub), 0);
	mmn_state_put(state);
	munmap(sub, size);
}
