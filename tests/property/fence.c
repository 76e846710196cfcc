/* SPDX-License-Identifier: MIT */
/*
 * Fences and reservation objects against a model: which work is over, who has been
 * told, and who is in the way of whom.
 *
 * Bytes make fences of two timelines and of none, with producers that are asked,
 * that are told when somebody wants to know, or neither; signal them, count
 * references, add callbacks and take them away, and put fences into reservation
 * objects.  Callbacks do such things as well.  After each step:
 *
 *   - a fence has signalled if it was signalled, and for good; or if its producer
 *     says so and somebody has asked;
 *   - a callback has run once if its fence has signalled, and else not;
 *   - each question to a reservation object has the answer that a plain list of
 *     all that was ever added gives.
 *
 * At the end everything is given back, and each fence must have been released.
 * Fences of a timeline signal in their order: what has to be so is not tried
 * otherwise.
 */
#include <mmn/debug.h>
#include <mmn/dma-fence.h>
#include <mmn/dma-resv.h>
#include <mmn/spinlock.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "property/property.h"

/* A fault which the property must notice; see tests/neg. */
#ifdef BUSTED_fence
#define BUSTED_USAGE 1
#else
#define BUSTED_USAGE 0
#endif

#define NR_FENCES 12
#define NR_CALLBACKS 12
#define NR_OBJECTS 2
#define NR_ENTRIES 40
/* Of these the first two are timelines, the rest one for each fence. */
#define NR_TIMELINES 2
#define MAX_DEPTH 3

struct fence {
	struct dma_fence base;
	/* In the model below; this memory may be gone before it. */
	unsigned int number;
};

enum ops { PLAIN, ASKED, TOLD, ASKED_AND_TOLD };

/* What is known of a fence; @refs are our own, objects have theirs. */
static struct work {
	struct fence *fence;
	enum ops ops;
	unsigned int timeline;
	uint64_t seqno;
	unsigned int refs;
	bool is_over;
	/* its producer would say that it is over */
	bool would_say;
	/* its producer will say so as soon as it is told */
	bool says_when_told;
	unsigned int nr_told;
	bool is_released;
	int error;
} works[NR_FENCES];

static struct callback {
	struct dma_fence_cb cb;
	/* NULL: on none */
	struct work *work;
	unsigned int calls;
} callbacks[NR_CALLBACKS];

static struct object {
	struct dma_resv resv;
	unsigned int nr;
	struct {
		struct work *work;
		enum dma_resv_usage usage;
	} entry[NR_ENTRIES];
} objects[NR_OBJECTS];

static struct bytes input;
static unsigned int nr_works, depth, reports, reports_expected;
static uint64_t contexts[NR_TIMELINES];
static struct spinlock timeline_lock[NR_TIMELINES];

static void hear_report(const struct mmn_debug_report *report)
{
	hold(++reports <= reports_expected, "%s", report->text);
}

static void expect_report(void)
{
	reports_expected += mmn_debug_is_enabled();
}

static struct work *work_of(struct dma_fence *fence)
{
	return &works[((struct fence *)fence)->number];
}

/* Over, or found to be as soon as somebody asks. */
static bool is_due(const struct work *work)
{
	return work->is_over || work->would_say;
}

static const char *name(struct dma_fence *fence)
{
	(void)fence;
	return "property";
}

static bool is_said(struct dma_fence *fence)
{
	return work_of(fence)->would_say;
}

static bool be_told(struct dma_fence *fence)
{
	struct work *work = work_of(fence);

	hold(!work->nr_told++, "fence %zd", work - works);
	return !work->says_when_told;
}

static void release(struct dma_fence *fence)
{
	struct work *work = work_of(fence);

	hold(!work->refs && !work->is_released, "%zd", work - works);
	work->is_released = true;
	dma_fence_free(fence);
}

static const struct dma_fence_ops ops[] = {
	[PLAIN] = { .get_driver_name = name,
		    .get_timeline_name = name,
		    .release = release },
	[ASKED] = { .get_driver_name = name,
		    .get_timeline_name = name,
		    .signaled = is_said,
		    .release = release },
	[TOLD] = { .get_driver_name = name,
		   .get_timeline_name = name,
		   .enable_signaling = be_told,
		   .release = release },
	[ASKED_AND_TOLD] = { .get_driver_name = name,
			     .get_timeline_name = name,
			     .enable_signaling = be_told,
			     .signaled = is_said,
			     .release = release },
};

