/* SPDX-License-Identifier: MIT */
/*
 * Where in a program's code are calls made that change memory?  See scan.h.
 *
 * Allocates nothing and calls nothing but Zydis, which does not either: it also
 * runs in the middle of dlopen().
 */
#include "source/scan.h"

#include <Zydis/Zydis.h>
#include <emmintrin.h>
#include <mmn/source.h>
#include <string.h>
#include <sys/mman.h>

#include "source/classify.h"

/* Instructions before a system call that are looked at. */
#define NR_RECENT 12u
/* Places in one function. */
#define NR_PLACES 24u

#define SYSCALL_LENGTH 2u
#define JUMP_LENGTH 5u
/* Bytes behind the end of a function that may still be part of it. */
#define NEAR_END 8u

/* Encodings of .eh_frame_hdr that all linkers use for it. */
#define ENCODING_UDATA4 0x03
#define ENCODING_DATAREL_SDATA4 0x3b
#define ENCODING_PCREL_SDATA4 0x1b

/* ---- images ---- */

static void add_segment(struct mmn_image *image, const ElfW(Phdr) * ph,
			const uint8_t *bytes)
{
	struct mmn_image_segment *segment;

	/* What cannot be read cannot be looked at. */
	if (!(ph->p_flags & PF_R) || image->nr_segments == MMN_MAX_SEGMENTS)
		return;
	segment = &image->segment[image->nr_segments++];
	segment->vaddr = ph->p_vaddr;
	segment->size = ph->p_filesz;
	segment->bytes = bytes;
	segment->is_exec = ph->p_flags & PF_X;
	segment->is_writable = ph->p_flags & PF_W;
}

/*
 * Go runs on stacks of a few hundred bytes, and its system calls with it; there
 * is no room for a dispatcher.  Its linker leaves a note with this name.
 */
static bool is_go_note(const uint8_t *note, uintptr_t size)
{
	ElfW(Nhdr) head;
	uintptr_t at = 0, step;

	while (size - at >= sizeof(head) + 4) {
		memcpy(&head, note + at, sizeof(head));
		if (head.n_namesz == 4 &&
		    !memcmp(note + at + sizeof(head), "Go\0", 4))
			return true;
		step = sizeof(head) + ((head.n_namesz + 3ul) & ~3ul) +
		       ((head.n_descsz + 3ul) & ~3ul);
		if (step > size - at)
			return false;
		at += step;
	}
	return false;
}

void mmn_image_from_loaded(struct mmn_image *image,
			   const struct dl_phdr_info *info)
{
	const ElfW(Phdr) * ph;
	const uint8_t *bytes;
	uint32_t i;

	image->bias = info->dlpi_addr;
	image->nr_segments = 0;
	image->unwind_vaddr = 0;
	image->refuse = MMN_REFUSE_NONE;
	for (i = 0; i < info->dlpi_phnum; i++) {
		ph = &info->dlpi_phdr[i];
		bytes = (const uint8_t *)(info->dlpi_addr + ph->p_vaddr);
		if (ph->p_type == PT_LOAD)
			add_segment(image, ph, bytes);
		else if (ph->p_type == PT_GNU_EH_FRAME)
			image->unwind_vaddr = ph->p_vaddr;
		else if (ph->p_type == PT_NOTE && ph->p_memsz &&
			 is_go_note(bytes, ph->p_memsz))
			image->refuse = MMN_REFUSE_SMALL_STACK;
	}
}

static bool is_inside(uint64_t offset, uint64_t length, uint64_t size)
{
	return offset <= size && length <= size - offset;
}

