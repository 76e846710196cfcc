/* SPDX-License-Identifier: MIT */
/*
 * The registration cache: gets and puts without a lock against changes and the
 * worker, by its own code.  The worker's steps are taken by the thread that makes
 * the change, as the lock and the ring order them.
 *
 * What is registered is a piece of the heap that deregistering frees: who uses it
 * too late uses what is freed, and who frees it too early races.
 */
#include <sys/prctl.h>

#include "base/thread.h"

/* The worker is a thread of the scenario. */
#define mmn_thread_create(thread, attr, function, arg) \
	((void)(thread), (void)(function), (void)(arg), 0)
/* Who waits for its end is the worker. */
#define pthread_join(thread, ret) ((void)(thread), cache_worker(cache))
#define prctl(option, name) ((void)(name))
/* A ring is shorter here. */
#define LOOKS_AT_ONCE 2
/* NOLINTBEGIN(bugprone-suspicious-include) */
#include "cache/cache.c"
#include "cache/get.c"
#include "cache/worker.c"
/* NOLINTEND(bugprone-suspicious-include) */

#include "ladder/gallery/gallery.h"
#include "ladder/gallery/help.h"
#include "ladder/scenario.h"
#include "notifier/state.h"

#define PAGE UINT64_C(0x10000)
#define PAGE_BYTES 4096

static struct {
	struct mmn_state *state;
	struct mmn_cache *cache;
	struct region *region;
	struct block *block;
	/* that it takes the place of */
	struct region *smaller;
	/* of who registers it */
	struct request request;
	uint64_t seq;
	struct dma_fence *fence;
	/* atomic: what a registration is made of, which a change replaces */
	uint32_t memory;
	/* plain: the page, which the device reads and the change writes */
	uint32_t page;
	/* plain: the registration was in vain */
	bool collided;
	/* plain: registrations that are over */
	uint32_t nr_over;
	uint32_t nr_threads;
} scene;

static int register_region(void *arg, struct mmn_cache_region *region)
{
	uint32_t *registered = malloc(sizeof(*registered));

	/* relaxed: page tables are read by hardware, in any order */
	*registered = mmn_load_relaxed(&scene.memory);
	region->data = registered;
	return 0;
}

static struct dma_fence *deregister_region(void *arg,
					   struct mmn_cache_region *region)
{
	ladder_note("deregistered");
	free(region->data);
	scene.nr_over++;
	return NULL;
}

static const struct mmn_cache_ops ops = {
	.register_region = register_region,
	.deregister_region = deregister_region,
};

static void name_block(struct block *block)
{
	if (!block)
		return;
	ladder_name(&block->word, "block.word");
	ladder_name(&block->begins[0], "block.begins");
	ladder_name(&scene.cache->blocks.phase, "phase");
}

static void name_all(void)
{
	struct index *index = &scene.cache->index;
	struct region *region = scene.region;
	struct bucket *bucket;
	uint32_t home = hold_home(region);

	bucket = &index->buckets[index_hash(index, PAGE, 0)];
	ladder_name(&bucket->seq, "bucket.seq");
	ladder_name(&bucket->entries[0].where, "entry.where");
	ladder_name(&bucket->entries[0].what, "entry.what");
	ladder_name(&scene.cache->lock, "cache's lock");
	ladder_name(&scene.cache->nr_dying, "nr_dying");
	ladder_name(&scene.cache->kicked, "kicked");
	ladder_name(&scene.cache->dead, "dead");
	ladder_name(&scene.cache->asleep, "asleep");
	ladder_name(&region->state, "state");
	ladder_name(&region->shared, "shared count");
	ladder_name(&region->queued, "queued");
	ladder_name(&region->next_kicked, "next_kicked");
	ladder_name(&region->next_dead, "next_dead");
	ladder_name(&region->in_flight, "in_flight");
	if (region->public.data)
		ladder_name((uint32_t *)region->public.data, "registration");
	ladder_name(&hold_mine->section, "section");
	ladder_name(&hold_mine->places[home], "place");
	name_block(region->block);
}

