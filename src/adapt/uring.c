/* SPDX-License-Identifier: MIT */
/*
 * The fixed buffers of a ring as a registration cache.
 *
 * The cache (<mmn/cache.h>) knows what is registered and when that is over.  Here
 * is what registering means: a slot of the ring's table, filled with a tag.  Slot
 * and tag live apart, because the slot can be filled anew as soon as it is
 * cleared, while the old pages stay pinned until the last request that uses them
 * is over:
 *
 *	register     slot F -> filled         tag  FREE -> ARMED
 *	deregister   slot filled -> F         tag  ARMED -> AWAITED
 *	the kernel posts the tag to the ring:
 *	             seen there by us         tag  AWAITED -> SEEN
 *	             passed by the caller     tag  AWAITED, SEEN -> FREE
 *
 * A tag that is AWAITED has a fence, which deregistration returns to the cache.
 * What is SEEN has signalled it and is still in the ring.  The ring is looked
 * through, without taking anything out of it, when a get finds no room: the
 * thread that gets may be the one that is to read the completions.
 *
 * On a ring with a single issuer the cache's thread cannot clear slots.  It puts
 * the tag on a list, which is worked off by whatever the issuer calls, and posts
 * a completion of ours to the ring (IORING_OP_MSG_RING), because the issuer may
 * be asleep in it.
 */
#include <mmn/uring.h>

#include <errno.h>
#include <liburing.h>
#include <mmn/dma-fence-pool.h>
#include <mmn/dma-fence.h>
#include <mmn/dma-resv.h>
#include <mmn/spinlock.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/syscall.h"
#include "base/time.h"

#define DEFAULT_SLOTS 1024u
/* Tags that may be on their way, per slot. */
#define TAGS_PER_SLOT 4u
/* For how long a get without room sleeps before it looks at the ring again. */
#define LOOK_NS UINT64_C(1000000)
#define RETRY_NS 1000000

/* user_data: whose, which life of the tag, and the tag. */
#define INDEX_BITS 17u
#define LIFE_MASK UINT32_C(0x7fffffff)
#define OWNER_SHIFT 48u

/* How often memory may change while one entry is being prepared. */
#define TRIES 64u

/* Of newer kernels than the headers that Debian 12 builds with. */
#define SETUP_REGISTERED_FD_ONLY (1u << 15)
#define SETUP_CQE_MIXED (1u << 18)

enum tag_state {
	TAG_FREE,
	TAG_ARMED,
	TAG_AWAITED,
	TAG_SEEN,
	/* The caller has emptied a slot that is not his. */
	TAG_LOST,
};

/*
 * struct tag - one registration, as the kernel names it
 *
 * All under uring->lock.  A number of lives tells an old completion, which the
 * caller has passed and not yet taken out of the ring, from a new one.
 *
 * T1  fence != NULL  <=>  AWAITED, and not yet being signalled
 * T2  The kernel has it exactly while it is ARMED or AWAITED, and posts it once.
 */
struct tag {
	enum tag_state state;
	uint32_t slot;
	uint32_t life;
	struct dma_fence *fence;
	/* on uring->free_tags, or on uring->to_clear */
	struct tag *next;
};

struct mmn_uring {
	/* const after attach */
	struct io_uring *ring;
	struct mmn_cache *cache;
	struct mmn_uring_options options;
	/* const: tags[0] is no tag but the completion that wakes the issuer */
	struct tag *tags;
	uint32_t nr_tags;
	/* 1, in a page that reads as 0 in fork children. */
	uint32_t *alive;
	bool single_issuer;

	struct spinlock lock;
	/* lock, all of these */
	struct tag *free_tags;
	/* Single issuer: slots that wait for it. */
	struct tag *to_clear;
	uint32_t *free_slots;
	uint32_t nr_free_slots;
	/* Tags that are not FREE. */
	uint32_t nr_out;
	bool closing;

	/* cache's thread: to post completions from */
	struct io_uring bell;
};

/* One for all rings: fences may outlive what they were made for. */
static struct dma_fence_pool *fences;
static int fences_error;
static pthread_once_t fences_once = PTHREAD_ONCE_INIT;