bool mmn_image_from_file(struct mmn_image *image, const uint8_t *view,
			 uintptr_t view_size, uintptr_t code, uint64_t offset)
{
	const uint64_t page = MMN_PAGE_SIZE - 1;
	ElfW(Ehdr) head;
	ElfW(Phdr) ph;
	bool has_code = false;
	uint32_t i;

	if (view_size < sizeof(head))
		return false;
	memcpy(&head, view, sizeof(head));
	if (memcmp(head.e_ident, ELFMAG, SELFMAG) ||
	    head.e_ident[EI_CLASS] != ELFCLASS64 ||
	    head.e_machine != EM_X86_64 || head.e_phentsize != sizeof(ph) ||
	    !is_inside(head.e_phoff, head.e_phnum * sizeof(ph), view_size))
		return false;

	image->bias = 0;
	image->nr_segments = 0;
	image->unwind_vaddr = 0;
	image->refuse = MMN_REFUSE_NONE;
	for (i = 0; i < head.e_phnum; i++) {
		memcpy(&ph, view + head.e_phoff + i * sizeof(ph), sizeof(ph));
		if (!is_inside(ph.p_offset, ph.p_filesz, view_size))
			continue;
		if (ph.p_type == PT_GNU_EH_FRAME)
			image->unwind_vaddr = ph.p_vaddr;
		if (ph.p_type == PT_NOTE &&
		    is_go_note(view + ph.p_offset, ph.p_filesz))
			image->refuse = MMN_REFUSE_SMALL_STACK;
		if (ph.p_type != PT_LOAD)
			continue;
		if ((ph.p_flags & PF_X) && (ph.p_offset & ~page) == offset) {
			image->bias = code - (ph.p_vaddr & ~page);
			has_code = true;
		} else {
			/* Only what was mapped now is looked at for places. */
			ph.p_flags &= ~(uint32_t)PF_X;
		}
		add_segment(image, &ph, view + ph.p_offset);
	}
	return has_code;
}

/* @length bytes at @vaddr, or NULL. */
static const uint8_t *image_bytes(const struct mmn_image *image,
				  uintptr_t vaddr, uintptr_t length)
{
	const struct mmn_image_segment *segment;
	uint32_t i;

	for (i = 0; i < image->nr_segments; i++) {
		segment = &image->segment[i];
		if (vaddr >= segment->vaddr &&
		    is_inside(vaddr - segment->vaddr, length, segment->size))
			return segment->bytes + (vaddr - segment->vaddr);
	}
	return NULL;
}

/* ---- functions ---- */

struct function {
	uintptr_t start;
	uintptr_t end;
};

static int32_t get_s32(const uint8_t *from)
{
	int32_t value;

	memcpy(&value, from, sizeof(value));
	return value;
}

/*
 * .eh_frame_hdr: a sorted table of (function, its unwind entry), both relative
 * to the header.  The entry says how long the function is.
 */
static bool find_function(const struct mmn_image *image, uintptr_t vaddr,
			  struct function *ret)
{
	uintptr_t hdr = image->unwind_vaddr, entry;
	const uint8_t *bytes;
	uint32_t count, low, high, middle;

	bytes = hdr ? image_bytes(image, hdr, 12) : NULL;
	if (!bytes || bytes[0] != 1 || bytes[2] != ENCODING_UDATA4 ||
	    bytes[3] != ENCODING_DATAREL_SDATA4 ||
	    bytes[1] != ENCODING_PCREL_SDATA4)
		return false;
	count = (uint32_t)get_s32(bytes + 8);
	bytes = image_bytes(image, hdr + 12, count * 8ul);
	if (!count || !bytes || hdr + (uintptr_t)get_s32(bytes) > vaddr)
		return false;
	low = 0;
	high = count;
	while (high - low > 1) {
		middle = low + (high - low) / 2;
		if (hdr + (uintptr_t)get_s32(bytes + middle * 8ul) <= vaddr)
			low = middle;
		else
			high = middle;
	}
	ret->start = hdr + (uintptr_t)get_s32(bytes + low * 8ul);
	entry = hdr + (uintptr_t)get_s32(bytes + low * 8ul + 4);

	/* length, pointer to the common part, function start, size */
	bytes = image_bytes(image, entry, 16);
	if (!bytes || entry + 8 + (uintptr_t)get_s32(bytes + 8) != ret->start)
		return false;
	ret->end = ret->start + (uint32_t)get_s32(bytes + 12);
	/*
	 * libc's clone() ends its entry just before the system call, because
	 * the child must not be unwound: what follows directly belongs to it.
	 */
	if (vaddr >= ret->end && vaddr - ret->end < NEAR_END)
		ret->end = vaddr + SYSCALL_LENGTH;
	return vaddr < ret->end;
}