/* Regions of one that waits are subscribed for themselves. */
static void set_up_cache(uint64_t wait_ns)
{
	struct mmn_cache_config config = {
		.size = sizeof(config),
		.ops = &ops,
		.max_regions = 2,
		.wait_ns = wait_ns,
	};

	scene.nr_over = 0;
	scene.nr_threads = 0;
	scene.memory = OLD;
	hold_mine = NULL;
	ladder_assert(!mmn_state_create(&scene.state));
	ladder_assert(!mmn_cache_create(scene.state, &config, &scene.cache));
}

/* With a reference. */
static void set_up_got(uint64_t wait_ns)
{
	struct mmn_cache_region *region;

	set_up_cache(wait_ns);
	ladder_assert(!mmn_cache_get(scene.cache, PAGE, PAGE_BYTES,
				     MMN_CACHE_READ, &region));
	scene.region = region_of(region);
	name_all();
}

static void set_up_held(void)
{
	set_up_got(0);
}

static void set_up_idle(void)
{
	set_up_held();
	mmn_cache_put(scene.cache, &scene.region->public);
}

/* The first thread goes on with what was held. */
static void each(void)
{
	mmn_context_self();
	if (scene.nr_threads++)
		hold_mine = NULL;
}

/* Somebody else has got it. */
static void each_another(void)
{
	mmn_context_self();
	hold_mine = NULL;
	ladder_assert(scene.nr_threads++ || hold_join());
}

static void use(const struct mmn_cache_region *region)
{
	const uint32_t *registered = region->data;

	ladder_assert(*registered == OLD);
}

static void put(struct region *region)
{
	ladder_note("put");
	mmn_cache_put(scene.cache, &region->public);
}

static void use_and_put(void)
{
	use(&scene.region->public);
	put(scene.region);
}

/* As mmn_cache_get(), which registers when there is nothing. */
static struct region *look_for_page(void)
{
	uintptr_t last = PAGE + PAGE_BYTES - 1;

	ladder_note("get");
	if (hold_own_barriers)
		return find(scene.cache, PAGE, last, MMN_CACHE_READ);
	return find_fast(scene.cache, PAGE, last, MMN_CACHE_READ);
}

static void get_and_put(void)
{
	struct region *region = look_for_page();

	if (!region)
		return;
	use(&region->public);
	put(region);
}

static void start_change(struct mmn_invalidate_desc *desc)
{
	ladder_note("a change of the page");
	mmn_invalidate_desc_init(desc, scene.state, MMN_EVENT_UNMAP, PAGE,
				 PAGE + PAGE_BYTES - 1);
	ladder_assert(!mmn_invalidate_start(desc));
}

static void change(void)
{
	struct mmn_invalidate_desc desc;

	start_change(&desc);
	ladder_assert(!mmn_invalidate_end(&desc));
}

static void work(void)
{
	ladder_note("the worker");
	look_at_retired(scene.cache);
	look_again(scene.cache);
}

static void change_and_work(void)
{
	change();
	work();
}

/* Who put last has kicked, unless it was seen before. */
static void check_over(void)
{
	look_again(scene.cache);
	ladder_assert(scene.nr_over == 1);
}

const struct ladder_scenario cache_get = {
	.name = "cache-get",
	.what = "a region of the cache is got and put while its page changes",
	.explanation = "Either the worker sees that it was got, or the get "
		       "does not find it.",
	.membarrier = true,
	.setup = set_up_idle,
	.each = each,
	.threads = { get_and_put, change_and_work },
	.titles = { "get, put", "change, worker" },
	.check = check_over,
};

const struct ladder_scenario cache_get_alone = {
	.name = "cache-get-alone",
	.what = "the same where the kernel has no barriers for others",
	.explanation = "The get makes its barrier itself: one word that both "
		       "exchange.",
	.setup = set_up_idle,
	.each = each,
	.threads = { get_and_put, change_and_work },
	.titles = { "get, put", "change, worker" },
	.check = check_over,
};

/* As if the kernel had them; it does not. */
static void set_up_without(void)
{
	set_up_idle();
	hold_own_barriers = 0;
}

const struct ladder_scenario cache_get_none = {
	.name = "cache-get-none",
	.what = "the same with neither of these barriers",
	.explanation = "The get says that it is inside and looks; the worker "
		       "takes the region out and looks\nwho is inside. Each "
		       "store may be overtaken by the look behind it.",
	.fails = true,
	.setup = set_up_without,
	.each = each,
	.threads = { get_and_put, change_and_work },
	.titles = { "get, put", "change, worker" },
	.check = check_over,
};

