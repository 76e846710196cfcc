/* SPDX-License-Identifier: MIT */
/*
 * The mirror: filled by the canonical loop, torn down before the memory changes,
 * with either kind of lock.  The software device behind it really holds pages,
 * so an entry that should have gone shows old bytes.
 */
#include <signal.h>
#include <sys/resource.h>

#include <mmn/inject.h>

#include "unit/answer-syscall.h"
#include "unit/mirror-help.h"

#define READ MMN_DEVICE_READ
#define WRITE MMN_DEVICE_WRITE
#define MS 1000000ull

/* A mirror over [base, base + pages) with all that belongs to it. */
struct fixture {
	struct mmn_state *state;
	struct mmn_device *device;
	struct mmn_pages *pages;
	struct mmn_mirror *mirror;
	pthread_mutex_t mutex;
	char *base;
	size_t nr;
};

static pthread_mutex_t ops_mutex;
static _Atomic int ops_calls;

static void ops_lock(void *arg)
{
	pthread_mutex_lock(arg);
	atomic_fetch_add(&ops_calls, 1);
}

static void ops_unlock(void *arg)
{
	pthread_mutex_unlock(arg);
}

static bool ops_trylock(void *arg)
{
	return pthread_mutex_trylock(arg) == 0;
}

static const struct mmn_mirror_lock_ops lock_ops = {
	.lock = ops_lock,
	.unlock = ops_unlock,
	.trylock = ops_trylock,
};

static void set_up_with(struct fixture *x, char *base, size_t nr,
			struct mmn_mirror_config *config, uint64_t transfer_ns)
{
	struct mmn_soft_config soft = {
		.size = sizeof(soft),
		.transfer_ns = transfer_ns,
	};

	keep_arena();
	x->base = base;
	x->nr = nr;
	t_err(mmn_state_create(&x->state), 0);
	t_err(mmn_soft_device_create(&soft, &x->device), 0);
	t_err(mmn_pages_open(NULL, &x->pages), 0);
	config->size = sizeof(*config);
	config->device = x->device;
	if (!config->access)
		config->access = READ;
	if (config->lock.kind == MMN_MIRROR_LOCK_MUTEX) {
		pthread_mutex_init(&x->mutex, NULL);
		config->lock.lock = &x->mutex;
	}
	if (config->lock.kind == MMN_MIRROR_LOCK_OPS) {
		pthread_mutex_init(&ops_mutex, NULL);
		config->lock.lock = &ops_mutex;
		config->lock.ops = &lock_ops;
	}
	t_err(mmn_mirror_create(x->state, (uintptr_t)base, last_of(base, nr),
				config, &x->mirror),
	      0);
}

static void set_up(struct fixture *x, size_t nr)
{
	struct mmn_mirror_config config = { .run_pages = 8 };

	set_up_with(x, map_private(nr), nr, &config, 0);
}

static void tear_down(struct fixture *x)
{
	mmn_mirror_destroy(x->mirror);
	mmn_pages_close(x->pages);
	mmn_device_destroy(x->device);
	mmn_state_put(x->state);
}

static void tear_down_all(struct fixture *x)
{
	tear_down(x);
	munmap(x->base, x->nr * page());
}

static int fill(struct fixture *x, size_t first, size_t nr, uint32_t flags,
		uint64_t budget_ns, struct mmn_mirror_fill *f)
{
	memset(f, 0, sizeof(*f));
	f->size = sizeof(*f);
	f->flags = flags;
	f->start = (uintptr_t)x->base + first * page();
	f->last = last_of(x->base, first + nr);
	f->budget_ns = budget_ns;
	return mmn_mirror_fill(x->mirror, x->pages, f);
}

static void fill_all(struct fixture *x, size_t first, size_t nr)
{
	struct mmn_mirror_fill f;

	t_err(fill(x, first, nr, 0, MMN_MIRROR_NO_LIMIT, &f), 0);
	t_eq(f.pages, nr);
}

static bool is_mirrored(struct fixture *x, size_t index)
{
	struct mmn_mirror_access access;
	struct mmn_mirror_entry entry;
	int err;

	mmn_mirror_access_begin(x->mirror, &access);
	err = mmn_mirror_lookup(x->mirror, (uintptr_t)x->base + index * page(),
				&entry);
	mmn_mirror_access_end(&access);
	if (err)
		t_err(err, -ENOENT);
	return !err;
}

/* Submit until it is accepted or refused for another reason than room. */
static int submit(struct fixture *x, uintptr_t addr, struct waited_transfer *w)
{
	int err;

	do {
		err = mmn_mirror_submit(x->mirror, addr, &w->transfer);
	} while (err == -EBUSY);
	return err;
}

static int64_t device_read(struct fixture *x, size_t index, void *buffer,
			   size_t length)
{
	struct waited_transfer w;
	int err;

	waited_init(&w, READ, buffer, length);
	err = submit(x, (uintptr_t)x->base + index * page(), &w);
	return err ? err : waited_wait(&w);
}

static int64_t device_write(struct fixture *x, size_t index, void *buffer,
			    size_t length)
{
	struct waited_transfer w;
	int err;

	waited_init(&w, WRITE, buffer, length);
	err = submit(x, (uintptr_t)x->base + index * page(), &w);
	return err ? err : waited_wait(&w);
}

static struct mmn_mirror_stats stats_of(struct fixture *x)
{
	struct mmn_mirror_stats stats = { .size = sizeof(stats) };

	t_err(mmn_mirror_get_stats(x->mirror, &stats), 0);
	return stats;
}

TEST(open_and_close)
{
	struct fixture x;

	set_up(&x, 4);
	t_eq(stats_of(&x).pages, 0);
	t_ok(!is_mirrored(&x, 0));
	tear_down_all(&x);
	mmn_mirror_destroy(NULL);
}

/* The same with each way to lock. */
static void read_invalidate_read(uint32_t kind)
{
	struct mmn_mirror_config config = { .run_pages = 4 };
	struct fixture x;
	char got = 0;

	config.lock.kind = kind;
	set_up_with(&x, map_private(8), 8, &config, 0);
	memset(x.base, 'o', 8 * page());
	t_eq(device_read(&x, 5, &got, 1), -ENOENT);
	fill_all(&x, 0, 8);
	t_eq(device_read(&x, 5, &got, 1), 1);
	t_eq(got, 'o');
	announced_discard(x.state, x.base + 5 * page(), 1);
	x.base[5 * page()] = 'n';
	/* the whole device map went, the other one stayed */
	t_eq(device_read(&x, 5, &got, 1), -ENOENT);
	t_ok(!is_mirrored(&x, 4));
	t_ok(is_mirrored(&x, 3));
	fill_all(&x, 0, 8);
	t_eq(device_read(&x, 5, &got, 1), 1);
	t_eq(got, 'n');
	t_eq(stats_of(&x).invalidations, 1);
	t_eq(stats_of(&x).invalidated_runs, 1);
	t_eq(stats_of(&x).invalidated_pages, 4);
	tear_down_all(&x);
}