static void make_fences(void)
{
	fences_error = dma_fence_pool_create(sizeof(struct dma_fence), &fences);
}

static const char *driver_name(struct dma_fence *fence)
{
	(void)fence;
	return "mmn-uring";
}

static const char *timeline_name(struct dma_fence *fence)
{
	(void)fence;
	return "transfer";
}

static const struct dma_fence_ops uring_fence_ops = {
	.get_driver_name = driver_name,
	.get_timeline_name = timeline_name,
};

/* Each is a timeline of its own: requests end in any order. */
static struct dma_fence *new_fence(void)
{
	struct dma_fence *fence = dma_fence_pool_alloc(fences);

	if (fence)
		dma_fence_pool_init(fence, &uring_fence_ops, NULL,
				    dma_fence_context_alloc(1), 1);
	return fence;
}

static bool is_alive(const struct mmn_uring *u)
{
	/* relaxed: set before anybody knows of it, wiped by fork */
	return mmn_load_relaxed(u->alive) != 0;
}

/* ------------------------------------------------------------------ */
/* Tags                                                               */
/* ------------------------------------------------------------------ */

/* Lock held. */
static void free_tag(struct mmn_uring *u, struct tag *tag)
{
	tag->state = TAG_FREE;
	tag->next = u->free_tags;
	u->free_tags = tag;
	u->nr_out--;
}

/* A slot and a tag for it; -EAGAIN: not now, -ENOSPC: never again. */
static int take(struct mmn_uring *u, struct tag **ret_tag)
{
	struct tag *tag = NULL;
	int ret = -EAGAIN;

	mmn_spin_lock(&u->lock);
	if (u->closing) {
		ret = -ENOSPC;
	} else if (u->free_tags && u->nr_free_slots) {
		tag = u->free_tags;
		u->free_tags = tag->next;
		tag->slot = u->free_slots[--u->nr_free_slots];
		tag->state = TAG_ARMED;
		tag->life++;
		u->nr_out++;
		*ret_tag = tag;
		ret = 0;
	}
	mmn_spin_unlock(&u->lock);
	return ret;
}

static void give_slot_back(struct mmn_uring *u, uint32_t slot)
{
	mmn_spin_lock(&u->lock);
	u->free_slots[u->nr_free_slots++] = slot;
	mmn_spin_unlock(&u->lock);
}

static void signal_and_put(struct dma_fence *fence)
{
	if (!fence)
		return;
	dma_fence_signal(fence);
	dma_fence_put(fence);
}

static uint64_t name_of(const struct mmn_uring *u, const struct tag *tag)
{
	return u->options.user_data |
	       (uint64_t)(tag->life & LIFE_MASK) << INDEX_BITS |
	       (uint64_t)(tag - u->tags);
}

static bool is_ours(const struct mmn_uring *u, uint64_t user_data)
{
	return user_data >> OWNER_SHIFT == u->options.user_data >> OWNER_SHIFT;
}

/* The tag in the life that is meant, or NULL; lock held. */
static struct tag *tag_of(const struct mmn_uring *u, uint64_t user_data)
{
	uint64_t index = user_data & ((1u << INDEX_BITS) - 1);
	struct tag *tag;

	if (!index || index >= u->nr_tags)
		return NULL;
	tag = &u->tags[index];
	return name_of(u, tag) == user_data ? tag : NULL;
}

/* The kernel has posted it; @passed: and the caller has read it. */
static void tag_arrived(struct mmn_uring *u, uint64_t user_data, bool passed)
{
	struct dma_fence *fence = NULL;
	struct tag *tag;

	mmn_spin_lock(&u->lock);
	tag = tag_of(u, user_data);
	if (tag && (tag->state == TAG_AWAITED || tag->state == TAG_SEEN)) {
		fence = tag->fence;
		tag->fence = NULL;
		tag->state = TAG_SEEN;
		if (passed)
			free_tag(u, tag);
	} else if (tag && tag->state == TAG_ARMED && passed) {
		tag->state = TAG_LOST;
	}
	mmn_spin_unlock(&u->lock);
	signal_and_put(fence);
}

