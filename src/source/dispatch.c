/* SPDX-License-Identifier: MIT */
/*
 * One intercepted call: announce, make, end.
 *
 * This file is entered in the middle of foreign code, with the program's vector
 * registers live: it is compiled for general registers only and calls nothing
 * that is not.  Only slow_change() and its like, which run under
 * mmn_with_vector_state(), may call anything else.
 *
 *	nobody subscribed there              somebody is
 *
 *	classify                             classify
 *	mmn_invalidate_open() == false       mmn_invalidate_open() == true
 *	the call                             save vector state, block signals
 *	mmn_invalidate_close()               look up what registers do not tell
 *	                                     mmn_invalidate_notify()
 *	                                     the call
 *	                                     mmn_invalidate_end()
 *	                                     restore
 *
 * Signals stay blocked from the first callback to the end, around a fork from
 * before it is opened: a handler that left by a jump would leave the change open
 * for ever.  Not across exec, whose new program would inherit the mask; the child
 * of a fork gets its mask back in mmn_intercept_after().
 *
 * Calls that copy the process run in the stub, with nothing of ours on the
 * stack, between mmn_intercept_dispatch() and mmn_intercept_after(); what has to
 * survive is in thread-local storage.  Calls that make another thread or a
 * process in the same memory (CLONE_VM, vfork) change no memory and pass.
 *
 * A handler can also leave by a jump while nothing is blocked, in the middle of
 * a call that nobody is told of.  Its descriptors are in thread-local storage, so
 * they stay what they are; the next call of the thread sees that the stack frame
 * that used them is gone and closes them (abandoned()).
 *
 * The child of a fork passes everything: its copy of the source is not the
 * owner's.  The child of a vfork shares our memory, and its changes are ours;
 * only its exec is not, and is told by the process id.
 */
#include <errno.h>
#include <mmn/notifier.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>

#include "base/atomic.h"
#include "base/bug.h"
#include "base/context.h"
#include "base/inject.h"
#include "base/lock.h"
#include "base/process.h"
#include "base/syscall.h"
#include "base/time.h"
#include "source/classify.h"
#include "source/entry.h"
#include "source/lookup.h"
#include "source/source.h"

#ifndef NR_STRIPES
#define NR_STRIPES 32u
#endif

/* More than MMN_NR_CALLS: the last one counts what turned out to be no change. */
#define NR_LEFT 16u
#define LEFT_PASSED (NR_LEFT - 1)

/*
 * struct stripe - counters of some of the threads
 *
 * D1  in all stripes together, entered - sum(left) is the number of calls that
 *     are between enter() and leave().
 *
 * Members are only added to.  @entered and @left have the order that
 * mmn_dispatch_off() needs, the others are statistics.
 */
struct stripe {
	uint64_t entered;
	uint64_t left[NR_LEFT];
	uint64_t hits;
	uint64_t whole;
	uint64_t abandoned;
} __attribute__((aligned(128)));

/*
 * What every call looks at, next to each other: a call that unmaps memory comes
 * back to an empty TLB, and each page it needs then costs more than the work.
 */
static struct {
	/* atomic: NULL when off */
	const struct mmn_source *active;
	/* Calls that are no changes but of interest: a hint, so that most
	 * pass. */
	uint32_t wants_maps;
	struct stripe stripe[NR_STRIPES];
} shared __attribute__((aligned(4096)));

/* What one call opens before signals are blocked: mremap has two ranges. */
#define NR_EARLY 2u

/*
 * struct frame - a call on its way in this thread
 *
 * F1  @sp is 0 while the frame is free, else the address of the stack frame that
 *     uses it.
 * F2  @generation changes when the frame is taken from a call that was
 *     abandoned; if that call comes back after all, it touches nothing.
 */
struct frame {
	uintptr_t sp;
	uint32_t generation;
	uint32_t call;
	struct stripe *stripe;
	/* Bit i: desc[i] is open. */
	uint32_t open;
	/* between enter() and leave() */
	bool is_counted;
	struct mmn_invalidate_desc desc[NR_EARLY];
};