const struct ladder_scenario cache_put = {
	.name = "cache-put",
	.what = "a region of the cache is put while its page changes",
	.explanation = "It is deregistered behind the put: by the worker's "
		       "first look, or because the put\nkicks.",
	.membarrier = true,
	.setup = set_up_held,
	.each = each,
	.threads = { use_and_put, change_and_work },
	.titles = { "put", "change, worker" },
	.check = check_over,
};

const struct ladder_scenario cache_put_other = {
	.name = "cache-put-other",
	.what = "a region is put by another thread than got it",
	.explanation = "The reference is not in the table of the one who puts "
		       "it: the region itself counts\nit, and the worker adds.",
	.membarrier = true,
	.setup = set_up_held,
	.each = each_another,
	.threads = { use_and_put, change_and_work },
	.titles = { "put", "change, worker" },
	.check = check_over,
};

static void evict_and_work(void)
{
	struct mmn_sigmask saved;
	uint64_t looks = 0;

	ladder_note("evicts");
	cache_lock(scene.cache, &saved);
	evict(scene.cache, 1, 0, &looks);
	cache_unlock(scene.cache, &saved);
	work();
}

/* It was evicted, or found to be held. */
static void check_evicted(void)
{
	look_again(scene.cache);
	/* relaxed: nobody else is there any more */
	ladder_assert(scene.nr_over ==
		      (mmn_load_relaxed(&scene.region->state) != REGION_LIVE));
}

const struct ladder_scenario cache_evict = {
	.name = "cache-evict",
	.what = "a region is got and put while it is evicted",
	.explanation =
		"The sum of references is a hint there; the one that the "
		"worker takes is not.",
	.membarrier = true,
	.setup = set_up_idle,
	.each = each,
	.threads = { get_and_put, evict_and_work },
	.titles = { "get, put", "evicts, worker" },
	.check = check_evicted,
};

static void destroy(void)
{
	ladder_note("destroys the cache");
	mmn_cache_destroy(scene.cache);
	ladder_assert(scene.nr_over == 1);
}

const struct ladder_scenario cache_destroy = {
	.name = "cache-destroy",
	.what = "a cache is destroyed while its last reference is put",
	.explanation = "Its memory is given back behind the put.",
	.membarrier = true,
	.setup = set_up_held,
	.each = each_another,
	.threads = { use_and_put, destroy },
	.titles = { "put", "destroy, worker" },
};

/* ------------------------------------------------------------------ */
/* Changes                                                            */
/* ------------------------------------------------------------------ */

/* As mmn_cache_get() when nothing will do: PENDING and subscribed. */
static void begin_to_get_at(uintptr_t page, uint32_t nr_pages)
{
	struct request *request = &scene.request;
	bool live;

	memset(request, 0, sizeof(*request));
	request->cache = scene.cache;
	request->start = page;
	request->last = page + nr_pages * PAGE_BYTES - 1;
	request->access = MMN_CACHE_READ;
	request->deadline_ns = UINT64_MAX;
	ladder_assert(!begin(request, &scene.region, &live) && !live);
	name_all();
	ladder_name(&scene.memory, "memory");
}

static void begin_to_get(uint32_t nr_pages)
{
	begin_to_get_at(PAGE, nr_pages);
}

static void set_up_pending_alone(void)
{
	set_up_cache(MMN_CACHE_NO_LIMIT);
	ladder_assert(hold_join() != NULL);
	begin_to_get(1);
}

static void register_it(void)
{
	int err;

	ladder_note("registers");
	err = attempt(&scene.request, scene.region);
	ladder_assert(!err || err == AGAIN || err == -ETIMEDOUT);
}

static uint32_t found(void)
{
	return index_search(&scene.cache->index, PAGE, PAGE + PAGE_BYTES - 1,
			    MMN_CACHE_READ);
}

static bool is_found(void)
{
	return found() != INDEX_NONE;
}