/*
 * Find tags in the ring and leave them there.  The thread that reads completions
 * may be reading them meanwhile, and the kernel be overwriting what it has read:
 * whatever is seen here has been posted.
 */
static void look_at_ring(struct mmn_uring *u)
{
	const struct io_uring_cq *cq = &u->ring->cq;
	uint32_t shift = u->ring->flags & IORING_SETUP_CQE32 ? 1 : 0;
	const struct io_uring_cqe *cqe;
	uint64_t user_data;
	uint32_t at, end;

	if (u->ring->flags & SETUP_CQE_MIXED)
		return;
	/* relaxed: a head that is too old names more that has been posted */
	at = mmn_load_relaxed(cq->khead);
	/* As the kernel wants it: what is before the tail is there. */
	end = io_uring_smp_load_acquire(cq->ktail);
	if (end - at > cq->ring_entries)
		at = end - cq->ring_entries;
	for (; at != end; at++) {
		cqe = &cq->cqes[(at & cq->ring_mask) << shift];
		/* relaxed: the tail orders it */
		user_data = mmn_load_relaxed(&cqe->user_data);
		if (is_ours(u, user_data))
			tag_arrived(u, user_data, false);
	}
}

/* ------------------------------------------------------------------ */
/* Slots                                                              */
/* ------------------------------------------------------------------ */

/* Returns the kernel's answer to the new contents of a slot. */
static int update_slot(const struct mmn_uring *u, uint32_t slot,
		       uintptr_t start, size_t bytes, uint64_t tag)
{
	struct iovec iov = { .iov_base = (void *)start, .iov_len = bytes };
	__u64 tags = tag;
	struct io_uring_rsrc_update2 update = {
		.offset = u->options.first_slot + slot,
		.data = (uintptr_t)&iov,
		.tags = (uintptr_t)&tags,
		.nr = 1,
	};
	long ret = mmn_syscall4(__NR_io_uring_register, u->ring->ring_fd,
				IORING_REGISTER_BUFFERS_UPDATE, &update,
				sizeof(update));

	return ret < 0 ? (int)ret : 0;
}

/* Without memory to clear a slot with, wait for some: it must not fail. */
static int clear_slot(const struct mmn_uring *u, uint32_t slot)
{
	struct timespec pause = mmn_timespec(RETRY_NS);
	int ret;

	for (;;) {
		ret = update_slot(u, slot, 0, 0, 0);
		if (ret != -ENOMEM && ret != -EINTR)
			return ret;
		nanosleep(&pause, NULL);
	}
}

/* -EEXIST: not by this thread.  Else the slot is free and the tag will come. */
static int clear_tag(struct mmn_uring *u, struct tag *tag)
{
	uint64_t name;
	uint32_t slot;
	int ret;

	/* Once the slot is clear, the tag may begin another life at any time. */
	mmn_spin_lock(&u->lock);
	slot = tag->slot;
	name = name_of(u, tag);
	mmn_spin_unlock(&u->lock);
	ret = clear_slot(u, slot);
	if (ret == -EEXIST)
		return ret;
	if (ret)
		/* The caller has closed the ring, which has let go of all. */
		tag_arrived(u, name, true);
	give_slot_back(u, slot);
	return 0;
}

/* On a ring with a single issuer, by the issuer.  -EEXIST by others. */
static int work_off(struct mmn_uring *u)
{
	struct tag *tag, *next;
	int ret = 0;

	if (!u->single_issuer)
		return 0;
	mmn_spin_lock(&u->lock);
	tag = u->to_clear;
	u->to_clear = NULL;
	mmn_spin_unlock(&u->lock);
	for (; tag; tag = next) {
		next = tag->next;
		if (!ret)
			ret = clear_tag(u, tag);
		if (!ret)
			continue;
		mmn_spin_lock(&u->lock);
		tag->next = u->to_clear;
		u->to_clear = tag;
		mmn_spin_unlock(&u->lock);
	}
	return ret;
}