/* ------------------------------------------------------------------ */
/* All that can be asked                                              */
/* ------------------------------------------------------------------ */

/* Does a later fence of the timeline stand for it in all questions? */
static bool is_superseded(const struct object *object, unsigned int i)
{
	const struct work *work = object->entry[i].work, *other;
	unsigned int j;

	for (j = 0; j < object->nr; j++) {
		other = object->entry[j].work;
		if (j != i && other->timeline == work->timeline &&
		    object->entry[j].usage <= object->entry[i].usage &&
		    (other->seqno > work->seqno || (other == work && j > i)))
			return true;
	}
	return false;
}

static bool is_free(const struct object *object, enum dma_resv_usage usage)
{
	unsigned int i;

	for (i = 0; i < object->nr; i++)
		if (object->entry[i].usage <= usage - BUSTED_USAGE &&
		    !is_due(object->entry[i].work))
			return false;
	return true;
}

/* What can be seen without being asked. */
static void follow(struct work *work)
{
	bool is_over;

	if (work->is_released || !work->refs)
		return;
	is_over = dma_fence_test_signaled_flag(&work->fence->base);
	hold(is_over || !work->is_over, "fence %zd", work - works);
	hold(!is_over || is_due(work) ||
		     (work->nr_told && work->says_when_told),
	     "fence %zd is over", work - works);
	work->is_over = is_over;
}

static void follow_all(void)
{
	unsigned int i;

	for (i = 0; i < nr_works; i++)
		follow(&works[i]);
}

static void check_all(void)
{
	struct callback *callback;

	hold(reports == reports_expected, "%u of %u reports", reports,
	     reports_expected);
	follow_all();
	if (depth)
		return;
	for (callback = callbacks; callback < callbacks + NR_CALLBACKS;
	     callback++)
		hold(!callback->work || !callback->work->is_over,
		     "callback %zd was not called", callback - callbacks);
}

/*
 * Asking may run callbacks, which do what they like: what was true before is true
 * in the end, but not the other way around.
 */
static void check_answer(const struct object *object, enum dma_resv_usage usage,
			 bool before, bool answer)
{
	follow_all();
	hold(answer ? is_free(object, usage) : !before, "it said %d", answer);
}

static void check_object(struct object *object, enum dma_resv_usage usage)
{
	bool none = true, surely = false, before;
	unsigned int i;
	bool flag;

	follow_all();
	for (i = 0; i < object->nr; i++) {
		if (object->entry[i].usage > usage ||
		    object->entry[i].work->is_over)
			continue;
		none = false;
		surely |= !is_superseded(object, i);
	}
	flag = dma_resv_test_signaled_flag(&object->resv, usage);
	hold(!none || flag, "it is free");
	hold(!surely || !flag, "it is not");
	before = is_free(object, usage);
	check_answer(object, usage, before,
		     dma_resv_test_signaled_strict(&object->resv, usage));
	before = is_free(object, usage);
	check_answer(object, usage, before,
		     dma_resv_test_signaled(&object->resv, usage));
	before = is_free(object, usage);
	check_answer(object, usage, before,
		     dma_resv_wait_timeout(&object->resv, usage, false, 0) > 0);
}

/* ------------------------------------------------------------------ */
/* Steps                                                              */
/* ------------------------------------------------------------------ */

static void step(void);

static struct work *next_work(void)
{
	uint8_t byte = next_byte(&input);
	struct work *work;

	if (!nr_works)
		return NULL;
	work = &works[byte % nr_works];
	return work->refs ? work : NULL;
}

static void step_new(void)
{
	uint8_t how = next_byte(&input);
	struct work *work = &works[nr_works];
	struct fence *fence;

	/* Nobody uses the heap on the way to a signal. */
	if (nr_works == NR_FENCES || depth)
		return;
	fence = malloc(sizeof(*fence));
	hold(fence, "no memory");
	memset(work, 0, sizeof(*work));
	fence->number = nr_works++;
	work->fence = fence;
	work->ops = how & 3;
	work->says_when_told = (how & 0x0c) == 0x0c && work->ops >= TOLD;
	work->timeline = how >> 4 & 3;
	work->seqno = nr_works;
	work->refs = 1;
	/* Whoever is over out of order belongs to a timeline of his own. */
	if (work->timeline >= NR_TIMELINES || work->says_when_told)
		work->timeline = NR_TIMELINES + fence->number;
	say("fence %u, ops %u, timeline %u", fence->number, work->ops,
	    work->timeline);
	memset(&fence->base, 0, sizeof(fence->base));
	dma_fence_init(&fence->base, &ops[work->ops],
		       work->timeline < NR_TIMELINES && how & 0x80
			       ? &timeline_lock[work->timeline]
			       : NULL,
		       work->timeline < NR_TIMELINES
			       ? contexts[work->timeline]
			       : dma_fence_context_alloc(1),
		       work->seqno);
}