static void change_memory(void)
{
	struct mmn_invalidate_desc desc;

	start_change(&desc);
	ladder_assert(!is_found());
	/* relaxed: page tables are read by hardware, in any order */
	mmn_store_relaxed(&scene.memory, NEW);
	ladder_note("its end");
	ladder_assert(!mmn_invalidate_end(&desc));
}

/* What is found describes the memory as it is. */
static void check_found(void)
{
	const uint32_t *registered = scene.region->public.data;

	ladder_assert(!is_found() || *registered == NEW);
}

const struct ladder_scenario cache_register = {
	.name = "cache-register",
	.what = "a region is registered while its page changes",
	.explanation = "Either the registration begins behind the change, or "
		       "what was registered is never\nfound.",
	.setup = set_up_pending_alone,
	.each = each,
	.threads = { register_it, change_memory },
	.titles = { "get", "change" },
	.check = check_found,
};

#define OTHER_PAGE (PAGE + 4 * PAGE_BYTES)

/* Its block is there, because of another region in it. */
static void set_up_block(void)
{
	struct mmn_cache_region *region;

	set_up_cache(0);
	ladder_assert(!mmn_cache_get(scene.cache, OTHER_PAGE, PAGE_BYTES,
				     MMN_CACHE_READ, &region));
	mmn_cache_put(scene.cache, region);
	name_block(region_of(region)->block);
}

/* Or it goes on as one that is subscribed for itself. */
static void register_in_block(void)
{
	begin_to_get(1);
	ladder_note("registers");
	if (!may_read_in_block(scene.region, &scene.seq))
		return;
	ladder_assert(!register_region(NULL, &scene.region->public));
	end(scene.region, scene.seq);
}

const struct ladder_scenario cache_block = {
	.name = "cache-block",
	.what = "a region enters a block while its page changes",
	.explanation = "Either the change finds it there, or it finds the "
		       "change open.",
	.setup = set_up_block,
	.each = each,
	.threads = { register_in_block, change_memory },
	.titles = { "get", "change" },
	.check = check_found,
};

/* A change is open beside the region, all the time. */
static void set_up_beside(void)
{
	static struct mmn_invalidate_desc beside;

	set_up_block();
	mmn_invalidate_desc_init(&beside, scene.state, MMN_EVENT_UNMAP,
				 OTHER_PAGE, OTHER_PAGE + PAGE_BYTES - 1);
	ladder_assert(!mmn_invalidate_start(&beside));
	begin_to_get(1);
	ladder_assert(scene.region->block != NULL);
	ladder_assert(!region_subscribe(scene.region));
}

const struct ladder_scenario cache_block_beside = {
	.name = "cache-block-beside",
	.what = "a region is subscribed for itself besides while its page "
		"changes",
	.explanation = "A change that begins calls back twice; a mark of the "
		       "first call may be taken off,\nthat of the second finds "
		       "the registration.",
	.setup = set_up_beside,
	.each = each,
	.threads = { register_it, change_memory },
	.titles = { "get", "change" },
	.check = check_found,
};

/* What the notifier calls, alone. */
static void call_back_on(struct mmn_range_subscription *sub)
{
	const struct mmn_range_ops *sub_ops = range_of(sub)->ops;
	struct mmn_range_finish *finish = NULL;
	struct mmn_invalidate_desc desc;

	ladder_note("the callback of a change");
	mmn_invalidate_desc_init(&desc, scene.state, MMN_EVENT_UNMAP, PAGE,
				 PAGE + PAGE_BYTES - 1);
	if (sub_ops->invalidate)
		ladder_assert(sub_ops->invalidate(sub, &desc, 5));
	else
		ladder_assert(
			sub_ops->invalidate_start(sub, &desc, 5, &finish));
}

static void call_back_of(struct region *region)
{
	call_back_on(region_sub(region));
}

static void call_back(void)
{
	call_back_of(scene.region);
	ladder_assert(!is_found());
}

static void check_buried(void)
{
	struct mmn_sigmask saved;

	cache_lock(scene.cache, &saved);
	ladder_assert(scene.cache->stats.quarantined == 1);
	cache_unlock(scene.cache, &saved);
}

const struct ladder_scenario cache_change = {
	.name = "cache-change",
	.what = "two changes of the page of a region",
	.explanation = "Each has taken it out before it goes on, whoever was "
		       "first; one leaves it to the\nworker.",
	.setup = set_up_idle,
	.each = each,
	.threads = { call_back, call_back },
	.check = check_buried,
	.titles = { "change", "change" },
};