/* ---- one function ---- */

/* What matters about an instruction before a system call. */
struct insn {
	uint8_t length;
	/* does the same wherever it is */
	bool is_movable;
	/* what follows does not run directly after it */
	bool ends_line;
	bool writes_rax;
	/* mov $nr,%eax */
	bool is_number;
	uint32_t nr;
	/* mov %reg,%eax */
	bool is_copy;
	uint8_t reg;
};

/* Where the last instructions began, in a ring. */
struct recent {
	uintptr_t vaddr[NR_RECENT];
	uint32_t nr;
};

/*
 * Constants in registers: what `mov $x,%reg` last put there, in order of
 * address, and whether that ever was a number of interest.
 */
struct constants {
	uint16_t known;
	uint16_t of_interest;
};

struct place {
	uintptr_t at;
	uintptr_t call;
	uint32_t nr;
	uint8_t reg;
	/* eax is a copy of reg, which holds a constant */
	bool is_constant_copy;
	uint32_t reason;
};

struct scan {
	const struct mmn_image *image;
	void (*found)(void *arg, const struct mmn_found *site);
	void *arg;
	ZydisDecoder decoder;
	/* knows lengths only, and those fast */
	ZydisDecoder ruler;
	const struct mmn_image_segment *segment;
	struct function function;
	struct constants constants;
	uint32_t nr_places;
	struct place place[NR_PLACES];
};

static uint8_t general_register(ZydisRegister reg)
{
	ZydisRegister wide = ZydisRegisterGetLargestEnclosing(
		ZYDIS_MACHINE_MODE_LONG_64, reg);

	if (wide < ZYDIS_REGISTER_RAX || wide > ZYDIS_REGISTER_R15)
		return UINT8_MAX;
	return (uint8_t)(wide - ZYDIS_REGISTER_RAX);
}

static bool ends_a_line(const ZydisDecodedInstruction *decoded)
{
	switch (decoded->meta.category) {
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_RET:
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_SYSCALL:
	case ZYDIS_CATEGORY_SYSRET:
	case ZYDIS_CATEGORY_SYSTEM:
	case ZYDIS_CATEGORY_INTERRUPT:
		return true;
	default:
		return decoded->mnemonic == ZYDIS_MNEMONIC_HLT ||
		       decoded->mnemonic == ZYDIS_MNEMONIC_UD2;
	}
}

/* What a write of eax puts there. */
static void describe_number(struct insn *insn,
			    const ZydisDecodedInstruction *decoded,
			    const ZydisDecodedOperand *to,
			    const ZydisDecodedOperand *from)
{
	if (to->type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    general_register(to->reg.value) != 0 || to->size < 32)
		return;
	if (decoded->mnemonic == ZYDIS_MNEMONIC_MOV &&
	    from->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		insn->is_number = true;
		insn->nr = (uint32_t)from->imm.value.u;
	} else if (decoded->mnemonic == ZYDIS_MNEMONIC_MOV &&
		   from->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		insn->reg = general_register(from->reg.value);
		insn->is_copy = insn->reg != UINT8_MAX;
	} else if (decoded->mnemonic == ZYDIS_MNEMONIC_XOR &&
		   from->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		   from->reg.value == to->reg.value) {
		insn->is_number = true;
		insn->nr = 0;
	}
}

static bool describe(const struct scan *scan, uintptr_t vaddr,
		     struct insn *insn)
{
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	uintptr_t left = scan->function.end - vaddr;
	ZydisDecodedInstruction decoded;
	const uint8_t *bytes;
	uint8_t i;

