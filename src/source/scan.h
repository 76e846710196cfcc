/* SPDX-License-Identifier: MIT */
#ifndef MMN_SOURCE_SCAN_H
#define MMN_SOURCE_SCAN_H
/*
 * Where in a program's code are calls made that change memory?
 *
 * A place is a `syscall` instruction.  The bytes 0f 05 alone prove nothing: they
 * occur inside other instructions.  So the function around them is looked up in
 * .eh_frame_hdr and decoded from its first instruction on, with Zydis; that
 * tells whether there is a system call at all, which instruction puts the
 * number into eax, and where branches lead.
 *
 * A place can be rewritten when one instruction of at least five bytes stands
 * before the system call, with nothing in between that depends on where it is,
 * and no branch leads behind its first byte:
 *
 *	b8 0b 00 00 00		mov  $11,%eax		<- site->at
 *	0f 05			syscall
 *	48 3d 01 f0 ff ff	cmp  ...		<- site->resume
 *
 * Replacing a single instruction, whole, is what makes it safe under running
 * threads: no thread can be in the middle of it.
 */
#include <link.h>
#include <stdbool.h>
#include <stdint.h>

/* Bytes from the replaced instruction to the system call, at most. */
#define MMN_MAX_MOVED 32u

/* The number in eax is not known before the call is made. */
#define MMN_NR_DYNAMIC UINT32_MAX

/*
 * Behind each system call of libmmn itself stands a no-op with this number in
 * it (base/syscall.h): those are never looked at.
 */
#define MMN_OWN_CALL_MARK "\x0f\x1f\x80\x6e\x6d\x6d\x00"

/* struct mmn_found - one place of interest */
struct mmn_found {
	/* where it runs */
	uint8_t *at;
	uint8_t *resume;
	/* the executable segment around it, whole pages */
	uintptr_t text_start;
	uintptr_t text_last;
	/* PROT_WRITE where it is always writable, else 0 */
	int text_prot;
	/* instructions from at to the system call, to be run elsewhere */
	uint8_t moved[MMN_MAX_MOVED];
	uint32_t nr_moved;
	uint32_t nr;
	/* MMN_REFUSE_*; unless NONE only resume is valid */
	uint32_t reason;
	/* the number is not known, and it cannot be rewritten either */
	bool is_unknown;
};

struct mmn_image_segment {
	uintptr_t vaddr;
	uintptr_t size;
	/* where its bytes can be read, not where they run */
	const uint8_t *bytes;
	bool is_exec;
	bool is_writable;
};

#define MMN_MAX_SEGMENTS 16u

/* struct mmn_image - an ELF object, loaded or in a file */
struct mmn_image {
	/* runs at vaddr + bias */
	uintptr_t bias;
	uint32_t nr_segments;
	struct mmn_image_segment segment[MMN_MAX_SEGMENTS];
	/* of .eh_frame_hdr; 0 for none */
	uintptr_t unwind_vaddr;
	/* MMN_REFUSE_* for everything in it */
	uint32_t refuse;
};

/* An object that the dynamic linker has loaded. */
void mmn_image_from_loaded(struct mmn_image *image,
			   const struct dl_phdr_info *info);

/*
 * A file, mapped for reading at @view.  @code is where the part of it from
 * @offset on has been mapped to run.  False when it is no such object.
 */
bool mmn_image_from_file(struct mmn_image *image, const uint8_t *view,
			 uintptr_t view_size, uintptr_t code, uint64_t offset);

/* Could there be a system call at all in these bytes? */
bool mmn_scan_has_candidate(const uint8_t *bytes, uintptr_t size);

/*
 * Calls @found for every place in the executable segments that makes a call of
 * interest or may do so.
 */
void mmn_scan_image(const struct mmn_image *image,
		    void (*found)(void *arg, const struct mmn_found *site),
		    void *arg);

#endif