static void set_up_in_block(void)
{
	set_up_idle();
	scene.block = scene.region->block;
	ladder_assert(scene.block != NULL);
}

static void call_back_in_block(void)
{
	call_back_on(&scene.block->sub);
	ladder_assert(!look_for_page());
}

static void evict_and_get_elsewhere(void)
{
	evict_and_work();
	ladder_note("gets another page");
	begin_to_get_at(OTHER_PAGE, 1);
}

/* Whoever had which number. */
static void check_gone(void)
{
	ladder_assert(!is_found());
}

const struct ladder_scenario cache_block_leave = {
	.name = "cache-block-leave",
	.what = "a region leaves its block while its page changes",
	.explanation =
		"Its number is another region's when no callback has it any "
		"more.",
	.setup = set_up_in_block,
	.each = each,
	.threads = { call_back_in_block, evict_and_get_elsewhere },
	.titles = { "change", "evicts, worker, get" },
	.check = check_gone,
};

/* What began in the page before has a number that is used elsewhere now. */
static void set_up_used_again(void)
{
	struct mmn_cache_region *region;

	set_up_in_block();
	evict_and_work();
	ladder_assert(!mmn_cache_get(scene.cache, OTHER_PAGE, PAGE_BYTES,
				     MMN_CACHE_READ, &region));
	ladder_assert(region_of(region) == scene.region);
	scene.smaller = scene.region;
}

static void check_elsewhere(void)
{
	/* relaxed: nobody else is there any more */
	ladder_assert(mmn_load_relaxed(&scene.smaller->state) == REGION_LIVE);
}

const struct ladder_scenario cache_block_again = {
	.name = "cache-block-again",
	.what = "a region enters a block where another one was before",
	.explanation = "A change that finds it knows its number, not that of "
		       "the other one.",
	.setup = set_up_used_again,
	.each = each,
	.threads = { register_in_block, change_memory },
	.titles = { "get", "change" },
	.check = check_elsewhere,
};

/* Around one that is there; no change was open when it began. */
static void set_up_larger(void)
{
	set_up_idle();
	scene.smaller = scene.region;
	begin_to_get(2);
	ladder_assert(scene.region->crowded);
	ladder_assert(!begin_reading(&scene.request, scene.region, &scene.seq));
}

static void register_larger(void)
{
	ladder_note("registers");
	ladder_assert(!register_region(NULL, &scene.region->public));
	scene.collided = end(scene.region, scene.seq);
}

static void change_both(void)
{
	call_back_of(scene.smaller);
	call_back_of(scene.region);
	/* relaxed: page tables are read by hardware, in any order */
	mmn_store_relaxed(&scene.memory, NEW);
}

/* And it is the new one. */
static void check_replaced(void)
{
	check_found();
	ladder_assert(!is_found() || found() == region_index(scene.region));
}

/* Of its second page, which the smaller one does not have. */
static void change_the_other_page(void)
{
	call_back_of(scene.region);
	/* relaxed: page tables are read by hardware, in any order */
	mmn_store_relaxed(&scene.memory, NEW);
}

/* The smaller one stays when nothing took its place. */
static void check_gave_way(void)
{
	uint32_t number = found();

	if (scene.collided)
		ladder_assert(number == region_index(scene.smaller));
	else
		ladder_assert(number != region_index(scene.smaller));
	if (number == region_index(scene.region))
		check_found();
}

const struct ladder_scenario cache_give_way = {
	.name = "cache-give-way",
	.what = "a region takes the place of a smaller one while it changes",
	.explanation =
		"The smaller one is gone with the registration, or stays "
		"with the collision.",
	.setup = set_up_larger,
	.each = each,
	.threads = { register_larger, change_the_other_page },
	.titles = { "get", "change" },
	.check = check_gave_way,
};

const struct ladder_scenario cache_replace = {
	.name = "cache-replace",
	.what = "a region takes the place of a smaller one while both change",
	.explanation = "Neither is found any more with what was there before, "
		       "whoever took the smaller one\nout.",
	.setup = set_up_larger,
	.each = each,
	.threads = { register_larger, change_both },
	.titles = { "get", "change" },
	.check = check_replaced,
};