	bytes = image_bytes(scan->image, vaddr, left);
	if (!bytes || !ZYAN_SUCCESS(ZydisDecoderDecodeFull(
			      &scan->decoder, bytes, left, &decoded, operands)))
		return false;
	memset(insn, 0, sizeof(*insn));
	insn->length = decoded.length;
	insn->ends_line = ends_a_line(&decoded);
	insn->is_movable = !(decoded.attributes & ZYDIS_ATTRIB_IS_RELATIVE);
	for (i = 0; i < decoded.operand_count; i++) {
		if (operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !(operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		if (general_register(operands[i].reg.value) == 0)
			insn->writes_rax = true;
	}
	if (insn->writes_rax)
		describe_number(insn, &decoded, &operands[0], &operands[1]);
	return true;
}

/*
 * Walks back from the system call.  Finds the number and the instruction to
 * replace.
 */
static void describe_place(const struct scan *scan, struct place *place,
			   uintptr_t call, const struct recent *recent)
{
	uint32_t i, nr = recent->nr < NR_RECENT ? recent->nr : NR_RECENT;
	bool can_move = true;
	struct insn insn;
	uintptr_t vaddr;

	memset(place, 0, sizeof(*place));
	place->call = call;
	place->nr = MMN_NR_DYNAMIC;
	place->reason = MMN_REFUSE_SHAPE;
	for (i = 1; i <= nr; i++) {
		vaddr = recent->vaddr[(recent->nr - i) % NR_RECENT];
		if (!describe(scan, vaddr, &insn) || insn.ends_line)
			return;
		if (!insn.is_movable || call - vaddr > MMN_MAX_MOVED)
			can_move = false;
		/* The nearest long one: least to move. */
		if (can_move && !place->at && insn.length >= JUMP_LENGTH) {
			place->at = vaddr;
			place->reason = MMN_REFUSE_NONE;
		}
		if (!insn.writes_rax)
			continue;
		if (insn.is_number)
			place->nr = insn.nr;
		place->reg = insn.reg;
		place->is_constant_copy =
			insn.is_copy && (scan->constants.known >> insn.reg & 1);
		return;
	}
}

/* `mov $x,%reg`, by its bytes. */
static void note_constant(struct constants *constants, const uint8_t *bytes,
			  uint8_t length)
{
	uint8_t reg;
	uint32_t x;

	if (length == 5 && (bytes[0] & 0xf8) == 0xb8)
		reg = bytes[0] & 7;
	else if (length == 6 && bytes[0] == 0x41 && (bytes[1] & 0xf8) == 0xb8)
		reg = (bytes[1] & 7) + 8;
	else
		return;
	memcpy(&x, bytes + length - 4, sizeof(x));
	constants->known |= (uint16_t)(1u << reg);
	if (mmn_classify_is_candidate(x))
		constants->of_interest |= (uint16_t)(1u << reg);
}

/*
 * First pass: from the first byte on, by lengths, so that what looks like a
 * system call inside another instruction is not taken for one.  Returns how far it
 * came: to the end, unless there are too many places or no instruction.
 */
static uintptr_t find_places(struct scan *scan)
{
	uintptr_t vaddr = scan->function.start, end = scan->function.end;
	const uint8_t *bytes = image_bytes(scan->image, vaddr, end - vaddr);
	struct recent recent = { .nr = 0 };
	ZydisDecodedInstruction decoded;

	scan->nr_places = 0;
	memset(&scan->constants, 0, sizeof(scan->constants));
	while (bytes && vaddr < end) {
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(
			    &scan->ruler, NULL, bytes, end - vaddr, &decoded)))
			break;
		if (decoded.length == SYSCALL_LENGTH && bytes[0] == 0x0f &&
		    bytes[1] == 0x05) {
			if (scan->nr_places == NR_PLACES)
				break;
			describe_place(scan, &scan->place[scan->nr_places++],
				       vaddr, &recent);
		}
		note_constant(&scan->constants, bytes, decoded.length);
		recent.vaddr[recent.nr++ % NR_RECENT] = vaddr;
		vaddr += decoded.length;
		bytes += decoded.length;
	}
	return vaddr;
}

static void refuse_places(struct scan *scan)
{
	uint32_t i;

	for (i = 0; i < scan->nr_places; i++)
		scan->place[i].reason = MMN_REFUSE_SHAPE;
}

/*
 * Second pass: no branch may lead behind the first byte of a place.  Where the
 * function cannot be read to its end, nobody knows where branches lead.
 */
