/* SPDX-License-Identifier: MIT */
/*
 * The playground: memory that the agent itself adds to the process, so that the
 * device may also write.
 *
 *	stage   | 3 | 0 | 5 | 1 |      mapped here and there, changed all the time
 *	          |   |   |   |
 *	file    | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 |      pages of a memory file
 *	spy     | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 |      all of them, never changed
 *
 * Each place of the stage shows one page of the file.  The device writes to a
 * place; while it does, the place is made to show another page.  Then the spy
 * sees where the bytes went: into the page that the place showed when the write
 * was submitted, or nowhere, if the change was first.  A page that is shown
 * nowhere carries a mark, which must still be there the next time.
 */
#include "agent.h"

#include <mmn/memory.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PLACES 8u
#define PAGES 16u
#define FILL_NS UINT64_C(5000000)
#define MARK UINT64_C(0x6d61726b6d61726b)

struct play {
	bool is_open;
	char *stage;
	volatile uint64_t *spy;
	int file;
	/* As mappings of the file show it. */
	uint64_t inode;
	uint32_t dev_major;
	uint32_t dev_minor;
	/* Which page of the file does each place show? */
	unsigned int shown[PLACES];
	bool is_shown[PAGES];
	uint64_t round;
	struct transfer writes[PLACES];
	char *buffers;
	unsigned int page_of_write[PLACES];
};

static struct play play;

/*
 * Any mapping of the file is the agent's: a device in software writes through
 * one of its own, which it makes and unmaps without telling anybody.
 */
bool play_owns(const struct mmn_region *region)
{
	return play.inode && region->inode == play.inode &&
	       region->dev_major == play.dev_major &&
	       region->dev_minor == play.dev_minor;
}

bool play_contains(uintptr_t addr)
{
	return addr - (uintptr_t)play.stage < PLACES * mmn_page_size();
}

static size_t page_bytes(void)
{
	return mmn_page_size();
}

static char *place_addr(unsigned int place)
{
	return play.stage + place * page_bytes();
}

static volatile uint64_t *spy_page(unsigned int page)
{
	return play.spy + page * page_bytes() / sizeof(*play.spy);
}

static bool show(unsigned int place, unsigned int page)
{
	void *at;

	/* Through libc, so that the change is seen like one of the program. */
	at = mmap(place_addr(place), page_bytes(), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_FIXED, play.file,
		  (off_t)(page * page_bytes()));
	if (at == MAP_FAILED)
		return false;
	play.shown[place] = page;
	play.is_shown[page] = true;
	return true;
}

static void hide(unsigned int page)
{
	play.is_shown[page] = false;
	*spy_page(page) = MARK;
}

static unsigned int hidden_page(void)
{
	unsigned int page = (unsigned int)(raw_random() % PAGES);

	while (play.is_shown[page])
		page = (page + 1) % PAGES;
	return page;
}

void play_open(void)
{
	size_t bytes = PAGES * page_bytes();
	struct mmn_region region;
	void *stage, *spy;
	uintptr_t start;
	unsigned int i;

	play.file = memfd_create("mmn-run", MFD_CLOEXEC);
	if (play.file < 0 || ftruncate(play.file, (off_t)bytes))
		goto fail;
	stage = mmap(NULL, PLACES * page_bytes(), PROT_READ | PROT_WRITE,
		     MAP_SHARED, play.file, 0);
	spy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, play.file,
		   0);
	play.buffers = mmn_callback_alloc(PLACES * page_bytes());
	if (stage == MAP_FAILED || spy == MAP_FAILED || !play.buffers)
		goto fail;
	play.stage = stage;
	play.spy = spy;
	for (i = 0; i < PAGES; i++)
		hide(i);
	for (i = 0; i < PLACES; i++)
		if (!show(i, i))
			goto fail;
	start = (uintptr_t)stage;
	if (mmn_pages_region(agent_pages, start, &region))
		goto fail;
	play.inode = region.inode;
	play.dev_major = region.dev_major;
	play.dev_minor = region.dev_minor;
	play.is_open = true;