/* Those before it on its timeline. */
static bool is_first(const struct work *work)
{
	const struct work *other;

	for (other = works; other < work; other++)
		if (other->timeline == work->timeline && !is_due(other))
			return false;
	return true;
}

static void step_signal(void)
{
	struct work *work = next_work();
	uint8_t how = next_byte(&input);
	bool was_over;
	int ret;

	if (!work || !is_first(work))
		return;
	was_over = work->is_over;
	say("signal fence %zd, which was over: %d", work - works, was_over);
	work->is_over = true;
	switch (how & 3) {
	case 0:
		ret = dma_fence_check_and_signal(&work->fence->base) ? -EINVAL
								     : 0;
		break;
	case 1:
		ret = dma_fence_signal_timestamp(&work->fence->base, how);
		hold(ret || dma_fence_timestamp(&work->fence->base) == how,
		     "%d", how);
		break;
	default:
		ret = dma_fence_signal(&work->fence->base);
		break;
	}
	hold(ret == (was_over ? -EINVAL : 0), "%d", ret);
}

static void step_say(void)
{
	struct work *work = next_work();

	if (work && work->ops & ASKED && is_first(work)) {
		say("fence %zd would be over", work - works);
		work->would_say = true;
	}
}

static void step_ask(void)
{
	struct work *work = next_work();
	struct dma_fence *fence;
	bool due, over;
	long waited;

	if (!work)
		return;
	fence = &work->fence->base;
	due = is_due(work);
	say("is fence %zd over: %d", work - works, due);
	switch (next_byte(&input) & 3) {
	case 0:
		hold(dma_fence_is_signaled(fence) == due, "not %d", due);
		break;
	case 1:
		hold(dma_fence_get_status(fence) == (!due	   ? 0
						     : work->error ? work->error
								   : 1),
		     "due %d, error %d", due, work->error);
		break;
	case 2:
		dma_fence_enable_sw_signaling(fence);
		break;
	default:
		if (depth)
			return;
		/* It tells the producer, but need not ask him. */
		due |= work->says_when_told;
		over = work->is_over;
		waited = dma_fence_wait_timeout(fence, false, 0);
		hold(waited ? due : !over, "%ld", waited);
		break;
	}
}

static void step_error(void)
{
	struct work *work = next_work();
	int error = -(int)next_byte(&input);

	if (!work)
		return;
	follow(work);
	say("fence %zd has error %d", work - works, error);
	if (work->is_over || !error)
		expect_report();
	else
		work->error = error;
	if (work->is_over && !error)
		expect_report();
	dma_fence_set_error(&work->fence->base, error);
}

static void called(struct dma_fence *fence, struct dma_fence_cb *cb)
{
	struct callback *callback = (struct callback *)cb;
	uint8_t how;

	say("  callback %zd of fence %zd", callback - callbacks,
	    work_of(fence) - works);
	hold(callback->work && callback->work == work_of(fence), "callback %zd",
	     callback - callbacks);
	hold(dma_fence_test_signaled_flag(fence), "it is not over");
	callback->work = NULL;
	callback->calls++;
	how = next_byte(&input);
	if (depth == MAX_DEPTH || !(how & 1))
		return;
	depth++;
	step();
	depth--;
}

static void step_add(void)
{
	struct callback *callback =
		&callbacks[next_byte(&input) % NR_CALLBACKS];
	struct work *work = next_work();
	unsigned int calls = callback->calls;
	int ret;

	if (!work || callback->work)
		return;
	callback->work = work;
	ret = dma_fence_add_callback(&work->fence->base, &callback->cb, called);
	say("callback %zd on fence %zd: %d", callback - callbacks, work - works,
	    ret);
	follow(work);
	if (ret) {
		hold(ret == -ENOENT && work->is_over &&
			     callback->work == work && callback->calls == calls,
		     "%d", ret);
		callback->work = NULL;
	} else {
		hold(!work->is_over || depth || callback->calls == calls + 1,
		     "it is over");
	}
}