TEST(a_change_takes_entries_away_under_the_mirrors_own_lock)
{
	read_invalidate_read(MMN_MIRROR_LOCK_MANAGED);
}

TEST(a_change_takes_entries_away_under_the_drivers_mutex)
{
	read_invalidate_read(MMN_MIRROR_LOCK_MUTEX);
}

TEST(a_change_takes_entries_away_under_a_lock_made_of_functions)
{
	read_invalidate_read(MMN_MIRROR_LOCK_OPS);
	t_gt(atomic_load(&ops_calls), 5);
}

TEST(anon_read_of_memory_never_touched)
{
	struct fixture x;
	char *got;
	size_t i;

	set_up(&x, 64);
	got = malloc(8 * page());
	/* every third page written, others empty or the zero page */
	for (i = 0; i < 64; i += 3)
		x.base[i * page()] = (char)i;
	fill_all(&x, 0, 64);
	t_eq(stats_of(&x).fills, 1);
	for (i = 0; i < 64; i += 8) {
		t_eq(device_read(&x, i, got, 8 * page()), 8 * page());
		t_memeq(got, x.base + i * page(), 8 * page());
	}
	free(got);
	tear_down_all(&x);
}

TEST(anon_read_prot_transfers_not_one_byte)
{
	struct fixture x;
	struct mmn_mirror_fill f;
	char got = 'u';

	set_up(&x, 8);
	memset(x.base, 'd', 8 * page());
	announced_mprotect(x.state, x.base + 6 * page(), 1, PROT_NONE);
	t_err(fill(&x, 0, 8, 0, MMN_MIRROR_NO_LIMIT, &f), -EFAULT);
	t_eq(stats_of(&x).pages, 0);
	t_eq(device_read(&x, 0, &got, 1), -ENOENT);
	t_eq(got, 'u');
	announced_mprotect(x.state, x.base + 6 * page(), 1,
			   PROT_READ | PROT_WRITE);
	t_eq(x.base[6 * page()], 'd');
	fill_all(&x, 0, 8);
	tear_down_all(&x);
}

TEST(anon_write_to_shared_memory_is_seen_by_the_program)
{
	struct mmn_mirror_config config = { .access = READ | WRITE };
	struct fixture x;

	set_up_with(&x, map_pages(8, PROT_READ | PROT_WRITE, MAP_SHARED), 8,
		    &config, 0);
	fill_all(&x, 0, 8);
	t_eq(device_write(&x, 3, (char[]){ "device" }, 6), 6);
	t_memeq(x.base + 3 * page(), "device", 6);
	tear_down_all(&x);
}

TEST(anon_write_prot_is_refused_until_permitted)
{
	struct mmn_mirror_config config = { .access = WRITE };
	struct mmn_mirror_fill f;
	struct fixture x;

	set_up_with(&x, map_pages(4, PROT_READ, MAP_SHARED), 4, &config, 0);
	t_err(fill(&x, 0, 4, 0, MMN_MIRROR_NO_LIMIT, &f), -EPERM);
	t_eq(stats_of(&x).pages, 0);
	announced_mprotect(x.state, x.base, 4, PROT_READ | PROT_WRITE);
	fill_all(&x, 0, 4);
	t_eq(device_write(&x, 0, (char[]){ "w" }, 1), 1);
	t_eq(x.base[0], 'w');
	tear_down_all(&x);
}

TEST(losing_a_permission_takes_the_entries_down)
{
	struct mmn_mirror_config config = { .access = READ | WRITE };
	struct mmn_invalidate_desc desc;
	struct mmn_mirror_fill f;
	struct fixture x;
	char byte = 'x';

	set_up_with(&x, map_pages(4, PROT_READ | PROT_WRITE, MAP_SHARED), 4,
		    &config, 0);
	fill_all(&x, 0, 4);
	announced_mprotect(x.state, x.base, 4, PROT_READ);
	t_eq(device_write(&x, 0, &byte, 1), -ENOENT);
	t_err(fill(&x, 0, 4, 0, 0, &f), -EPERM);
	announced_mprotect(x.state, x.base, 4, PROT_READ | PROT_WRITE);
	fill_all(&x, 0, 4);
	/* as for fork */
	change_begin(&desc, x.state, MMN_EVENT_PROTECTION_PAGE, x.base, 4);
	t_ok(!is_mirrored(&x, 0));
	change_end(&desc);
	t_eq(x.base[0], 0);
	tear_down_all(&x);
}

TEST(a_write_to_a_page_that_is_not_writable_is_refused_by_submit)
{
	struct mmn_mirror_config config = { .access = READ };
	struct mmn_device_transfer read_only;
	struct fixture x;
	char byte = 'x';

	set_up_with(&x, map_pages(2, PROT_READ, MAP_SHARED), 2, &config, 0);
	fill_all(&x, 0, 2);
	t_eq(device_write(&x, 0, &byte, 1), -EPERM);
	memset(&read_only, 0, sizeof(read_only));
	read_only.access = READ;
	read_only.buffer = &byte;
	read_only.done = waited_done;
	t_err(mmn_mirror_submit(x.mirror, (uintptr_t)x.base, &read_only),
	      -EINVAL);
	tear_down_all(&x);
}