/*
 * struct fork_change - a change around a call that the stub makes
 *
 * The child's copy of it is what tells the child which mask to restore.
 */
struct fork_change {
	struct mmn_invalidate_desc desc;
	const struct mmn_source *source;
	struct stripe *stripe;
	uint64_t begin_ns;
	struct mmn_sigmask saved;
	long result;
	bool is_hit;
	bool is_blocked;
	bool is_open;
};

/* A signal handler inside a call takes the second frame. */
#define NR_FRAMES 2u

struct thread {
	struct frame frame[NR_FRAMES];
	struct fork_change fork;
	/* An observer runs. */
	bool observing;
};

static __thread struct thread thread __attribute__((tls_model("initial-exec")));

/* struct op - one call; on the stack of the thread that makes it */
struct op {
	/* its own address, for as long as it is in use */
	uintptr_t self;
	struct mmn_regs *regs;
	uint64_t nr;
	const struct mmn_source *source;
	struct stripe *stripe;
	struct frame *frame;
	struct mmn_sigmask saved;
	uint32_t generation;
	/* Which descriptors must be notified: bit i. */
	uint32_t hits;
	bool is_change;
	bool maps_code;
	struct mmn_change change;
	/* When no frame is free: used with signals blocked, so never left. */
	struct frame spare;
};

/*
 * struct spans - the open ranges of one change
 *
 * Those of the frame, or what a look-up made of them.
 */
struct spans {
	struct mmn_invalidate_desc *desc;
	uint32_t nr_open;
	uint32_t hits;
	struct mmn_invalidate_desc found[MMN_MAX_SPANS];
};

static struct stripe *own_stripe(void)
{
	uintptr_t self;

	/* the thread control block: whole pages apart, give or take */
	__asm__("mov %%fs:0, %0" : "=r"(self));
	return &shared.stripe[(self >> 12 ^ self >> 17) % NR_STRIPES];
}

/*
 * Either mmn_dispatch_off() sees the count, or we see that it is off:
 *
 *	enter()                       mmn_dispatch_off()
 *
 *	[W] entered + 1               [W] active = NULL
 *	MB                            MB
 *	[R] active                    [R] entered, left
 */
static const struct mmn_source *enter(struct stripe *stripe)
{
	/*
	 * pair(source_entered): the caller's store, with the loads in
	 * count_inside().  Without it the count is read before the add and the
	 * state is freed under the call.
	 */
	mmn_fetch_add_seq_cst(&stripe->entered, 1);
	/*
	 * pair(source_off): the caller's load, with the store in
	 * mmn_dispatch_off().  Without it the load is satisfied before the add,
	 * and the state is freed under the call.
	 *
	 * pair(source_on): acquire, with the release in mmn_dispatch_on().
	 * Without it a call is announced to a state pointer that is not written
	 * yet.
	 */
	return mmn_load_seq_cst(&shared.active);
}

static void leave(struct stripe *stripe, uint32_t what)
{
	/*
	 * pair(source_left): release, with the acquire in count_inside().
	 * Without it the state could be freed under a close that is still
	 * writing to it.
	 */
	mmn_fetch_add_release(&stripe->left[what], 1);
}

static bool is_observed(const struct mmn_source *source, uint32_t call)
{
	return source->observe_calls & (1u << call);
}