static void find_targets(struct scan *scan)
{
	uintptr_t vaddr = scan->function.start, end = scan->function.end;
	const uint8_t *bytes = image_bytes(scan->image, vaddr, end - vaddr);
	ZydisDecodedInstruction decoded;
	struct place *place;
	uintptr_t target;
	uint32_t i;

	while (vaddr < end) {
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(
			    &scan->decoder, NULL, bytes, end - vaddr,
			    &decoded))) {
			refuse_places(scan);
			return;
		}
		vaddr += decoded.length;
		bytes += decoded.length;
		if (decoded.meta.branch_type == ZYDIS_BRANCH_TYPE_NONE ||
		    !decoded.raw.imm[0].is_relative)
			continue;
		target = vaddr + (uintptr_t)decoded.raw.imm[0].value.s;
		for (i = 0; i < scan->nr_places; i++) {
			place = &scan->place[i];
			if (place->at && target > place->at &&
			    target <= place->call)
				place->reason = MMN_REFUSE_TARGET;
		}
	}
}

static bool is_of_interest(const struct place *place)
{
	return place->nr == MMN_NR_DYNAMIC ||
	       mmn_classify_is_candidate(place->nr);
}

static bool has_movable_place(const struct scan *scan)
{
	uint32_t i;

	for (i = 0; i < scan->nr_places; i++)
		if (scan->place[i].at && is_of_interest(&scan->place[i]))
			return true;
	return false;
}

/*
 * `mov %r9d,%eax` where r9d was given a constant further up, and never a number
 * of interest: compilers keep the number of futex() in a register that way.
 */
static bool is_harmless_copy(const struct scan *scan, const struct place *place)
{
	return place->is_constant_copy &&
	       !(scan->constants.of_interest >> place->reg & 1);
}

/* What stands before the system call and gives way to the jump. */
static bool copy_moved(const struct scan *scan, const struct place *place,
		       struct mmn_found *site)
{
	uintptr_t length = place->call - place->at;
	const uint8_t *bytes = image_bytes(scan->image, place->at, length);

	if (!bytes || length > sizeof(site->moved))
		return false;
	memcpy(site->moved, bytes, length);
	site->nr_moved = (uint32_t)length;
	return true;
}

static void report_place(struct scan *scan, const struct place *place)
{
	struct mmn_found site = { .nr = place->nr, .reason = place->reason };
	const uint8_t *bytes;

	if (!is_of_interest(place) || is_harmless_copy(scan, place))
		return;
	bytes = image_bytes(scan->image, place->call + SYSCALL_LENGTH,
			    sizeof(MMN_OWN_CALL_MARK) - 1);
	if (bytes &&
	    !memcmp(bytes, MMN_OWN_CALL_MARK, sizeof(MMN_OWN_CALL_MARK) - 1))
		return;

	site.resume =
		(uint8_t *)(place->call + SYSCALL_LENGTH + scan->image->bias);
	if (site.reason == MMN_REFUSE_NONE)
		site.reason = scan->image->refuse;
	if (site.reason == MMN_REFUSE_NONE && !copy_moved(scan, place, &site))
		site.reason = MMN_REFUSE_SHAPE;
	if (site.reason == MMN_REFUSE_NONE) {
		site.at = (uint8_t *)(place->at + scan->image->bias);
		site.text_start = (scan->segment->vaddr + scan->image->bias) &
				  ~(MMN_PAGE_SIZE - 1);
		site.text_last = (scan->segment->vaddr + scan->image->bias +
				  scan->segment->size - 1) |
				 (MMN_PAGE_SIZE - 1);
		if (scan->segment->is_writable)
			site.text_prot = PROT_WRITE;
	} else {
		site.is_unknown = place->nr == MMN_NR_DYNAMIC;
	}
	scan->found(scan->arg, &site);
}

/* ---- everything ---- */