TEST(file_read_and_file_write)
{
	struct mmn_mirror_config config = { .access = READ | WRITE };
	char path[] = "/tmp/mmn-mirror-XXXXXX";
	int fd = mkstemp(path);
	char got[5] = "";
	struct fixture x;
	char *p;

	t_ge(fd, 0);
	unlink(path);
	t_eq(ftruncate(fd, 4 * (off_t)page()), 0);
	t_eq(pwrite(fd, "disk", 4, (off_t)page()), 4);
	p = mmap(NULL, 4 * page(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	t_ok(p != MAP_FAILED);
	set_up_with(&x, p, 4, &config, 0);
	fill_all(&x, 0, 4);
	t_eq(device_read(&x, 1, got, 4), 4);
	t_memeq(got, "disk", 4);
	t_eq(device_write(&x, 2, (char[]){ "back" }, 4), 4);
	t_eq(pread(fd, got, 4, 2 * (off_t)page()), 4);
	t_memeq(got, "back", 4);
	tear_down_all(&x);
	close(fd);
}

TEST(anon_read_through_a_huge_page)
{
	size_t nr = page() / 8;
	size_t bytes = nr * page();
	struct mmn_mirror_config config = { .run_pages = 128 };
	char *all = mmap(NULL, 2 * bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *p = (char *)(((uintptr_t)all + bytes - 1) & ~(bytes - 1));
	struct mmn_mirror_access access;
	struct mmn_mirror_entry entry;
	unsigned int order;
	struct fixture x;
	char got[3];

	t_ok(all != MAP_FAILED);
	madvise(p, bytes, MADV_HUGEPAGE);
	set_up_with(&x, p, nr, &config, 0);
	memset(p, 'h', bytes);
	fill_all(&x, 0, nr);
	t_eq(stats_of(&x).runs, (nr + 127) / 128);
	t_eq(device_read(&x, nr - 1, got, 3), 3);
	t_memeq(got, "hhh", 3);
	mmn_mirror_access_begin(x.mirror, &access);
	t_err(mmn_mirror_lookup(x.mirror, (uintptr_t)p + page(), &entry), 0);
	order = mmn_pfn_order(entry.word);
	mmn_mirror_access_end(&access);
	tear_down(&x);
	munmap(all, 2 * bytes);
	if (!order)
		t_skip("read right, but no huge page was to be had");
}

TEST(a_mixed_range_is_filled_with_what_is_there_and_faults_nothing)
{
	struct mmn_mirror_fill f;
	unsigned char vec;
	struct fixture x;
	size_t i;

	set_up(&x, 20);
	/* 0-3 written, 4 hole, 5 none, 6-9 empty, 10-19 written, 15 read-only */
	memset(x.base, 'm', 4 * page());
	memset(x.base + 10 * page(), 'm', 10 * page());
	t_eq(munmap(x.base + 4 * page(), page()), 0);
	t_eq(mprotect(x.base + 5 * page(), page(), PROT_NONE), 0);
	t_eq(mprotect(x.base + 15 * page(), page(), PROT_READ), 0);
	t_err(fill(&x, 0, 20, MMN_MIRROR_FILL_PRESENT, MMN_MIRROR_NO_LIMIT, &f),
	      0);
	t_eq(f.pages, 14);
	t_eq(f.new_pages, 14);
	t_eq(f.skipped, 6);
	for (i = 0; i < 20; i++)
		t_eq(is_mirrored(&x, i), i < 4 || i >= 10);
	t_eq(mincore(x.base + 6 * page(), page(), &vec), 0);
	t_eq(vec & 1, 0);
	/* again: nothing new, and what came since is added */
	x.base[7 * page()] = 'n';
	t_err(fill(&x, 0, 20, MMN_MIRROR_FILL_PRESENT, MMN_MIRROR_NO_LIMIT, &f),
	      0);
	t_eq(f.pages, 15);
	t_eq(f.new_pages, 1);
	t_eq(f.skipped, 5);
	tear_down(&x);
	munmap(x.base, 4 * page());
	munmap(x.base + 5 * page(), 15 * page());
}

TEST(memory_that_the_device_cannot_hold_is_left_out_when_only_looking)
{
	struct mmn_mirror_config config = { .access = WRITE, .run_pages = 4 };
	struct mmn_mirror_fill f;
	struct fixture x;

	set_up_with(&x, map_pages(8, PROT_READ | PROT_WRITE, MAP_SHARED), 8,
		    &config, 0);
	t_ok(mmap(x.base + 4 * page(), 4 * page(), PROT_READ | PROT_WRITE,
		  MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1,
		  0) != MAP_FAILED);
	memset(x.base, 'k', 8 * page());
	t_err(fill(&x, 0, 8, 0, MMN_MIRROR_NO_LIMIT, &f), -EFAULT);
	t_eq(stats_of(&x).pages, 0);
	t_err(fill(&x, 0, 8, MMN_MIRROR_FILL_PRESENT, MMN_MIRROR_NO_LIMIT, &f),
	      0);
	t_eq(f.pages, 4);
	t_eq(f.skipped, 4);
	tear_down_all(&x);
}

TEST(anon_read_multiple_never_shows_an_earlier_life_of_an_address)
{
	struct fixture x;
	char got[2];
	int round;

	set_up(&x, 4);
	for (round = 0; round < 200; round++) {
		char want = (char)('a' + round % 26);

		memset(x.base, want, 4 * page());
		fill_all(&x, 0, 4);
		t_eq(device_read(&x, 2, got, 2), 2);
		t_eq(got[0], want);
		t_eq(got[1], want);
		announced_munmap(x.state, x.base, 4);
		t_ok(mmap(x.base, 4 * page(), PROT_READ | PROT_WRITE,
			  MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0) == x.base);
	}
	tear_down_all(&x);
}

TEST(two_mirrors_of_the_same_memory_are_both_torn_down_before_start_returns)
{
	struct mmn_mirror_config config = { .run_pages = 8 };
	struct mmn_mirror_config second = { .run_pages = 4 };
	struct mmn_invalidate_desc desc;
	struct fixture x, y;
	char got;

	set_up_with(&x, map_private(16), 16, &config, 0);
	y = x;
	second.size = sizeof(second);
	second.access = READ;
	t_err(mmn_soft_device_create(NULL, &y.device), 0);
	second.device = y.device;
	t_err(mmn_mirror_create(x.state, (uintptr_t)x.base, last_of(x.base, 16),
				&second, &y.mirror),
	      0);
	memset(x.base, '2', 16 * page());
	fill_all(&x, 0, 16);
	fill_all(&y, 0, 16);
	t_eq(device_read(&x, 9, &got, 1), 1);
	t_eq(device_read(&y, 9, &got, 1), 1);
	change_begin(&desc, x.state, MMN_EVENT_UNMAP, x.base + 9 * page(), 1);
	t_eq(device_read(&x, 9, &got, 1), -ENOENT);
	t_eq(device_read(&y, 9, &got, 1), -ENOENT);
	t_ok(!is_mirrored(&x, 15));
	t_ok(is_mirrored(&y, 15));
	change_end(&desc);
	mmn_mirror_destroy(y.mirror);
	mmn_device_destroy(y.device);
	tear_down_all(&x);
}

TEST(a_change_waits_for_the_transfer_under_way_and_holds_no_lock_meanwhile)
{
	struct mmn_mirror_config config = { .run_pages = 4 };
	struct mmn_invalidate_desc desc;
	struct waited_transfer w;
	struct fixture x;
	uint64_t begin;
	char got = 0;

	set_up_with(&x, map_private(8), 8, &config, 60 * MS);
	memset(x.base, 't', 8 * page());
	fill_all(&x, 0, 8);
	waited_init(&w, READ, &got, 1);
	begin = now_ns();
	t_err(mmn_mirror_submit(x.mirror, (uintptr_t)x.base, &w.transfer), 0);
	usleep(5000);
	change_begin(&desc, x.state, MMN_EVENT_CLEAR, x.base, 1);
	t_ge(now_ns() - begin, 60 * MS);
	t_ok(atomic_load(&w.done));
	t_eq(w.transfer.result, 1);
	t_eq(got, 't');
	change_end(&desc);
	tear_down_all(&x);
}

struct looker {
	struct fixture *x;
	_Atomic int state;
};

static void *look_while_waiting(void *arg)
{
	struct looker *looker = arg;
	struct mmn_mirror_access access;

	while (atomic_load(&looker->state) == 0)
		usleep(100);
	usleep(10000);
	mmn_mirror_access_begin(looker->x->mirror, &access);
	mmn_mirror_access_end(&access);
	atomic_store(&looker->state, 2);
	return NULL;
}

TEST(the_table_can_be_used_while_a_change_waits_for_the_device)
{
	struct mmn_mirror_config config = { .run_pages = 4 };
	struct mmn_invalidate_desc desc;
	struct waited_transfer w;
	struct looker looker;
	struct fixture x;
	pthread_t thread;
	char got;

	set_up_with(&x, map_private(4), 4, &config, 200 * MS);
	fill_all(&x, 0, 4);
	looker.x = &x;
	atomic_store(&looker.state, 0);
	t_eq(pthread_create(&thread, NULL, look_while_waiting, &looker), 0);
	waited_init(&w, READ, &got, 1);
	t_err(mmn_mirror_submit(x.mirror, (uintptr_t)x.base, &w.transfer), 0);
	usleep(5000);
	atomic_store(&looker.state, 1);
	change_begin(&desc, x.state, MMN_EVENT_CLEAR, x.base, 1);
	/* it got the lock before the device was done */
	t_eq(atomic_load(&looker.state), 2);
	change_end(&desc);
	pthread_join(thread, NULL);
	tear_down_all(&x);
}

/* Somebody who takes entries out and waits for the device. */
struct taker {
	struct fixture *x;
	bool by_change;
};

static void *take_and_wait(void *arg)
{
	struct taker *taker = arg;
	struct mmn_invalidate_desc desc;
	struct fixture *x = taker->x;

	if (!taker->by_change) {
		mmn_mirror_evict(x->mirror, (uintptr_t)x->base,
				 last_of(x->base, 4), NULL);
		return NULL;
	}
	change_begin(&desc, x->state, MMN_EVENT_CLEAR, x->base, 1);
	change_end(&desc);
	return NULL;
}

static void meet_entries_that_are_leaving(bool by_change)
{
	struct mmn_mirror_config config = { .run_pages = 4 };
	struct mmn_invalidate_desc desc;
	struct waited_transfer w;
	struct taker taker;
	struct fixture x;
	pthread_t thread;
	char got;

	set_up_with(&x, map_private(4), 4, &config, 200 * MS);
	fill_all(&x, 0, 4);
	taker = (struct taker){ .x = &x, .by_change = by_change };
	waited_init(&w, READ, &got, 1);
	t_err(mmn_mirror_submit(x.mirror, (uintptr_t)x.base, &w.transfer), 0);
	t_eq(pthread_create(&thread, NULL, take_and_wait, &taker), 0);
	while (is_mirrored(&x, 0))
		usleep(100);
	/* Nothing is mirrored any more, and still the device reads. */
	change_begin(&desc, x.state, MMN_EVENT_UNMAP, x.base, 1);
	t_ok(atomic_load(&w.done));
	change_end(&desc);
	pthread_join(thread, NULL);
	tear_down_all(&x);
}

TEST(a_change_waits_for_what_another_change_takes_down)
{
	meet_entries_that_are_leaving(true);
}

TEST(a_change_waits_for_what_an_eviction_takes_down)
{
	meet_entries_that_are_leaving(false);
}

TEST(a_change_that_may_not_block_is_refused_when_entries_are_in_its_way)
{
	struct mmn_invalidate_desc desc;
	struct fixture x;

	set_up(&x, 16);
	fill_all(&x, 0, 8);
	mmn_invalidate_desc_init(&desc, x.state, MMN_EVENT_CLEAR,
				 (uintptr_t)x.base, last_of(x.base, 1));
	t_err(mmn_invalidate_start_nonblock(&desc), -EAGAIN);
	t_ok(is_mirrored(&x, 0));
	t_eq(stats_of(&x).refused, 1);
	/* nothing is mirrored there */
	mmn_invalidate_desc_init(&desc, x.state, MMN_EVENT_CLEAR,
				 (uintptr_t)x.base + 8 * page(),
				 last_of(x.base, 16));
	t_err(mmn_invalidate_start_nonblock(&desc), 0);
	change_end(&desc);
	tear_down_all(&x);
}

struct holder {
	struct fixture *x;
	_Atomic int state;
};

static void *hold_lock(void *arg)
{
	struct holder *holder = arg;
	struct mmn_mirror_access access;

	mmn_mirror_access_begin(holder->x->mirror, &access);
	atomic_store(&holder->state, 1);
	while (atomic_load(&holder->state) == 1)
		usleep(100);
	mmn_mirror_access_end(&access);
	return NULL;
}

TEST(a_change_that_may_not_block_is_refused_while_the_lock_is_held)
{
	struct mmn_invalidate_desc desc;
	struct holder holder;
	struct fixture x;
	pthread_t thread;

	set_up(&x, 8);
	holder.x = &x;
	atomic_store(&holder.state, 0);
	t_eq(pthread_create(&thread, NULL, hold_lock, &holder), 0);
	while (!atomic_load(&holder.state))
		usleep(100);
	mmn_invalidate_desc_init(&desc, x.state, MMN_EVENT_CLEAR,
				 (uintptr_t)x.base, last_of(x.base, 1));
	t_err(mmn_invalidate_start_nonblock(&desc), -EAGAIN);
	atomic_store(&holder.state, 2);
	pthread_join(thread, NULL);
	t_eq(stats_of(&x).refused, 1);
	tear_down_all(&x);
}

/* Another thread keeps a change open. */
struct opener {
	struct fixture *x;
	_Atomic int state;
};

static void *keep_open(void *arg)
{
	struct opener *opener = arg;
	struct mmn_invalidate_desc desc;

	change_begin(&desc, opener->x->state, MMN_EVENT_CLEAR,
		     opener->x->base + 7 * page(), 1);
	atomic_store(&opener->state, 1);
	while (atomic_load(&opener->state) == 1)
		usleep(100);
	change_end(&desc);
	return NULL;
}

TEST(the_budget_bounds_the_wait_for_an_open_change)
{
	struct mmn_mirror_fill f;
	struct opener opener;
	struct fixture x;
	pthread_t thread;
	uint64_t begin;

	set_up(&x, 8);
	opener.x = &x;
	atomic_store(&opener.state, 0);
	t_eq(pthread_create(&thread, NULL, keep_open, &opener), 0);
	while (!atomic_load(&opener.state))
		usleep(100);
	begin = now_ns();
	t_err(fill(&x, 0, 4, 0, 30 * MS, &f), -ETIMEDOUT);
	t_ge(now_ns() - begin, 30 * MS);
	/* no budget, no wait */
	t_err(fill(&x, 0, 4, 0, 0, &f), -ETIMEDOUT);
	t_eq(stats_of(&x).timeouts, 2);
	t_eq(stats_of(&x).pages, 0);
	atomic_store(&opener.state, 2);
	pthread_join(thread, NULL);
	/* without a budget the first attempt is carried through */
	t_err(fill(&x, 0, 8, 0, 0, &f), 0);
	t_eq(f.pages, 8);
	tear_down_all(&x);
}

TEST(the_budget_bounds_collisions_and_progress_resumes_after_them)
{
	struct mmn_mirror_config config = {
		.run_pages = 8,
		.install_delay_ns = MS,
	};
	struct mmn_mirror_fill f;
	struct fixture x;
	uint64_t begin;

	set_up_with(&x, map_private(8), 8, &config, 0);
	/* every section collides */
	t_err(mmn_inject_set(MMN_INJECT_RETRY, 1, 1), 0);
	begin = now_ns();
	t_err(fill(&x, 0, 8, 0, 50 * MS, &f), -ETIMEDOUT);
	t_ge(now_ns() - begin, 50 * MS);
	t_gt(stats_of(&x).collisions, 1);
	t_eq(stats_of(&x).pages, 0);
	mmn_inject_clear();
	t_err(fill(&x, 0, 8, 0, 1000 * MS, &f), 0);
	t_eq(f.collisions, 0);
	tear_down_all(&x);
}

TEST(changes_with_the_mirrors_owner_do_not_make_it_start_over)
{
	static const char token;
	struct mmn_mirror_config config = { .owner = &token };
	struct mmn_invalidate_desc desc;
	struct mmn_mirror_fill f;
	struct fixture x;

	set_up_with(&x, map_private(4), 4, &config, 0);
	mmn_invalidate_desc_init(&desc, x.state, MMN_EVENT_MIGRATE,
				 (uintptr_t)x.base, last_of(x.base, 4));
	desc.owner = &token;
	t_err(mmn_invalidate_start(&desc), 0);
	/* open, and still no wait */
	t_err(fill(&x, 0, 4, 0, 0, &f), 0);
	change_end(&desc);
	t_ok(is_mirrored(&x, 0));
	tear_down_all(&x);
}

/*
 * anon_teardown: the program takes memory away at any moment and puts new
 * contents there; what the device reads from an entry that it was given is
 * right, or refused.
 */
struct teardown {
	struct fixture *x;
	/* the round that is written in the pages; only changes with nobody there */
	_Atomic unsigned int round;
	_Atomic bool stop;
	/* at least so many, and until the reader has seen enough */
	unsigned int rounds;
	_Atomic bool enough;
};

static void *teardown_memory(void *arg)
{
	struct teardown *t = arg;
	char *half = t->x->base + t->x->nr / 2 * page();
	size_t nr = t->x->nr / 2;
	size_t bytes = nr * page();
	struct mmn_invalidate_desc desc;
	unsigned int round, seed = 3;
	size_t i;

	for (round = 1; round <= t->rounds || !atomic_load(&t->enough);
	     round++) {
		change_begin(&desc, t->x->state, MMN_EVENT_UNMAP, half, nr);
		/*
		 * Nobody reads now, so from here on a reader that sees less
		 * than this round was given a page of the past.
		 */
		atomic_store(&t->round, round);
		t_eq(munmap(half, bytes), 0);
		t_ok(mmap(half, bytes, PROT_READ | PROT_WRITE,
			  MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0) == half);
		for (i = 0; i < nr; i++)
			memcpy(half + i * page(), &round, sizeof(round));
		change_end(&desc);
		if (rand_r(&seed) % 4 == 0)
			sched_yield();
	}
	atomic_store(&t->stop, true);
	return NULL;
}

struct tally {
	uint64_t reads;
	uint64_t refused;
	uint64_t stale;
	uint64_t collisions;
};

static struct tally read_during_teardown(struct fixture *x, unsigned int rounds)
{
	struct teardown t = { .x = x, .rounds = rounds };
	struct tally tally = { 0 };
	struct mmn_mirror_fill f;
	unsigned int before, got;
	unsigned int seed = 9;
	pthread_t thread;
	size_t index;
	int64_t ret;

	atomic_store(&t.round, 0);
	atomic_store(&t.stop, false);
	t_eq(pthread_create(&thread, NULL, teardown_memory, &t), 0);
	while (!atomic_load(&t.stop)) {
		index = x->nr / 2 + (size_t)rand_r(&seed) % (x->nr / 2);
		/* 5 ms: enough to get in between two changes sometimes */
		if (fill(x, index, 1, 0, 5 * MS, &f))
			continue;
		before = atomic_load(&t.round);
		got = 0;
		ret = device_read(x, index, &got, sizeof(got));
		if (++tally.reads > 20)
			atomic_store(&t.enough, true);
		if (ret != sizeof(got))
			tally.refused++;
		else if (got < before)
			tally.stale++;
	}
	pthread_join(thread, NULL);
	tally.collisions = stats_of(x).collisions;
	return tally;
}

static void anon_teardown(uint32_t kind, unsigned int rounds)
{
	struct mmn_mirror_config config = { .run_pages = 2 };
	struct tally tally;
	struct fixture x;

	config.lock.kind = kind;
	set_up_with(&x, map_private(8), 8, &config, 0);
	tally = read_during_teardown(&x, rounds);
	t_note("%llu reads, %llu refused, %llu collisions, %llu stale",
	       (unsigned long long)tally.reads,
	       (unsigned long long)tally.refused,
	       (unsigned long long)tally.collisions,
	       (unsigned long long)tally.stale);
	t_gt(tally.reads, 20);
	t_eq(tally.stale, 0);
	tear_down_all(&x);
}

TEST(anon_teardown_gives_an_error_or_the_right_data)
{
	anon_teardown(MMN_MIRROR_LOCK_MANAGED, 10000);
}

TEST(anon_teardown_with_the_drivers_lock)
{
	anon_teardown(MMN_MIRROR_LOCK_MUTEX, 3000);
}

/* The same with one thing broken on purpose must be caught. */
static void broken(uint32_t point)
{
	struct mmn_mirror_config config = {
		.run_pages = 2,
		.install_delay_ns = MS / 4,
	};
	struct tally tally;
	struct fixture x;

	set_up_with(&x, map_private(8), 8, &config, 0);
	t_err(mmn_inject_set(point, 1, 1), 0);
	tally = read_during_teardown(&x, 3000);
	mmn_inject_clear();
	t_note("%llu reads, %llu stale", (unsigned long long)tally.reads,
	       (unsigned long long)tally.stale);
	t_gt(tally.stale, 0);
	tear_down_all(&x);
}

TEST(a_mirror_that_does_not_check_retry_is_caught)
{
	broken(MMN_INJECT_RETRY_SKIP);
}

TEST(a_callback_that_does_not_set_the_sequence_is_caught)
{
	broken(MMN_INJECT_SEQ_SKIP);
}

/* Several fillers, several changers, readers that look under the lock. */
struct crowd {
	struct fixture *x;
	_Atomic bool stop;
	unsigned int seed;
};

static void *crowd_fill(void *arg)
{
	struct crowd *crowd = arg;
	struct fixture own = *crowd->x;
	struct mmn_mirror_fill f;
	unsigned int seed = crowd->seed;

	t_err(mmn_pages_open(NULL, &own.pages), 0);
	while (!atomic_load(&crowd->stop)) {
		size_t first = (size_t)rand_r(&seed) % 48;
		size_t nr = 1 + (size_t)rand_r(&seed) % 16;
		uint32_t flags = (uint32_t)rand_r(&seed) % 2
					 ? MMN_MIRROR_FILL_PRESENT
					 : 0;
		int err = fill(&own, first, nr, flags, 3 * MS, &f);

		if (err && err != -ETIMEDOUT)
			t_fail("fill: %d", err);
		if (!err && !flags)
			t_eq(f.pages, nr);
	}
	mmn_pages_close(own.pages);
	return NULL;
}

TEST(many_fillers_and_changers_agree_on_one_table)
{
	struct crowd crowds[3];
	struct mmn_mirror_access access;
	struct mmn_mirror_entry entry;
	pthread_t threads[3];
	unsigned int seed = 77;
	struct fixture x;
	uint64_t frame, pages;
	uintptr_t addr;
	int i, round;

	set_up(&x, 64);
	memset(x.base, 1, 64 * page());
	for (i = 0; i < 3; i++) {
		crowds[i].x = &x;
		crowds[i].seed = (unsigned int)i + 1;
		atomic_store(&crowds[i].stop, false);
		t_eq(pthread_create(&threads[i], NULL, crowd_fill, &crowds[i]),
		     0);
	}
	for (round = 0; round < 600; round++) {
		announced_discard(x.state,
				  x.base + (size_t)rand_r(&seed) % 60 * page(),
				  1 + (size_t)rand_r(&seed) % 4);
		if (round % 10 == 0)
			t_err(mmn_mirror_evict(x.mirror, (uintptr_t)x.base,
					       last_of(x.base, 20), NULL),
			      0);
		usleep(300);
	}
	for (i = 0; i < 3; i++) {
		atomic_store(&crowds[i].stop, true);
		pthread_join(threads[i], NULL);
	}
	/* what is left is disjoint, ascending, and the page that is mapped */
	fill_all(&x, 0, 64);
	addr = 0;
	pages = 0;
	mmn_mirror_access_begin(x.mirror, &access);
	while (!mmn_mirror_next(x.mirror, addr, &entry)) {
		struct mmn_range_fault f = {
			.size = sizeof(f),
			.start = entry.addr,
			.last = entry.addr + page() - 1,
			.words = &frame,
		};

		t_ge(entry.start, addr);
		frame = 0;
		t_err(mmn_range_fault(x.pages, &f), 0);
		t_eq(mmn_pfn_frame(frame), mmn_pfn_frame(entry.word));
		t_ok(entry.word & MMN_PFN_DEVICE_MAPPED);
		pages += (entry.last - entry.start + 1) / page();
		addr = entry.last + 1;
	}
	mmn_mirror_access_end(&access);
	t_eq(pages, 64);
	t_eq(stats_of(&x).pages, 64);
	tear_down_all(&x);
}

TEST(evicting_gives_up_whole_maps)
{
	struct fixture x;
	uint64_t pages = 99;

	set_up(&x, 24);
	fill_all(&x, 0, 24);
	t_eq(stats_of(&x).runs, 3);
	t_err(mmn_mirror_evict(x.mirror, (uintptr_t)x.base + 9 * page() + 17,
			       (uintptr_t)x.base + 9 * page() + 17, &pages),
	      0);
	t_eq(pages, 8);
	t_ok(is_mirrored(&x, 7));
	t_ok(!is_mirrored(&x, 8));
	t_ok(is_mirrored(&x, 16));
	t_err(mmn_mirror_evict(x.mirror, 0, UINTPTR_MAX, &pages), 0);
	t_eq(pages, 16);
	t_eq(stats_of(&x).evicted_pages, 24);
	t_eq(stats_of(&x).table_bytes, 0);
	t_err(mmn_mirror_evict(x.mirror, 1, 0, &pages), -EINVAL);
	tear_down_all(&x);
}

TEST(a_transfer_beyond_its_map_is_told_to_split)
{
	struct waited_transfer w;
	struct fixture x;
	char got[64];

	set_up(&x, 16);
	fill_all(&x, 0, 16);
	waited_init(&w, READ, got, sizeof(got));
	t_err(mmn_mirror_submit(x.mirror, (uintptr_t)x.base + 8 * page() - 63,
				&w.transfer),
	      -ERANGE);
	t_err(mmn_mirror_submit(x.mirror, (uintptr_t)x.base + 8 * page() - 64,
				&w.transfer),
	      0);
	t_eq(waited_wait(&w), 64);
	tear_down_all(&x);
}

static uintptr_t hook_start, hook_last;
static _Atomic int hook_calls;

static void torn_down(void *arg, const struct mmn_invalidate_desc *desc,
		      uintptr_t start, uintptr_t last)
{
	hook_start = start;
	hook_last = last;
	if (arg == &hook_calls && desc->event == MMN_EVENT_UNMAP)
		atomic_fetch_add(&hook_calls, 1);
}

TEST(the_owner_is_told_what_was_torn_down)
{
	static const struct mmn_mirror_hooks hooks = { torn_down };
	struct mmn_mirror_config config = {
		.hooks = &hooks,
		.hooks_arg = &hook_calls,
	};
	struct mmn_invalidate_desc desc;
	struct fixture x;

	set_up_with(&x, map_private(4), 4, &config, 0);
	change_begin(&desc, x.state, MMN_EVENT_UNMAP, x.base - 8 * page(), 10);
	change_end(&desc);
	t_eq(atomic_load(&hook_calls), 1);
	t_eq(hook_start, (uintptr_t)x.base);
	t_eq(hook_last, last_of(x.base, 2));
	tear_down_all(&x);
}

TEST(words_taken_after_the_hold_show_the_frame_that_is_held)
{
	struct mmn_mirror_config config = { .flags = MMN_MIRROR_WORDS_AFTER };
	struct mmn_mirror_access access;
	struct mmn_mirror_entry entry;
	struct fixture x;
	uint64_t word = 0;
	struct mmn_range_fault f = { .size = sizeof(f), .words = &word };

	set_up_with(&x, map_private(4), 4, &config, 0);
	fill_all(&x, 0, 4);
	f.start = (uintptr_t)x.base + page();
	f.last = last_of(x.base, 2);
	mmn_mirror_access_begin(x.mirror, &access);
	t_err(mmn_mirror_lookup(x.mirror, f.start + 5, &entry), 0);
	t_err(mmn_range_fault(x.pages, &f), 0);
	t_eq(entry.addr, f.start);
	t_eq(mmn_pfn_frame(word), mmn_pfn_frame(entry.word));
	t_eq(entry.word & ~MMN_PFN_FRAME_MASK,
	     MMN_PFN_VALID | MMN_PFN_WRITE | MMN_PFN_DEVICE_MAPPED);
	mmn_mirror_access_end(&access);
	tear_down_all(&x);
}

TEST(bad_configs_and_arguments_are_refused)
{
	struct mmn_mirror_config config, good = { .size = sizeof(good) };
	struct mmn_mirror *mirror = NULL;
	struct mmn_mirror_stats stats = { .size = 0 };
	struct mmn_mirror_fill f;
	struct fixture x;
	uintptr_t start, last;

	set_up(&x, 8);
	start = (uintptr_t)x.base;
	last = last_of(x.base, 8);
	good.device = x.device;
	good.access = READ;
	t_err(mmn_mirror_create(NULL, start, last, &good, &mirror), -EINVAL);
	t_err(mmn_mirror_create(x.state, start, last, NULL, &mirror), -EINVAL);
	t_err(mmn_mirror_create(x.state, start, last, &good, NULL), -EINVAL);
	t_err(mmn_mirror_create(x.state, start + 1, last, &good, &mirror),
	      -EINVAL);
	t_err(mmn_mirror_create(x.state, start, last + 1, &good, &mirror),
	      -EINVAL);
	t_err(mmn_mirror_create(x.state, start, start - 1, &good, &mirror),
	      -EINVAL);
#define BAD_CONFIG(member, value)                                      \
	do {                                                           \
		config = good;                                         \
		config.member = (value);                               \
		t_err(mmn_mirror_create(x.state, start, last, &config, \
					&mirror),                      \
		      -EINVAL);                                        \
	} while (0)
	BAD_CONFIG(size, 4);
	BAD_CONFIG(flags, 1u << 9);
	BAD_CONFIG(device, NULL);
	BAD_CONFIG(access, 0);
	BAD_CONFIG(access, 4);
	BAD_CONFIG(run_pages, 4097);
	BAD_CONFIG(lock.kind, 3);
	BAD_CONFIG(lock.kind, MMN_MIRROR_LOCK_MUTEX);
	BAD_CONFIG(lock.kind, MMN_MIRROR_LOCK_OPS);
	BAD_CONFIG(lock.lock, &x);
	t_ok(!mirror);

	t_err(fill(&x, 0, 9, 0, 0, &f), -EINVAL);
	t_err(fill(&x, 0, 8, 2, 0, &f), -EINVAL);
	memset(&f, 0, sizeof(f));
	f.size = sizeof(f);
	f.start = start + 1;
	f.last = last;
	t_err(mmn_mirror_fill(x.mirror, x.pages, &f), -EINVAL);
	f.start = start + 4 * page();
	f.last = start + 2 * page() - 1;
	t_err(mmn_mirror_fill(x.mirror, x.pages, &f), -EINVAL);
	f.size = 1;
	t_err(mmn_mirror_fill(x.mirror, x.pages, &f), -EINVAL);
	t_err(mmn_mirror_fill(NULL, x.pages, &f), -EINVAL);
	t_err(mmn_mirror_fill(x.mirror, NULL, &f), -EINVAL);
	t_err(mmn_mirror_get_stats(x.mirror, &stats), -EINVAL);

	/* a state that has been released takes no new mirrors */
	t_err(mmn_state_release(x.state), 0);
	t_err(mmn_mirror_create(x.state, start, last, &good, &mirror), -EINVAL);
	tear_down_all(&x);
}

TEST(structs_of_a_newer_version_are_taken_if_they_ask_for_nothing_new)
{
	struct {
		struct mmn_mirror_config c;
		uint64_t newer;
	} config;
	struct {
		struct mmn_mirror_fill f;
		uint64_t newer;
	} filling;
	struct mmn_mirror *mirror = NULL;
	struct fixture x;

	set_up(&x, 4);
	memset(&config, 0, sizeof(config));
	config.c.size = sizeof(config);
	config.c.device = x.device;
	config.c.access = READ;
	config.newer = 1;
	t_err(mmn_mirror_create(x.state, (uintptr_t)x.base, last_of(x.base, 4),
				&config.c, &mirror),
	      -E2BIG);
	config.newer = 0;
	t_err(mmn_mirror_create(x.state, (uintptr_t)x.base, last_of(x.base, 4),
				&config.c, &mirror),
	      0);
	mmn_mirror_destroy(mirror);
	memset(&filling, 0, sizeof(filling));
	filling.f.size = sizeof(filling);
	filling.f.start = (uintptr_t)x.base;
	filling.f.last = last_of(x.base, 4);
	filling.newer = 1;
	t_err(mmn_mirror_fill(x.mirror, x.pages, &filling.f), -E2BIG);
	filling.newer = 0;
	t_err(mmn_mirror_fill(x.mirror, x.pages, &filling.f), 0);
	tear_down_all(&x);
}

TEST(running_out_of_memory_leaves_nothing_installed)
{
	struct mmn_mirror_fill f;
	struct fixture x;
	uint64_t seed;
	int failed = 0;

	set_up(&x, 32);
	for (seed = 1; seed < 40; seed++) {
		int err;

		t_err(mmn_inject_set(MMN_INJECT_ALLOC, 4, seed), 0);
		err = fill(&x, 0, 32, 0, MMN_MIRROR_NO_LIMIT, &f);
		mmn_inject_clear();
		if (err) {
			t_err(err, -ENOMEM);
			t_eq(stats_of(&x).pages, 0);
			failed++;
		} else {
			t_eq(stats_of(&x).pages, 32);
			mmn_mirror_evict(x.mirror, 0, UINTPTR_MAX, NULL);
		}
	}
	t_gt(failed, 0);
	fill_all(&x, 0, 32);
	tear_down_all(&x);
}

TEST(a_mirror_without_memory_is_an_error)
{
	struct mmn_mirror_config config = { .size = sizeof(config) };
	struct mmn_mirror *mirror = NULL;
	void **taken = NULL, **more;
	struct rlimit limit;
	struct fixture x;
	rlim_t old;
	int err;

	if (T_ASAN || T_TSAN)
		t_skip("a sanitizer needs memory at any moment");
	set_up(&x, 4);
	config.device = x.device;
	config.access = READ;
	t_eq(getrlimit(RLIMIT_AS, &limit), 0);
	old = limit.rlim_cur;
	limit.rlim_cur = 0;
	t_eq(setrlimit(RLIMIT_AS, &limit), 0);
	/* what the heap has already */
	while ((more = malloc(sizeof(void *)))) {
		*more = taken;
		taken = more;
	}
	err = mmn_mirror_create(x.state, (uintptr_t)x.base, last_of(x.base, 4),
				&config, &mirror);
	limit.rlim_cur = old;
	t_eq(setrlimit(RLIMIT_AS, &limit), 0);
	for (; taken; taken = more) {
		more = *taken;
		free(taken);
	}
	t_err(err, -ENOMEM);
	t_ok(!mirror);
	tear_down_all(&x);
}

TEST(a_device_that_can_hold_no_more_fails_the_fill)
{
	struct mmn_mirror_fill f;
	struct fixture x;

	set_up(&x, 8);
	t_err(mmn_inject_set(MMN_INJECT_ALLOC, 1, 1), 0);
	t_err(fill(&x, 0, 8, 0, MMN_MIRROR_NO_LIMIT, &f), -ENOMEM);
	mmn_inject_clear();
	answer_syscall_if(SYS_fcntl, 1, F_SETPIPE_SZ, EPERM);
	t_err(fill(&x, 0, 8, 0, MMN_MIRROR_NO_LIMIT, &f), -EDQUOT);
	answer_syscall_if(SYS_pipe2, 1, O_CLOEXEC | O_NONBLOCK, ENFILE);
	t_err(fill(&x, 0, 8, 0, MMN_MIRROR_NO_LIMIT, &f), -ENOSPC);
	t_eq(stats_of(&x).pages, 0);
	tear_down_all(&x);
}

TEST(an_answer_of_the_kernel_that_makes_no_sense_fails_the_fill)
{
	struct mmn_mirror_fill f;
	struct fixture x;

	set_up(&x, 8);
	if (mmn_pages_missing(x.pages) & MMN_PAGES_NO_QUERY)
		t_skip("this kernel cannot be asked about a mapping");
	answer_syscall(SYS_ioctl, 0);
	t_err(fill(&x, 0, 8, 0, MMN_MIRROR_NO_LIMIT, &f), -EIO);
	t_eq(stats_of(&x).pages, 0);
	tear_down_all(&x);
}

TEST(the_end_of_the_address_space_takes_everything_down)
{
	struct fixture x;

	set_up(&x, 8);
	fill_all(&x, 0, 8);
	t_err(mmn_state_release(x.state), 0);
	t_eq(stats_of(&x).pages, 0);
	tear_down_all(&x);
}

TEST(a_fork_childs_copy_is_inert)
{
	struct mmn_mirror_config config = {
		.size = sizeof(config),
		.access = READ,
	};
	struct mmn_mirror *own = NULL;
	struct mmn_mirror_access access;
	struct mmn_mirror_entry entry;
	struct mmn_mirror_fill f;
	struct fixture x;
	int status;
	pid_t child;
	char got;

	set_up(&x, 8);
	memset(x.base, 'p', 8 * page());
	fill_all(&x, 0, 8);
	child = fork();
	if (!child) {
		config.device = x.device;
		if (mmn_mirror_create(x.state, (uintptr_t)x.base,
				      last_of(x.base, 8), &config,
				      &own) != -ESTALE)
			_exit(3);
		if (fill(&x, 0, 8, 0, 0, &f) != -ESTALE ||
		    mmn_mirror_evict(x.mirror, 0, 1, NULL) != -ESTALE)
			_exit(1);
		mmn_mirror_access_begin(x.mirror, &access);
		if (mmn_mirror_lookup(x.mirror, (uintptr_t)x.base, &entry) !=
		    -ENOENT)
			_exit(2);
		mmn_mirror_access_end(&access);
		mmn_mirror_destroy(x.mirror);
		mmn_device_destroy(x.device);
		_exit(0);
	}
	t_eq(waitpid(child, &status, 0), child);
	t_eq(status, 0);
	/* the parent's is untouched */
	t_eq(device_read(&x, 1, &got, 1), 1);
	t_eq(got, 'p');
	tear_down_all(&x);
}

/* A handler of the program that changes memory, at any moment. */
static struct fixture *signalled;
static _Atomic int handled;

static void change_in_handler(int sig)
{
	struct mmn_invalidate_desc desc;

	mmn_invalidate_desc_init(&desc, signalled->state, MMN_EVENT_CLEAR,
				 (uintptr_t)signalled->base,
				 last_of(signalled->base, 1));
	mmn_invalidate_start(&desc);
	madvise(signalled->base, page(), MADV_DONTNEED);
	mmn_invalidate_end(&desc);
	atomic_fetch_add(&handled, 1);
}

TEST(a_signal_handler_may_change_memory_while_its_thread_fills)
{
	struct sigaction action = { .sa_handler = change_in_handler };
	struct mmn_mirror_fill f;
	timer_t timer;
	struct itimerspec spec = {
		.it_interval = { 0, 500000 },
		.it_value = { 0, 500000 },
	};
	struct fixture x;
	uint64_t end;

	if (MMN_TSAN)
		t_skip("ThreadSanitizer delivers signals that are blocked");
	set_up(&x, 8);
	signalled = &x;
	t_eq(sigaction(SIGALRM, &action, NULL), 0);
	t_eq(timer_create(CLOCK_MONOTONIC, NULL, &timer), 0);
	t_eq(timer_settime(timer, 0, &spec, NULL), 0);
	end = now_ns() + 500 * MS;
	while (now_ns() < end) {
		int err = fill(&x, 0, 8, 0, 20 * MS, &f);

		if (err)
			t_err(err, -ETIMEDOUT);
		is_mirrored(&x, 0);
		mmn_mirror_evict(x.mirror, 0, UINTPTR_MAX, NULL);
	}
	timer_delete(timer);
	signal(SIGALRM, SIG_DFL);
	t_gt(atomic_load(&handled), 50);
	tear_down_all(&x);
}