static long make_call(const struct op *op)
{
	const uint64_t *a = op->regs->args;

	return mmn_syscall6(op->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void init_one(const struct op *op, struct mmn_invalidate_desc *desc,
		     uintptr_t start, uintptr_t last)
{
	mmn_invalidate_desc_init(desc, op->source->state, op->change.event,
				 start, last);
	desc->flags |= op->change.flags;
}

/* Somebody came to depend on the change after it was opened. */
static long slow_end(void *arg)
{
	struct mmn_sigmask saved;

	/* A handler of the program may leave by a jump. */
	mmn_signals_hold(&saved);
	mmn_invalidate_end(arg);
	mmn_signals_release(&saved);
	return 0;
}

static void end_one(struct mmn_invalidate_desc *desc)
{
	if (!mmn_invalidate_close(desc))
		slow_end(desc);
}

static void end_spans(struct spans *spans)
{
	/* in the opposite order, as nested changes end */
	while (spans->nr_open)
		end_one(&spans->desc[--spans->nr_open]);
}

static void observe(const struct mmn_source *source,
		    const struct mmn_call_event *event)
{
	thread.observing = true;
	source->observe(source->observe_arg, event);
	thread.observing = false;
}

static void observe_change(const struct op *op, long result, uint64_t begin_ns)
{
	const struct mmn_change *change = &op->change;
	struct mmn_call_event event = {
		.call = change->call,
		.result = result,
		.ns = mmn_now_ns() - begin_ns,
	};
	uint32_t i;

	if (!change->nr_spans)
		return;
	event.start = change->span[0].start;
	event.last = change->span[0].last;
	for (i = 1; i < change->nr_spans; i++) {
		if (change->span[i].start < event.start)
			event.start = change->span[i].start;
		if (change->span[i].last > event.last)
			event.last = change->span[i].last;
	}
	observe(op->source, &event);
}

/* Where there was nothing before the call: the result of mmap and mremap. */
static void observe_map(const struct op *op, long result, uint64_t begin_ns)
{
	const uint64_t *args = op->regs->args;
	uint64_t length = op->nr == SYS_mremap ? args[2] : args[1];
	struct mmn_call_event event = {
		.call = MMN_CALL_MAP,
		.start = (uintptr_t)result,
		.result = result,
	};

	if ((op->nr != SYS_mmap && op->nr != SYS_mremap) ||
	    mmn_syscall_failed(result))
		return;
	event.last = event.start +
		     ((length + MMN_PAGE_SIZE - 1) & ~(MMN_PAGE_SIZE - 1)) - 1;
	event.ns = mmn_now_ns() - begin_ns;
	observe(op->source, &event);
}

/*
 * What the registers do not tell is looked up, while everything is open; the
 * ranges that come out take its place.
 */
static void resolve(struct op *op, struct spans *spans,
		    struct mmn_iovec_copy *copy)
{
	uint32_t i;

	if (!mmn_lookup_spans(&op->change, op->nr, op->regs->args, copy))
		/* relaxed: statistics */
		mmn_fetch_add_relaxed(&op->stripe->whole, 1);
	spans->desc = spans->found;
	spans->hits = 0;
	spans->nr_open = op->change.nr_spans;
	for (i = 0; i < spans->nr_open; i++) {
		init_one(op, &spans->found[i], op->change.span[i].start,
			 op->change.span[i].last);
		if (mmn_invalidate_open(&spans->found[i]))
			spans->hits |= 1u << i;
	}
	end_one(&op->frame->desc[0]);
}

static void notify_spans(struct op *op, struct spans *spans)
{
	struct mmn_sigmask saved;
	uint32_t i;

	mmn_bug_on(mmn_context_in_uninterruptible_callback(),
		   "a callback changes memory that somebody is subscribed to");
	/* relaxed: statistics */
	mmn_fetch_add_relaxed(&op->stripe->hits, 1);
	if (MMN_INJECT(MMN_INJECT_EVENT_LOST)) {
		end_spans(spans);
		return;
	}
	mmn_signals_hold(&saved);
	for (i = 0; i < spans->nr_open; i++)
		if (spans->hits & (1u << i))
			mmn_invalidate_notify(&spans->desc[i]);
	mmn_signals_release(&saved);
	if (MMN_INJECT(MMN_INJECT_END_EARLY)) {
		end_spans(spans);
		MMN_INJECT_PAUSE();
	}
}

static long slow_change(void *arg)
{
	struct op *op = arg;
	const struct mmn_source *source = op->source;
	uint64_t *args = op->regs->args;
	struct spans spans = { .desc = op->frame->desc, .hits = op->hits };
	struct mmn_iovec_copy copy;
	struct mmn_sigmask saved;
	bool block = op->change.call != MMN_CALL_EXEC;
	uint64_t begin_ns = 0, iov = args[1];
	long result;

	copy.count = 0;
	if (block)
		mmn_signals_hold(&saved);
	if (source->observe)
		begin_ns = mmn_now_ns();
	if (op->is_change && op->change.need != MMN_NEED_NOTHING)
		resolve(op, &spans, &copy);
	else if (op->is_change)
		spans.nr_open = op->change.nr_spans;
	/* From here on @spans has them, and no jump leaves them behind. */
	op->frame->open = 0;
	if (spans.hits)
		notify_spans(op, &spans);

	if (copy.count)
		args[1] = (uintptr_t)copy.iov;
	result = make_call(op);
	args[1] = iov;

	end_spans(&spans);
	if (op->is_change && is_observed(source, op->change.call))
		observe_change(op, result, begin_ns);
	if (is_observed(source, MMN_CALL_MAP))
		observe_map(op, result, begin_ns);
	if (op->maps_code && source->follow && !mmn_syscall_failed(result))
		mmn_intercept_follow((uintptr_t)result,
				     (uintptr_t)result + args[1] - 1,
				     (int)args[4], args[5]);
	if (block)
		mmn_signals_release(&saved);
	return result;
}

/* ---- frames ---- */

/*
 * Has the stack frame that uses this been left by a jump?  It has when we are
 * as far up on the same stack, or when its memory has been used for something
 * else.  On a signal stack nothing can be said.
 */
static bool is_popped(uintptr_t sp, uintptr_t own_sp)
{
	stack_t altstack;

	if (sp > own_sp)
		return false;
	if (mmn_syscall2(SYS_sigaltstack, 0, &altstack))
		return false;
	return !(altstack.ss_flags & SS_ONSTACK);
}

static bool is_abandoned(const struct frame *frame, uintptr_t own_sp)
{
	uintptr_t self;

	return is_popped(frame->sp, own_sp) ||
	       (mmn_lookup_peek(frame->sp + offsetof(struct op, self), &self,
				sizeof(self)) == 0 &&
		self != frame->sp);
}

/* Closes what was left open; vector state is saved by the caller. */
static long end_abandoned(void *arg)
{
	struct frame *frame = arg;
	uint32_t i;

	for (i = 0; i < NR_EARLY; i++)
		if (frame->open & (1u << i))
			mmn_invalidate_abandon(&frame->desc[i]);
	return 0;
}

static void take_frame(struct op *op)
{
	struct frame *frame;
	uint32_t i;

	for (i = 0; i < NR_FRAMES; i++) {
		frame = &thread.frame[i];
		if (!frame->sp)
			break;
		if (!is_abandoned(frame, (uintptr_t)op))
			continue;
		frame->generation++;
		mmn_with_vector_state(end_abandoned, frame);
		/* relaxed: statistics */
		mmn_fetch_add_relaxed(&frame->stripe->abandoned, 1);
		if (frame->is_counted)
			leave(frame->stripe, frame->call);
		break;
	}
	if (i == NR_FRAMES) {
		frame = &op->spare;
		frame->generation = 0;
		mmn_signals_block(&op->saved);
	}
	frame->is_counted = false;
	frame->open = 0;
	frame->stripe = op->stripe;
	frame->call = op->change.call;
	op->frame = frame;
	op->generation = frame->generation;
	/* A handler must not take it before it is whole. */
	mmn_barrier();
	frame->sp = (uintptr_t)op;
	mmn_barrier();
}

/* False when somebody has taken this call for abandoned. */
static bool owns_frame(const struct op *op)
{
	return op->frame->sp == (uintptr_t)op &&
	       op->frame->generation == op->generation;
}

static void drop_frame(struct op *op)
{
	mmn_barrier();
	op->frame->sp = 0;
	op->self = 0;
	if (op->frame == &op->spare)
		mmn_signals_restore(&op->saved);
}

/* The program's own exec is a change of our memory, a vfork child's is not. */
static bool is_foreign_exec(const struct op *op)
{
	return op->change.call == MMN_CALL_EXEC &&
	       mmn_syscall0(SYS_getpid) != op->source->pid;
}

static bool is_for_source(const struct op *op)
{
	return op->source &&
	       op->source->generation == mmn_process_generation() &&
	       !thread.observing && !is_foreign_exec(op);
}

/* ---- calls that copy the process ---- */

static long notify_fork(void *arg)
{
	struct fork_change *fork = arg;

	fork->begin_ns = mmn_now_ns();
	if (!fork->is_hit)
		return 0;
	mmn_bug_on(mmn_context_in_uninterruptible_callback(),
		   "a callback forks");
	/* relaxed: statistics */
	mmn_fetch_add_relaxed(&fork->stripe->hits, 1);
	if (MMN_INJECT(MMN_INJECT_EVENT_LOST)) {
		end_one(&fork->desc);
		fork->is_open = false;
		return 0;
	}
	mmn_invalidate_notify(&fork->desc);
	if (MMN_INJECT(MMN_INJECT_END_EARLY)) {
		end_one(&fork->desc);
		fork->is_open = false;
		MMN_INJECT_PAUSE();
	}
	return 0;
}

static long observe_fork(void *arg)
{
	struct fork_change *fork = arg;
	struct mmn_call_event event = {
		.call = MMN_CALL_FORK,
		.last = UINTPTR_MAX,
		.result = fork->result,
		.ns = mmn_now_ns() - fork->begin_ns,
	};

	observe(fork->source, &event);
	return 0;
}

static long notify_and_end(void *arg)
{
	struct mmn_invalidate_desc *desc = arg;
	struct mmn_sigmask saved;

	mmn_signals_hold(&saved);
	mmn_invalidate_notify(desc);
	mmn_invalidate_end(desc);
	mmn_signals_release(&saved);
	return 0;
}

/*
 * A fork inside a fork (by a callback), or one whose child has other thread-local
 * storage: told in full before it, not around it.
 */
static uint32_t fork_unbracketed(const struct mmn_source *source,
				 struct stripe *stripe)
{
	struct mmn_invalidate_desc desc;

	mmn_invalidate_desc_init(&desc, source->state,
				 MMN_EVENT_PROTECTION_PAGE, 0, UINTPTR_MAX);
	if (mmn_invalidate_open(&desc))
		mmn_with_vector_state(notify_and_end, &desc);
	else if (!mmn_invalidate_close(&desc))
		mmn_with_vector_state(slow_end, &desc);
	leave(stripe, MMN_CALL_FORK);
	return MMN_VERDICT_PASS;
}

static uint32_t dispatch_fork(struct op *op)
{
	struct fork_change *fork = &thread.fork;
	uint64_t flags = op->nr == SYS_clone ? op->regs->args[0] : 0;
	struct mmn_sigmask saved;
	uint32_t verdict;

	if (op->change.need == MMN_NEED_CLONE_ARGS) {
		int ret = mmn_lookup_peek(op->change.id, &flags, sizeof(flags));

		if (ret && ret != -EFAULT)
			flags = *(const uint64_t *)op->change.id;
		if (ret == -EFAULT || (flags & CLONE_VM))
			return MMN_VERDICT_PASS;
	}
	/* No handler can leave it by a jump: nobody would come to end it. */
	mmn_signals_block(&saved);
	op->source = enter(op->stripe);
	if (!is_for_source(op)) {
		leave(op->stripe, LEFT_PASSED);
		mmn_signals_restore(&saved);
		return MMN_VERDICT_PASS;
	}
	if (fork->is_blocked || (flags & CLONE_SETTLS)) {
		verdict = fork_unbracketed(op->source, op->stripe);
		mmn_signals_restore(&saved);
		return verdict;
	}

	fork->saved = saved;
	fork->is_blocked = true;
	fork->source = op->source;
	fork->stripe = op->stripe;
	mmn_invalidate_desc_init(&fork->desc, op->source->state,
				 MMN_EVENT_PROTECTION_PAGE, 0, UINTPTR_MAX);
	fork->is_open = true;
	fork->is_hit = mmn_invalidate_open(&fork->desc);
	if (fork->is_hit || is_observed(op->source, MMN_CALL_FORK))
		mmn_with_vector_state(notify_fork, fork);
	return MMN_VERDICT_BRACKET;
}

/* The second half: in the parent, and in the child. */
void mmn_intercept_after(struct mmn_regs *regs)
{
	struct fork_change *fork = &thread.fork;
	struct mmn_sigmask saved = fork->saved;
	struct stripe *stripe = fork->stripe;

	if (!mmn_process_is_owner()) {
		fork->is_open = false;
		fork->is_blocked = false;
	} else {
		if (fork->is_open && !mmn_invalidate_close(&fork->desc))
			mmn_with_vector_state(slow_end, &fork->desc);
		fork->is_open = false;
		if (is_observed(fork->source, MMN_CALL_FORK)) {
			fork->result = (long)regs->rax;
			mmn_with_vector_state(observe_fork, fork);
		}
		fork->is_blocked = false;
		leave(stripe, MMN_CALL_FORK);
	}
	mmn_signals_restore(&saved);
}

/* ---- everything else ---- */

/* Once its bit is set, who finds the frame abandoned looks at the descriptor. */
static bool open_in_frame(struct op *op, uint32_t i, uintptr_t start,
			  uintptr_t last)
{
	struct mmn_invalidate_desc *desc = &op->frame->desc[i];

	init_one(op, desc, start, last);
	mmn_barrier();
	op->frame->open |= 1u << i;
	mmn_barrier();
	return mmn_invalidate_open(desc);
}

static bool open_early(struct op *op)
{
	const struct mmn_change *change = &op->change;
	uint32_t i, nr;

	if (change->need != MMN_NEED_NOTHING)
		return open_in_frame(op, 0, 0, UINTPTR_MAX);
	nr = change->nr_spans;
	for (i = 0; i < nr; i++)
		if (open_in_frame(op, i, change->span[i].start,
				  change->span[i].last))
			op->hits |= 1u << i;
	return op->hits;
}

static void close_early(struct op *op)
{
	struct frame *frame = op->frame;
	uint32_t i;

	for (i = NR_EARLY; i-- > 0;) {
		if (!(frame->open & (1u << i)))
			continue;
		if (!mmn_invalidate_close(&frame->desc[i]))
			mmn_with_vector_state(slow_end, &frame->desc[i]);
	}
	frame->open = 0;
}

/*
 * Return: the verdict; MMN_VERDICT_PASS leaves nothing open and counts nothing.
 */
static uint32_t dispatch_change(struct op *op)
{
	struct mmn_change *change = &op->change;
	bool slow;
	long result;

	if (change->need == MMN_NEED_BREAK) {
		if (!mmn_lookup_break(change))
			return MMN_VERDICT_PASS;
		change->need = MMN_NEED_NOTHING;
	}
	slow = open_early(op) || op->maps_code ||
	       is_observed(op->source, change->call) ||
	       is_observed(op->source, MMN_CALL_MAP);
	if (slow) {
		result = mmn_with_vector_state(slow_change, op);
	} else {
		result = make_call(op);
		if (owns_frame(op))
			close_early(op);
	}
	op->regs->rax = (uint64_t)result;
	return MMN_VERDICT_DONE;
}

uint32_t mmn_intercept_dispatch(struct mmn_regs *regs)
{
	struct op op;
	uint32_t verdict;
	bool maps;

	op.nr = (uint32_t)regs->rax;
	if (!mmn_classify_is_candidate(op.nr) || !mmn_process_is_owner())
		return MMN_VERDICT_PASS;
	op.is_change = mmn_classify(op.nr, regs->args, &op.change);
	/* relaxed: a call that overlaps the installation may be missed */
	maps = op.nr == SYS_mmap && mmn_load_relaxed(&shared.wants_maps);
	op.maps_code = maps && mmn_classify_maps_code(op.nr, regs->args);
	if (!op.is_change &&
	    !(maps &&
	      (op.maps_code || mmn_load_relaxed(&shared.wants_maps) > 1)))
		return MMN_VERDICT_PASS;

	op.self = (uintptr_t)&op;
	op.regs = regs;
	op.hits = 0;
	op.stripe = own_stripe();
	if (!op.is_change)
		op.change.call = MMN_CALL_MAP;
	if (op.change.call == MMN_CALL_FORK)
		return dispatch_fork(&op);

	take_frame(&op);
	op.source = enter(op.stripe);
	op.frame->is_counted = true;
	if (!is_for_source(&op)) {
		verdict = MMN_VERDICT_PASS;
	} else if (op.is_change) {
		verdict = dispatch_change(&op);
	} else {
		regs->rax = (uint64_t)mmn_with_vector_state(slow_change, &op);
		verdict = MMN_VERDICT_DONE;
	}
	if (owns_frame(&op)) {
		op.frame->is_counted = false;
		leave(op.stripe, verdict == MMN_VERDICT_DONE ? op.change.call
							     : LEFT_PASSED);
		drop_frame(&op);
	}
	return verdict;
}

/* ---- on and off ---- */

void mmn_dispatch_on(const struct mmn_source *source)
{
	uint32_t maps = source->observe_calls & (1u << MMN_CALL_MAP) ? 2
			: source->follow			     ? 1
								     : 0;

	/*
	 * pair(source_on): release, with the acquire in enter().  Without it a
	 * call is announced to a state pointer that is not written yet.
	 */
	mmn_store_release(&shared.active, source);
	/* relaxed: a hint */
	mmn_store_relaxed(&shared.wants_maps, maps);
}

static uint64_t count_inside(void)
{
	uint64_t left = 0, entered = 0;
	uint32_t i, what;

	/* First who left, then who entered: never too few inside. */
	for (i = 0; i < NR_STRIPES; i++)
		for (what = 0; what < NR_LEFT; what++)
			/*
			 * pair(source_left): acquire, with the release in
			 * leave().  Without it the state could be freed under
			 * a close that is still writing to it.
			 */
			left += mmn_load_acquire(&shared.stripe[i].left[what]);
	for (i = 0; i < NR_STRIPES; i++)
		/*
		 * pair(source_entered): the switch's loads, with the add in
		 * enter().  Without it they are satisfied before the switch is
		 * off, and miss a call that saw it on.
		 */
		entered += mmn_load_seq_cst(&shared.stripe[i].entered);
	return entered - left;
}

int mmn_dispatch_off(uint64_t timeout_ns)
{
	uint64_t deadline = mmn_now_ns() + timeout_ns;
	struct timespec nap = { 0, 100000 };

	/* relaxed: a hint */
	mmn_store_relaxed(&shared.wants_maps, 0);
	/*
	 * pair(source_off): the switch's store, with the load in enter().
	 * Without it the counts are read before the switch is seen, and the
	 * state is freed under a call that is just entering.
	 */
	mmn_store_seq_cst(&shared.active, NULL);
	while (count_inside()) {
		if (mmn_now_ns() > deadline)
			return -ETIMEDOUT;
		mmn_syscall2(SYS_nanosleep, &nap, 0);
	}
	return 0;
}

bool mmn_dispatch_is_inside(void)
{
	uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
	uint32_t i;

	for (i = 0; i < NR_FRAMES; i++)
		if (thread.frame[i].sp && !is_abandoned(&thread.frame[i], sp))
			return true;
	return thread.observing;
}

void mmn_dispatch_get_stats(struct mmn_intercept_stats *stats)
{
	uint32_t i, call;

	for (i = 0; i < NR_STRIPES; i++) {
		/* relaxed: statistics */
		for (call = 0; call < MMN_NR_CALLS; call++)
			stats->calls[call] +=
				mmn_load_relaxed(&shared.stripe[i].left[call]);
		stats->hits += mmn_load_relaxed(&shared.stripe[i].hits);
		stats->whole += mmn_load_relaxed(&shared.stripe[i].whole);
		stats->abandoned +=
			mmn_load_relaxed(&shared.stripe[i].abandoned);
	}
}