/* Sixteen bytes at a time: 0f alone is far too common for memchr(). */
static const uint8_t *next_candidate(const uint8_t *bytes, const uint8_t *end)
{
	const __m128i first = _mm_set1_epi8(0x0f);
	const __m128i second = _mm_set1_epi8(0x05);
	__m128i here, next;
	int found;

	for (; end - bytes >= 17; bytes += 16) {
		here = _mm_loadu_si128((const __m128i *)bytes);
		next = _mm_loadu_si128((const __m128i *)(bytes + 1));
		found = _mm_movemask_epi8(
			_mm_and_si128(_mm_cmpeq_epi8(here, first),
				      _mm_cmpeq_epi8(next, second)));
		if (found)
			return bytes + __builtin_ctz((unsigned int)found);
	}
	for (; end - bytes >= 2; bytes++)
		if (bytes[0] == 0x0f && bytes[1] == 0x05)
			return bytes;
	return NULL;
}

bool mmn_scan_has_candidate(const uint8_t *bytes, uintptr_t size)
{
	return next_candidate(bytes, bytes + size);
}

/*
 * `mov $nr,%eax; syscall` of a call of no interest, at a glance.  Most are, and
 * decoding their functions is what would take the time.  The byte before tells
 * it from a move to r8d; the long form is that of signal returns.
 */
static bool is_harmless_call(const uint8_t *bytes, uintptr_t before)
{
	uint32_t nr;

	if (before < 7)
		return false;
	if (memcmp(bytes - 7, "\x48\xc7\xc0", 3) &&
	    (bytes[-5] != 0xb8 || (bytes[-6] & 0xf0) == 0x40))
		return false;
	memcpy(&nr, bytes - 4, sizeof(nr));
	return nr < 512 && !mmn_classify_is_candidate(nr);
}

/* Out of reach of the passes: worth a word when it looks like a call. */
static void report_stray(struct scan *scan, const uint8_t *bytes,
			 uintptr_t vaddr, uint32_t reason)
{
	struct mmn_found site = {
		.resume =
			(uint8_t *)(vaddr + SYSCALL_LENGTH + scan->image->bias),
		.nr = MMN_NR_DYNAMIC,
		.reason = reason,
		.is_unknown = true,
	};

	if (bytes - scan->segment->bytes < 5 || bytes[-5] != 0xb8)
		return;
	memcpy(&site.nr, bytes - 4, sizeof(site.nr));
	if (mmn_classify_is_candidate(site.nr))
		scan->found(scan->arg, &site);
}

static void scan_segment(struct scan *scan,
			 const struct mmn_image_segment *segment)
{
	const uint8_t *end = segment->bytes + segment->size;
	const uint8_t *bytes = segment->bytes;
	uintptr_t vaddr, known;
	uint32_t i;

	scan->segment = segment;
	while ((bytes = next_candidate(bytes, end))) {
		if (is_harmless_call(bytes,
				     (uintptr_t)(bytes - segment->bytes))) {
			bytes += SYSCALL_LENGTH;
			continue;
		}
		vaddr = segment->vaddr + (uintptr_t)(bytes - segment->bytes);
		if (!find_function(scan->image, vaddr, &scan->function)) {
			report_stray(scan, bytes, vaddr, MMN_REFUSE_NO_UNWIND);
			bytes += SYSCALL_LENGTH;
			continue;
		}
		known = find_places(scan);
		/* What is before it in this function has been reported. */
		if (known <= vaddr) {
			report_stray(scan, bytes, vaddr, MMN_REFUSE_SHAPE);
			bytes += SYSCALL_LENGTH;
			continue;
		}
		if (has_movable_place(scan))
			find_targets(scan);
		for (i = 0; i < scan->nr_places; i++)
			report_place(scan, &scan->place[i]);
		bytes += known - vaddr;
		if (bytes > end)
			return;
	}
}

void mmn_scan_image(const struct mmn_image *image,
		    void (*found)(void *arg, const struct mmn_found *site),
		    void *arg)
{
	struct scan scan = { .image = image, .found = found, .arg = arg };
	uint32_t i;

	ZydisDecoderInit(&scan.decoder, ZYDIS_MACHINE_MODE_LONG_64,
			 ZYDIS_STACK_WIDTH_64);
	scan.ruler = scan.decoder;
	ZydisDecoderEnableMode(&scan.ruler, ZYDIS_DECODER_MODE_MINIMAL,
			       ZYAN_TRUE);
	for (i = 0; i < image->nr_segments; i++)
		if (image->segment[i].is_exec)
			scan_segment(&scan, &image->segment[i]);
}