static void step_remove(void)
{
	struct callback *callback =
		&callbacks[next_byte(&input) % NR_CALLBACKS];
	struct work *work = callback->work;
	bool removed;

	/* In a callback one of a fence that is over may be just on its way. */
	if (!work || !work->refs || depth)
		return;
	say("no callback %zd", callback - callbacks);
	removed = dma_fence_remove_callback(&work->fence->base, &callback->cb);
	hold(removed == !work->is_over, "%d", removed);
	callback->work = NULL;
}

static void put(struct work *work)
{
	follow(work);
	work->refs--;
	dma_fence_put(&work->fence->base);
}

static void step_refs(void)
{
	uint8_t how = next_byte(&input);
	struct work *work = next_work();

	if (!work)
		return;
	if (how & 1) {
		work->refs++;
		dma_fence_get(&work->fence->base);
		return;
	}
	/* The last one only at the end, since it is asked about until then. */
	if (work->refs > 1)
		put(work);
}

/* ---- reservation objects ---- */

static struct object *next_object(void)
{
	return &objects[next_byte(&input) % NR_OBJECTS];
}

static void enter(struct object *object, struct work *work,
		  enum dma_resv_usage usage)
{
	object->entry[object->nr].work = work;
	object->entry[object->nr].usage = usage;
	object->nr++;
}

static void step_use(void)
{
	struct object *object = next_object();
	struct work *work = next_work();
	uint8_t how = next_byte(&input);
	enum dma_resv_usage usage = how & 3;

	if (!work || object->nr == NR_ENTRIES || depth)
		return;
	say("fence %zd in object %zd, usage %u", work - works, object - objects,
	    usage);
	hold(!dma_resv_lock(&object->resv, NULL), "it is free");
	hold(dma_resv_held(&object->resv), "it is locked");
	if (how & 4)
		hold(!dma_resv_trylock(&object->resv), "it is locked");
	hold(!dma_resv_reserve_fences(&object->resv, 1 + (how >> 4)),
	     "no memory");
	dma_resv_add_fence(&object->resv, &work->fence->base, usage);
	dma_resv_unlock(&object->resv);
	enter(object, work, usage);
}

static void step_copy(void)
{
	struct object *to = next_object(), *from = &objects[to == objects];

	if (depth)
		return;
	say("copy to object %zd", to - objects);
	hold(!dma_resv_lock(&to->resv, NULL), "it is free");
	hold(!dma_resv_copy_fences(&to->resv, &from->resv), "no memory");
	dma_resv_unlock(&to->resv);
	to->nr = from->nr;
	memcpy(to->entry, from->entry, sizeof(to->entry));
}

static void step_question(void)
{
	struct object *object = next_object();
	uint8_t usage = next_byte(&input) & 3;

	/* A callback may have come out of the middle of an addition. */
	if (depth)
		return;
	say("question about object %zd, usage %u", object - objects, usage);
	check_object(object, usage);
}

static bool is_entry(const struct object *object, struct dma_fence *fence,
		     enum dma_resv_usage usage)
{
	unsigned int i;

	for (i = 0; i < object->nr; i++)
		if (&object->entry[i].work->fence->base == fence &&
		    object->entry[i].usage <= usage)
			return true;
	return false;
}

static void step_list(void)
{
	struct object *object = next_object();
	enum dma_resv_usage usage = next_byte(&input) & 3;
	bool was_due[NR_FENCES], before, found;
	struct dma_fence **fences;
	unsigned int nr, i, j;

	if (depth)
		return;
	before = is_free(object, usage);
	for (i = 0; i < nr_works; i++)
		was_due[i] = is_due(&works[i]);
	hold(!dma_resv_get_fences(&object->resv, usage, &nr, &fences),
	     "no memory");
	say("object %zd has %u for usage %u", object - objects, nr, usage);
	for (i = 0; i < nr; i++)
		hold(is_entry(object, fences[i], usage) &&
			     !was_due[work_of(fences[i]) - works],
		     "fence %u", work_of(fences[i])->fence->number);
	for (i = 0; i < object->nr; i++) {
		found = is_due(object->entry[i].work) ||
			object->entry[i].usage > usage ||
			is_superseded(object, i);
		for (j = 0; j < nr && !found; j++)
			found = fences[j] ==
				&object->entry[i].work->fence->base;
		hold(found, "entry %u is missing", i);
	}
	for (i = 0; i < nr; i++)
		dma_fence_put(fences[i]);
	free(fences);
	check_answer(object, usage, before, !nr);
}