/* ------------------------------------------------------------------ */
/* Kicks and rings                                                    */
/* ------------------------------------------------------------------ */

/* DYING, held, and the worker has looked. */
static void set_up_settled(void)
{
	set_up_held();
	change();
	look_at_retired(scene.cache);
	ladder_assert(scene.region->settled && !scene.nr_over);
}

static void set_up_kicked(void)
{
	set_up_settled();
	region_kick_soon(scene.region);
}

static void look_twice(void)
{
	ladder_note("the worker");
	look_again(scene.cache);
	look_again(scene.cache);
}

const struct ladder_scenario cache_kick = {
	.name = "cache-kick",
	.what = "a region is put that the worker has been kicked for already",
	.explanation = "The second kick is left out; then the worker sees what "
		       "was done before it.",
	.setup = set_up_kicked,
	.each = each,
	.threads = { use_and_put, look_twice },
	.titles = { "put", "worker" },
	.check = check_over,
};

/* As cache_worker(), which ends with the cache. */
static void work_until_over(void)
{
	ladder_note("the worker");
	while (!scene.nr_over) {
		nap(scene.cache);
		sleep_until_rung(scene.cache, false);
		look_at_retired(scene.cache);
		look_again(scene.cache);
	}
}

const struct ladder_scenario cache_bell = {
	.name = "cache-ring",
	.what = "a region is put while the worker goes to sleep",
	.explanation = "The worker sees the kick, or is woken.",
	.setup = set_up_settled,
	.each = each,
	.threads = { use_and_put, work_until_over },
	.titles = { "put", "worker" },
};

/* It is DYING after the change, by whomever. */
static void change_and_work_off(void)
{
	change();
	ladder_note("the worker");
	work_off(scene.cache);
}

static void purge(void)
{
	ladder_note("purge");
	ladder_assert(
		!mmn_cache_purge(scene.cache, PAGE, PAGE + PAGE_BYTES - 1));
	ladder_assert(scene.nr_over);
}

const struct ladder_scenario cache_purge = {
	.name = "cache-purge",
	.what = "an idle region is purged while a change takes it out",
	.explanation =
		"Whoever was first: it is deregistered when the purge is "
		"over.",
	.setup = set_up_idle,
	.each = each,
	.threads = { change_and_work_off, purge },
	.titles = { "change, worker", "purge" },
};

static void sleep_until_buried(void)
{
	struct mmn_cache *cache = scene.cache;
	bool buried;

	ladder_note("the worker");
	do {
		sleep_until_rung(cache, false);
		cache_lock_quietly(cache);
		buried = cache->stats.quarantined;
		mmn_mutex_unlock(&cache->lock);
	} while (!buried);
}

const struct ladder_scenario cache_dead = {
	.name = "cache-dead",
	.what = "a change leaves a region to the worker, which goes to sleep",
	.explanation = "The worker sees it, or is woken; and sees it whole.",
	.setup = set_up_idle,
	.each = each,
	.threads = { change, sleep_until_buried },
	.titles = { "change", "worker" },
};

/* ------------------------------------------------------------------ */
/* Fences                                                             */
/* ------------------------------------------------------------------ */

static void set_up_transfer(uint64_t wait_ns)
{
	set_up_got(wait_ns);
	scene.page = 0;
	scene.fence = make_fence(&gallery_ops, 1, 1);
	ladder_name(&scene.page, "page");
}

static void set_up_fence(void)
{
	set_up_transfer(MMN_CACHE_NO_LIMIT);
}

static void finish_transfer(void)
{
	ladder_note("the device reads the page");
	ladder_assert(scene.page == 0);
	dma_fence_signal(scene.fence);
}

/* Refused or not, who has made a fence signals it. */
static void transfer(void)
{
	int err;

	ladder_note("a transfer");
	err = mmn_cache_add_fence(scene.cache, &scene.region->public,
				  scene.fence, DMA_RESV_USAGE_READ);
	if (!err)
		finish_transfer();
	else
		dma_fence_signal(scene.fence);
}

static void change_page(void)
{
	struct mmn_invalidate_desc desc;

	start_change(&desc);
	scene.page = 1;
}