/* Without an answer the issuer finds the list the next time it comes by. */
static void wake_issuer(struct mmn_uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->bell);
	struct io_uring_cqe *cqe;

	/* Without one the last has not been submitted, and says the same. */
	if (sqe) {
		io_uring_prep_msg_ring(sqe, u->ring->ring_fd, 0,
				       name_of(u, u->tags), 0);
		sqe->user_data = 0;
	}
	if (io_uring_submit_and_wait(&u->bell, 1) < 0)
		return;
	if (!io_uring_peek_cqe(&u->bell, &cqe))
		io_uring_cqe_seen(&u->bell, cqe);
}

/* ------------------------------------------------------------------ */
/* The cache's ops                                                    */
/* ------------------------------------------------------------------ */

static int register_error(int error)
{
	switch (error) {
	case -EOPNOTSUPP: /* a file, on older kernels */
	case -EINVAL:
		return -EFAULT;
	default:
		return error;
	}
}

static int register_region(void *arg, struct mmn_cache_region *region)
{
	struct mmn_uring *u = arg;
	size_t bytes = region->last - region->start + 1;
	struct tag *tag;
	int ret;

	if (bytes > MMN_URING_MAX_BUFFER)
		return -E2BIG;
	ret = work_off(u);
	if (ret)
		return ret;
	ret = take(u, &tag);
	if (ret)
		return ret;
	ret = update_slot(u, tag->slot, region->start, bytes, name_of(u, tag));
	if (ret) {
		give_slot_back(u, tag->slot);
		mmn_spin_lock(&u->lock);
		free_tag(u, tag);
		mmn_spin_unlock(&u->lock);
		return register_error(ret);
	}
	region->data = tag;
	region->key = u->options.first_slot + tag->slot;
	return 0;
}

/* ARMED -> AWAITED with a fence; false when the tag has come already. */
static bool await_tag(struct mmn_uring *u, struct tag *tag,
		      struct dma_fence *fence)
{
	bool lost;

	mmn_spin_lock(&u->lock);
	lost = tag->state == TAG_LOST;
	if (!lost) {
		tag->state = TAG_AWAITED;
		tag->fence = fence;
		if (u->single_issuer) {
			tag->next = u->to_clear;
			u->to_clear = tag;
		}
	}
	mmn_spin_unlock(&u->lock);
	return !lost;
}

static struct dma_fence *deregister_region(void *arg,
					   struct mmn_cache_region *region)
{
	struct timespec pause = mmn_timespec(RETRY_NS);
	struct mmn_uring *u = arg;
	struct tag *tag = region->data;
	struct dma_fence *fence;
	uint32_t slot;

	while (!(fence = new_fence()))
		nanosleep(&pause, NULL);
	if (!await_tag(u, tag, dma_fence_get(fence))) {
		dma_fence_put(fence);
		signal_and_put(fence);
		mmn_spin_lock(&u->lock);
		slot = tag->slot;
		free_tag(u, tag);
		mmn_spin_unlock(&u->lock);
		give_slot_back(u, slot);
		return NULL;
	}
	if (u->single_issuer)
		wake_issuer(u);
	else
		clear_tag(u, tag);
	return fence;
}

static const struct mmn_cache_ops uring_cache_ops = {
	.register_region = register_region,
	.deregister_region = deregister_region,
};

/* ------------------------------------------------------------------ */
/* Attaching                                                          */
/* ------------------------------------------------------------------ */

static int read_options(const struct mmn_uring_options *given,
			struct mmn_uring_options *options)
{
	const char *newer;
	size_t i;

	memset(options, 0, sizeof(*options));
	if (given) {
		newer = (const char *)given;
		if (given->size < sizeof(*options))
			return -EINVAL;
		for (i = sizeof(*options); i < given->size; i++)
			if (newer[i])
				return -E2BIG;
		*options = *given;
	}
	if (options->flags & ~MMN_URING_HAS_TABLE ||
	    (options->first_slot && !(options->flags & MMN_URING_HAS_TABLE)))
		return -EINVAL;
	if (!options->nr_slots)
		options->nr_slots = DEFAULT_SLOTS;
	if (options->nr_slots > MMN_URING_MAX_SLOTS ||
	    options->first_slot > MMN_URING_MAX_SLOTS - options->nr_slots)
		return -EINVAL;
	if (options->user_data & ((UINT64_C(1) << OWNER_SHIFT) - 1))
		return -EINVAL;
	if (!options->timeout_ns)
		options->timeout_ns = MMN_NSEC_PER_SEC;
	if (!options->user_data)
		options->user_data = MMN_URING_USER_DATA;
	return 0;
}