/* With the lock, and how each is used. */
static void step_walk(void)
{
	struct object *object = next_object();
	enum dma_resv_usage usage = next_byte(&input) & 3;
	struct dma_resv_iter cursor;
	struct dma_fence *fence;

	if (depth)
		return;
	hold(!dma_resv_lock(&object->resv, NULL), "it is free");
	dma_resv_for_each_fence(&cursor, &object->resv, usage, fence)
		hold(is_entry(object, fence, dma_resv_iter_usage(&cursor)) &&
			     dma_resv_iter_usage(&cursor) <= usage,
		     "fence %u", work_of(fence)->fence->number);
	dma_resv_iter_end(&cursor);
	dma_resv_unlock(&object->resv);
}

static void step(void)
{
	static void (*const steps[])(void) = {
		step_new,  step_new,	step_new,  step_signal,	  step_signal,
		step_say,  step_ask,	step_ask,  step_error,	  step_add,
		step_add,  step_remove, step_refs, step_use,	  step_use,
		step_use,  step_use,	step_copy, step_question, step_question,
		step_list, step_list,	step_walk,
	};

	/* Something may have been asked about that has called us. */
	follow_all();
	steps[next_byte(&input) % (sizeof(steps) / sizeof(steps[0]))]();
	check_all();
}

static void begin(const uint8_t *data, size_t size)
{
	unsigned int i;

	input.at = data;
	input.end = data + size;
	nr_works = 0;
	depth = 0;
	reports = 0;
	reports_expected = 0;
	mmn_debug_set_handler(hear_report);
	memset(callbacks, 0, sizeof(callbacks));
	for (i = 0; i < NR_OBJECTS; i++) {
		objects[i].nr = 0;
		dma_resv_init(&objects[i].resv);
	}
	for (i = 0; i < NR_TIMELINES; i++) {
		contexts[i] = dma_fence_context_alloc(1);
		mmn_spin_init(&timeline_lock[i]);
	}
}

static void end(void)
{
	unsigned int i;

	for (i = 0; i < nr_works; i++) {
		follow(&works[i]);
		if (!works[i].is_over) {
			works[i].is_over = true;
			hold(!dma_fence_signal(&works[i].fence->base),
			     "it was pending");
		}
	}
	depth = 0;
	check_all();
	for (i = 0; i < NR_OBJECTS; i++) {
		hold(dma_resv_test_signaled(&objects[i].resv,
					    DMA_RESV_USAGE_BOOKKEEP),
		     "all are over");
		dma_resv_fini(&objects[i].resv);
	}
	for (i = 0; i < nr_works; i++)
		while (works[i].refs)
			put(&works[i]);
	for (i = 0; i < nr_works; i++)
		hold(works[i].is_released, "fence %u", i);
}

void property(const uint8_t *data, size_t size)
{
	begin(data, size);
	while (bytes_left(&input))
		step();
	end();
}

const bool property_keeps_a_thread = true;
const unsigned int property_nr_random = 15000;
const unsigned int property_random_size = 200;

const struct property_example property_examples[] = {
	{ "nothing", "" },
	{ "a callback runs when the producer is asked",
	  "00 11 05 00 09 00 00 06 00 00 00" },
	{ "a later fence of a timeline takes the place of an earlier one",
	  "00 00 00 00 0d 00 00 02 0d 00 01 01 12 00 01 03 01 00 12 00 02" },
	{ "a producer who is over when he is told is found by a wait",
	  "00 3e 0d 00 00 01 12 00 01 06 00 03" },
	{ "an error, and one that is too late",
	  "00 30 08 00 05 03 00 02 08 00 06" },
	{ "all is copied to another object, and its own is dropped",
	  "00 30 00 30 0d 00 00 01 0d 01 01 01 11 01 14 01 03" },
	{ NULL, NULL },
};
