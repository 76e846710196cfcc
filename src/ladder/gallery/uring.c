/* SPDX-License-Identifier: MIT */
/*
 * Requests to the service thread of the io_uring device, and its slots:
 * adapt/uring-device.c itself.  The ring is not there: the thread sleeps on the
 * bell's futex, as it does when nothing is in the ring.
 */
#include "ladder/gallery/gallery.h"
#include "ladder/scenario.h"

#include <liburing.h>

#define io_uring_submit_and_wait(ring, nr) 0
#define io_uring_wait_cqe_timeout(ring, cqe, timeout) \
	((void)(cqe), (void)(timeout))
/* NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "adapt/uring-device.c"

static struct {
	struct uring_device device;
	struct uring_map map;
	struct call call;
} uring;

static void set_up(void)
{
	uring.device.inbox = NULL;
	uring.device.bell = 0;
	uring.device.nr_in_ring = 0;
	uring.device.free = NULL;
	uring.device.given_back = NULL;
	uring.call.answered = ANSWER_NONE;
	uring.call.result = 0;
	ladder_name(&uring.device.inbox, "inbox");
	ladder_name(&uring.device.bell, "bell");
	ladder_name(&uring.device.given_back, "given_back");
	ladder_name(&uring.call.answered, "answered");
	ladder_name(&uring.call.result, "result");
	ladder_name(&uring.map.cleared_ns, "map.cleared_ns");
}

static void send_request(void)
{
	ladder_assert(call_service(&uring.device, &uring.call, REQUEST_MAP) ==
		      1);
}

static void serve_one(void)
{
	struct request *request;
	struct call *call;

	while (!(request = take_inbox(&uring.device)))
		sleep_until_something(&uring.device);
	call = container_of(request, struct call, request);
	ladder_assert(request->kind == REQUEST_MAP);
	call->result = 1;
	answer(&call->answered);
}

const struct ladder_scenario uring_call = {
	.name = "uring-call",
	.what = "a request to the service thread, which may be asleep",
	.explanation = "The request is seen whole, and so is its answer.",
	.setup = set_up,
	.threads = { send_request, serve_one },
	.titles = { "sender", "service" },
};

static void unmap(void)
{
	uring.map.cleared_ns = 1;
	give_back(&uring.device, &uring.map);
}

static void map_again(void)
{
	struct uring_map *m = take_slot(&uring.device);

	if (m)
		m->cleared_ns = 2;
}

const struct ladder_scenario uring_slot = {
	.name = "uring-slot",
	.what = "a slot is given back by one thread and filled by another",
	.explanation = "The last writes of one owner come before the first of "
		       "the next.",
	.setup = set_up,
	.threads = { unmap, map_again },
	.titles = { "give back", "take" },
};