static void *map_memory(size_t bytes)
{
	long ret = mmn_syscall6(__NR_mmap, 0, bytes, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
				0);

	return mmn_syscall_failed(ret) ? NULL : (void *)ret;
}

static void unmap_memory(void *memory, size_t bytes)
{
	if (memory)
		mmn_syscall2(__NR_munmap, memory, bytes);
}

static void free_memory(struct mmn_uring *u)
{
	unmap_memory(u->tags, u->nr_tags * sizeof(*u->tags));
	unmap_memory(u->alive, (size_t)sysconf(_SC_PAGESIZE));
	free(u->free_slots);
	free(u);
}

static int allocate(struct mmn_uring *u)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint32_t i;

	u->nr_tags = u->options.nr_slots * TAGS_PER_SLOT + 1;
	u->tags = map_memory(u->nr_tags * sizeof(*u->tags));
	u->alive = map_memory(page);
	u->free_slots = calloc(u->options.nr_slots, sizeof(*u->free_slots));
	if (!u->tags || !u->alive || !u->free_slots)
		return -ENOMEM;
	if (mmn_syscall3(__NR_madvise, u->alive, page, MADV_WIPEONFORK))
		return -ENOTSUP;
	*u->alive = 1;
	for (i = u->nr_tags - 1; i > 0; i--) {
		u->tags[i].next = u->free_tags;
		u->free_tags = &u->tags[i];
	}
	/* The lowest first. */
	for (i = u->options.nr_slots; i > 0; i--)
		u->free_slots[u->nr_free_slots++] = i - 1;
	return 0;
}

/* Is there one, is it long enough, and may this thread change it? */
static int check_table(struct mmn_uring *u)
{
	int ret = clear_slot(u, u->options.nr_slots - 1);

	return ret == -ENXIO ? -EINVAL : ret;
}

static int make_table(struct mmn_uring *u)
{
	int ret;

	if (!(u->ring->features & IORING_FEAT_RSRC_TAGS) ||
	    u->ring->flags & SETUP_REGISTERED_FD_ONLY)
		return -ENOTSUP;
	if (u->options.flags & MMN_URING_HAS_TABLE)
		return check_table(u);
	ret = io_uring_register_buffers_sparse(u->ring, u->options.nr_slots);
	return ret == -EINVAL ? -ENOTSUP : ret;
}

static void drop_table(struct mmn_uring *u)
{
	if (!(u->options.flags & MMN_URING_HAS_TABLE))
		io_uring_unregister_buffers(u->ring);
}

static int make_bell(struct mmn_uring *u)
{
	int ret;

	if (!u->single_issuer)
		return 0;
	ret = io_uring_queue_init(1, &u->bell, 0);
	if (!ret)
		io_uring_ring_dontfork(&u->bell);
	return ret;
}

static void drop_bell(struct mmn_uring *u)
{
	if (u->single_issuer)
		io_uring_queue_exit(&u->bell);
}

static int make_cache(struct mmn_uring *u, struct mmn_state *state)
{
	const struct mmn_cache_config config = {
		.size = sizeof(config),
		.ops = &uring_cache_ops,
		.arg = u,
		.max_bytes = u->options.max_bytes,
		/* Slots limit what can be got; tags, what is on its way out. */
		.max_regions = u->nr_tags,
		.wait_ns = u->options.wait_ns,
		.merge_bytes = MMN_URING_MAX_BUFFER,
	};

	return mmn_cache_create(state, &config, &u->cache);
}