fail:
	/* Without a playground there are no device writes; reads go on. */
	return;
}

static uint64_t tag(unsigned int place)
{
	return play.round << 8 | place;
}

static bool submit(unsigned int place)
{
	struct transfer *write = &play.writes[place];
	char *buffer = play.buffers + place * page_bytes();
	uint64_t value = tag(place);

	memcpy(buffer, &value, sizeof(value));
	memset(&write->transfer, 0, sizeof(write->transfer));
	write->transfer.length = sizeof(value);
	write->transfer.access = MMN_DEVICE_WRITE;
	write->transfer.buffer = buffer;
	write->transfer.done = check_done;
	write->addr = (uintptr_t)place_addr(place);
	play.page_of_write[place] = play.shown[place];
	write->region =
		hold_get(write->addr, write->addr + page_bytes() - 1, FILL_NS);
	write->busy = write->region && check_start(write, write->region);
	if (!write->busy)
		hold_put(write->region);
	return write->busy;
}

/* One of the ways in which a place comes to show another page. */
static void change(unsigned int place)
{
	unsigned int before = play.shown[place];
	unsigned int after = hidden_page();
	char *addr = place_addr(place);

	switch (raw_random() % 4) {
	case 0:
		break;
	case 1:
		/* Never a hole: another thread's mapping could come there. */
		(void)mmap(addr, page_bytes(), PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	case 2:
		madvise(addr, page_bytes(), MADV_DONTNEED);
		break;
	case 3:
		mprotect(addr, page_bytes(), PROT_READ);
		break;
	}
	if (show(place, after))
		hide(before);
}

static void wait_for(unsigned int place)
{
	while (!check_is_done(&play.writes[place])) {
		mmn_device_poll(agent.device);
		check_sleep(1000000);
	}
	check_end(&play.writes[place]);
	hold_put(play.writes[place].region);
	play.writes[place].busy = false;
}

/*
 * Writes of places that stay are checked at once; those of changed places were
 * over before the change was made, and what they wrote has been overwritten by
 * the mark since.
 */
static void verify(unsigned int place, bool changed)
{
	struct transfer *write = &play.writes[place];
	unsigned int page = play.page_of_write[place];

	if (write->transfer.result <= 0) {
		agent.slot->ended_by_change++;
		return;
	}
	agent.slot->play_writes++;
	agent.slot->written_bytes += (uint64_t)write->transfer.result;
	if (changed)
		return;
	agent.slot->play_checked++;
	agent.slot->checked++;
	agent.slot->checked_contents++;
	if (*spy_page(page) != tag(place))
		check_found_stale((uintptr_t)place_addr(place),
				  "a device write did not arrive in the page "
				  "mapped there");
}

static void check_hidden(void)
{
	unsigned int page;

	for (page = 0; page < PAGES; page++) {
		if (play.is_shown[page] || *spy_page(page) == MARK)
			continue;
		*spy_page(page) = MARK;
		check_found_stale(
			(uintptr_t)spy_page(page),
			"a device write reached a page that is mapped "
			"nowhere any more");
	}
}

void play_round(void)
{
	unsigned int place, changed;
	bool submitted[PLACES];

	if (!play.is_open)
		return;
	play.round++;
	changed = (unsigned int)raw_random();
	for (place = 0; place < PLACES; place++)
		submitted[place] = submit(place);
	for (place = 0; place < PLACES; place++)
		if (changed >> place & 1)
			change(place);
	for (place = 0; place < PLACES; place++) {
		if (!submitted[place])
			continue;
		agent.slot->transfers++;
		wait_for(place);
		verify(place, changed >> place & 1);
	}
	check_hidden();
}

void play_close(void)
{
	if (play.is_open)
		hold_forget((uintptr_t)play.stage,
			    (uintptr_t)play.stage + PLACES * page_bytes() - 1);
	play.is_open = false;
}