const struct ladder_scenario cache_fence = {
	.name = "cache-fence",
	.what = "a transfer is announced by a fence while the page changes",
	.explanation = "Either the change waits for the fence, or the transfer "
		       "is refused.",
	.setup = set_up_fence,
	.each = each,
	.threads = { transfer, change_page },
	.titles = { "transfer", "change" },
};

/* DYING, not held, in flight; the worker has looked. */
static void set_up_flying(void)
{
	set_up_transfer(0);
	ladder_assert(!mmn_cache_add_fence(scene.cache, &scene.region->public,
					   scene.fence, DMA_RESV_USAGE_READ));
	mmn_cache_put(scene.cache, &scene.region->public);
	change();
	look_at_retired(scene.cache);
	ladder_assert(scene.region->settled && !scene.nr_over);
}

const struct ladder_scenario cache_land = {
	.name = "cache-land",
	.what = "the last fence of a region signals while the worker goes to "
		"sleep",
	.explanation = "The worker sees the kick, or is woken.",
	.setup = set_up_flying,
	.each = each,
	.threads = { finish_transfer, work_until_over },
	.titles = { "device", "worker" },
};

/* ------------------------------------------------------------------ */
/* The index                                                          */
/* ------------------------------------------------------------------ */

/*
 * One bucket for all: a region of one page goes, one of two pages elsewhere comes.
 * The page behind the first one is in none.
 */
#define NR_BUCKETS 2

static struct {
	struct index index;
	struct bucket buckets[NR_BUCKETS];
	uintptr_t old, new;
	/* plain: what the register op of the new one wrote */
	uint32_t registered;
} entry;

static bool same_bucket(uintptr_t a, uintptr_t b)
{
	return index_hash(&entry.index, a, 0) == index_hash(&entry.index, b, 0);
}

static void set_up_entry(void)
{
	struct index_places places;
	struct bucket *bucket;

	memset(&entry, 0, sizeof(entry));
	index_init(&entry.index, entry.buckets, NR_BUCKETS, 12);
	for (entry.old = PAGE;; entry.old += PAGE_BYTES)
		if (same_bucket(entry.old, entry.old + PAGE_BYTES))
			break;
	for (entry.new = 2 * entry.old;; entry.new += PAGE_BYTES)
		if (same_bucket(entry.new, entry.old) &&
		    !same_bucket(entry.new + PAGE_BYTES, entry.old))
			break;
	index_insert(&entry.index, entry.old, entry.old + PAGE_BYTES - 1, 0,
		     &places);
	index_show(&places, entry.old, MMN_CACHE_READ);
	bucket = &entry.buckets[index_hash(&entry.index, entry.old, 0)];
	ladder_name(&bucket->seq, "seq");
	ladder_name(&bucket->entries[0].where, "where");
	ladder_name(&bucket->entries[0].what, "what");
	ladder_name(&entry.registered, "registered");
}

static uint32_t look_up(uintptr_t start)
{
	return index_find_fast(&entry.index, start, start + PAGE_BYTES - 1,
			       MMN_CACHE_READ);
}

static void look(void)
{
	uint32_t found;

	if (ladder_choose(2)) {
		ladder_note("gets the page behind the old region");
		ladder_assert(look_up(entry.old + PAGE_BYTES) >= INDEX_BUSY);
		return;
	}
	ladder_note("gets the new region");
	found = look_up(entry.new);
	ladder_assert(found);
	if (found == 1)
		ladder_assert(entry.registered);
}

static void replace_entry(void)
{
	struct index_places places;

	ladder_note("one goes, one comes");
	index_remove(&entry.index, entry.old, entry.old + PAGE_BYTES - 1, 0);
	entry.registered = 1;
	index_insert(&entry.index, entry.new, entry.new + 2 * PAGE_BYTES - 1, 1,
		     &places);
	index_show(&places, entry.new, MMN_CACHE_READ);
}

const struct ladder_scenario cache_entry = {
	.name = "cache-entry",
	.what = "an entry of the cache's index is replaced while it is read",
	.explanation = "Start and length that were read are of one region, "
		       "which is registered.",
	.setup = set_up_entry,
	.threads = { look, replace_entry },
	.titles = { "get", "replace" },
};