int mmn_uring_attach(struct mmn_state *state, struct io_uring *ring,
		     const struct mmn_uring_options *options,
		     struct mmn_uring **ret_uring)
{
	struct mmn_uring_options read;
	struct mmn_uring *u;
	int ret;

	if (!state || !ring || !ret_uring)
		return -EINVAL;
	ret = read_options(options, &read);
	if (ret)
		return ret;
	u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	u->ring = ring;
	u->options = read;
	u->single_issuer = ring->flags & IORING_SETUP_SINGLE_ISSUER;
	ret = allocate(u);
	if (ret)
		goto out_memory;
	ret = make_table(u);
	if (ret)
		goto out_memory;
	ret = make_bell(u);
	if (ret)
		goto out_table;
	ret = make_cache(u, state);
	if (ret)
		goto out_bell;
	/* After the cache has got its thread: an error stays for ever. */
	pthread_once(&fences_once, make_fences);
	ret = fences_error;
	if (ret)
		goto out_cache;
	*ret_uring = u;
	return 0;

out_cache:
	mmn_cache_destroy(u->cache);
out_bell:
	drop_bell(u);
out_table:
	drop_table(u);
out_memory:
	free_memory(u);
	return ret;
}

int mmn_uring_detach(struct mmn_uring *u)
{
	bool busy;
	int ret;

	if (!u)
		return 0;
	if (!is_alive(u))
		return -ESTALE;
	mmn_spin_lock(&u->lock);
	u->closing = true;
	mmn_spin_unlock(&u->lock);
	ret = mmn_cache_purge(u->cache, 0, UINTPTR_MAX);
	if (!ret)
		ret = work_off(u);
	if (ret)
		return ret;
	mmn_spin_lock(&u->lock);
	busy = u->nr_out;
	mmn_spin_unlock(&u->lock);
	if (busy)
		return -EBUSY;
	mmn_cache_destroy(u->cache);
	drop_bell(u);
	drop_table(u);
	free_memory(u);
	return 0;
}

/* ------------------------------------------------------------------ */
/* Getting                                                            */
/* ------------------------------------------------------------------ */

/* What is on its way out, and what has gone. */
static void count_leaving(struct mmn_uring *u, struct mmn_cache_stats *ret)
{
	*ret = (struct mmn_cache_stats){ .size = sizeof(*ret) };
	mmn_cache_get_stats(u->cache, ret);
}

/* Would another attempt do better?  @before: since the last one began */
static bool may_help(struct mmn_uring *u, int ret,
		     const struct mmn_cache_stats *before)
{
	struct timespec pause = mmn_timespec(LOOK_NS / 16);
	struct mmn_cache_stats now;

	if (ret != -EAGAIN && ret != -ENOMEM)
		return ret == -ETIMEDOUT;
	count_leaving(u, &now);
	if (now.deregistered != before->deregistered)
		return true;
	if (!now.quarantined)
		return false;
	nanosleep(&pause, NULL);
	return true;
}

/*
 * There was no room at once, or a change was under way.  What is on its way out
 * is waited for.
 */
static __attribute__((noinline)) int
get_slowly(struct mmn_uring *u, uintptr_t addr, size_t length, uint32_t access,
	   struct mmn_cache_region **ret_region)
{
	uint64_t now = mmn_now_ns();
	uint64_t timeout = u->options.timeout_ns;
	uint64_t deadline =
		timeout > UINT64_MAX - now ? UINT64_MAX : now + timeout;
	struct mmn_cache_stats before;
	uint64_t until;
	int ret;

	do {
		work_off(u);
		look_at_ring(u);
		count_leaving(u, &before);
		until = deadline - now < LOOK_NS ? deadline : now + LOOK_NS;
		ret = mmn_cache_get_until(u->cache, addr, length, access, until,
					  ret_region);
		now = mmn_now_ns();
	} while (now < deadline && may_help(u, ret, &before));
	return ret;
}

int mmn_uring_get(struct mmn_uring *u, const void *addr, size_t length,
		  uint32_t access, struct mmn_cache_region **ret_region)
{
	struct mmn_cache_region *region = NULL;
	int ret;

	ret = mmn_cache_get_until(u->cache, (uintptr_t)addr, length, access, 1,
				  &region);
	if (unlikely(ret == -ETIMEDOUT || ret == -EAGAIN || ret == -ENOMEM))
		ret = get_slowly(u, (uintptr_t)addr, length, access, &region);
	if (unlikely(ret))
		return ret == -EAGAIN ? -ENOSPC : ret;
	*ret_region = region;
	return (int)region->key;
}

void mmn_uring_put(struct mmn_uring *u, struct mmn_cache_region *region)
{
	mmn_cache_put(u->cache, region);
}

/* What a request is to do; the fields are io_uring's. */
struct entry {
	uint8_t op;
	int fd;
	const void *addr;
	uint32_t length;
	uint64_t offset;
	uint32_t access;
	uint32_t usage;
};

/* A slot whose region knows of @fence, which keeps it.  -ESTALE: start over. */
static int get_slot_for(struct mmn_uring *u, const struct entry *entry,
			struct dma_fence *fence, int *ret_slot)
{
	struct mmn_cache_region *region;
	int slot, ret;

	slot = mmn_uring_get(u, entry->addr, entry->length, entry->access,
			     &region);
	if (slot < 0)
		return slot;
	ret = mmn_cache_add_fence(u->cache, region, fence, entry->usage);
	mmn_cache_put(u->cache, region);
	*ret_slot = slot;
	return ret;
}

static int prepare(struct mmn_uring *u, struct io_uring_sqe *sqe,
		   const struct entry *entry, struct dma_fence **ret_fence)
{
	struct dma_fence *fence;
	uint32_t tries = 0;
	int slot = 0, ret;

	do {
		fence = new_fence();
		if (!fence)
			return -ENOMEM;
		ret = get_slot_for(u, entry, fence, &slot);
		if (ret)
			mmn_uring_complete(fence, ret);
	} while (ret == -ESTALE && is_alive(u) && ++tries < TRIES);
	if (ret)
		return ret == -ESTALE && is_alive(u) ? -ETIMEDOUT : ret;
	io_uring_prep_rw(entry->op, sqe, entry->fd, entry->addr, entry->length,
			 entry->offset);
	sqe->buf_index = (uint16_t)slot;
	*ret_fence = fence;
	return 0;
}

int mmn_uring_prep_read(struct mmn_uring *u, struct io_uring_sqe *sqe, int fd,
			void *addr, uint32_t length, uint64_t offset,
			struct dma_fence **ret_fence)
{
	const struct entry entry = {
		.op = IORING_OP_READ_FIXED,
		.fd = fd,
		.addr = addr,
		.length = length,
		.offset = offset,
		.access = MMN_CACHE_WRITE,
		.usage = DMA_RESV_USAGE_WRITE,
	};

	return prepare(u, sqe, &entry, ret_fence);
}

int mmn_uring_prep_write(struct mmn_uring *u, struct io_uring_sqe *sqe, int fd,
			 const void *addr, uint32_t length, uint64_t offset,
			 struct dma_fence **ret_fence)
{
	const struct entry entry = {
		.op = IORING_OP_WRITE_FIXED,
		.fd = fd,
		.addr = addr,
		.length = length,
		.offset = offset,
		.access = MMN_CACHE_READ,
		.usage = DMA_RESV_USAGE_READ,
	};

	return prepare(u, sqe, &entry, ret_fence);
}

/* ------------------------------------------------------------------ */
/* Completions                                                        */
/* ------------------------------------------------------------------ */

void mmn_uring_complete(struct dma_fence *fence, int32_t result)
{
	if (!fence)
		return;
	if (result < 0)
		dma_fence_set_error(fence, result);
	signal_and_put(fence);
}

bool mmn_uring_cqe(struct mmn_uring *u, uint64_t user_data)
{
	if (likely(!is_ours(u, user_data)))
		return false;
	if (is_alive(u)) {
		tag_arrived(u, user_data, true);
		work_off(u);
	}
	return true;
}

struct mmn_cache *mmn_uring_cache(struct mmn_uring *u)
{
	return u->cache;
}
