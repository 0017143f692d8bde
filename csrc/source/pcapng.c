#include "source/pcapng.h"

/* Every block is: type, total length, body, total length again, in the byte order of its
 * section; sections begin with a Section Header Block whose magic tells that order and
 * whose type reads the same either way (section 4.1). A block that carries a frame, an
 * interface or a section must lie in the window as a whole; any other may be of any size
 * and is passed over as its bytes come by. A length that breaks the framing ends the walk:
 * there is nothing to find the next block by. */

enum {
    BLOCK_INTERFACE = 1,
    BLOCK_PACKET = 2,           /* obsolete, appendix A */
    BLOCK_SIMPLE = 3,
    BLOCK_ENHANCED = 6,
    BLOCK_SECTION = 0x0a0d0d0a,
    MAGIC = 0x1a2b3c4d,
    HEAD = 8, TAIL = 4,         /* around the body */
    OPTION_END = 0, OPTION_TSRESOL = 9, OPTION_TSOFFSET = 14,
};

_Static_assert(CAPLEN_MAX + 4096 <= WINDOW_KEEP, "the longest frame and its options fit a window");

static const uint64_t NS_PER_S = 1000000000;

struct block {
    const uint8_t *at;
    uint64_t offset;
    uint32_t total;
    int swap;
};

static uint32_t field32(const struct block *b, uint32_t at) { return load32(b->at + at, b->swap); }
static uint16_t field16(const struct block *b, uint32_t at) { return load16(b->at + at, b->swap); }

static uint64_t power10(int n)
{
    uint64_t v = 1;
    while (n-- > 0)
        v *= 10;
    return v;
}

/* In __int128, for a far if_tsoffset or a coarse resolution can exceed 64 bits. */
static uint64_t ns_of(const struct interface *f, uint64_t ts)
{
    __int128 ns = f->div != 0 ? ts / f->div : (unsigned __int128)ts * f->mul >> f->shift;
    ns += (__int128)f->offset_s * (int64_t)NS_PER_S;
    return ns < 0 ? 0 : ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns;
}

/* if_tsresol, section 4.2: 10^-n, or 2^-n with the top bit set. */
static void set_resolution(struct interface *f, uint8_t tsresol)
{
    int n = tsresol & 0x7f;
    f->mul = NS_PER_S;
    f->div = 0;
    f->shift = tsresol & 0x80 ? (uint8_t)n : 0;
    if (tsresol & 0x80)
        return;
    f->mul = n <= 9 ? power10(9 - n) : n <= 28 ? 1 : 0;  /* 2^64 units of 10^-29 s are < 1 ns */
    f->div = n > 9 && n <= 28 ? power10(n - 9) : 0;
}

static int read_option(struct interface *f, const struct block *b, uint32_t code, uint32_t at,
                       uint32_t length)
{
    if (code == OPTION_TSRESOL && length == 1) {
        set_resolution(f, b->at[at]);
    } else if (code == OPTION_TSOFFSET && length == 8) {
        uint64_t v;
        memcpy(&v, b->at + at, 8);
        f->offset_s = (int64_t)(b->swap ? __builtin_bswap64(v) : v);
    } else if (code == OPTION_TSRESOL || code == OPTION_TSOFFSET) {
        return -EBADMSG;        /* misread, every time stamp would be wrong */
    }
    return 0;
}

static int read_options(struct interface *f, const struct block *b, uint32_t at)
{
    uint32_t end = b->total - TAIL;
    while (end - at >= 4) {
        uint32_t code = field16(b, at), length = field16(b, at + 2);
        uint32_t padded = (length + 3) & ~3u;
        if (code == OPTION_END)
            break;
        if (padded > end - at - 4 || read_option(f, b, code, at + 4, length) < 0)
            return -EBADMSG;
        at += 4 + padded;
    }
    return 0;
}

static int read_interface(struct pcapng *ng, struct capture_info *info, const struct block *b)
{
    if (b->total < 20 || ng->interfaces == INTERFACES_MAX)
        return walk_broken(info,
                           "block at offset %lu: interface block too short, or above %d of them",
                           b->offset, INTERFACES_MAX);
    struct interface f = { .link = field16(b, 8), .snaplen = field32(b, 12) };
    f.caplen_max = caplen_limit(f.snaplen);
    set_resolution(&f, 6);
    if (read_options(&f, b, 16) < 0)
        return walk_broken(info, "block at offset %lu: malformed interface option", b->offset);
    if (info->link < 0) {
        info->link = f.link;
        info->precision_ns = f.shift < 30 && f.mul != 0 ? (int32_t)(f.mul >> f.shift) : 1;
    }
    ng->interface[ng->interfaces++] = f;
    return 0;
}

static int read_section(struct pcapng *ng, struct capture_info *info, const struct block *b)
{
    if (b->total < 28)
        return walk_broken(info, "block at offset %lu: section header too short", b->offset);
    if (field16(b, 12) != 1)
        return walk_broken(info, "block at offset %lu: pcapng version %u.%u is not supported",
                           b->offset, field16(b, 12), field16(b, 14));
    ng->swap = b->swap;
    ng->interfaces = 0;
    return 0;
}

/* Enhanced (4.3) and obsolete packet block: they differ in how the interface is numbered. */
static int read_frame(struct pcapng *ng, struct capture_info *info, const struct block *b,
                      uint32_t id, struct packet *packet)
{
    if (id >= (uint32_t)ng->interfaces)
        return walk_broken(info, "block at offset %lu: interface %u is not described",
                           b->offset, id);
    const struct interface *f = &ng->interface[id];
    uint32_t caplen = field32(b, 20), wirelen = field32(b, 24);
    if (caplen > f->caplen_max)
        return walk_broken(info, "block at offset %lu: captured length %u is above the limit of %u",
                           b->offset, caplen, f->caplen_max);
    if (((caplen + 3) & ~3u) > b->total - 28 - TAIL)
        return walk_broken(info, "block at offset %lu: captured length %u exceeds the block of %u",
                           b->offset, caplen, b->total);
    *packet = (struct packet){
        .data = b->at + 28, .ts_recv = ns_of(f, (uint64_t)field32(b, 12) << 32 | field32(b, 16)),
        .caplen = caplen, .wirelen = wirelen > caplen ? wirelen : caplen, .link = f->link,
    };
    return 1;
}

/* Simple packet block (4.4): of interface 0, without a time stamp, so stamped 0, and the
 * captured length is implied. */
static int read_simple(struct pcapng *ng, struct capture_info *info, const struct block *b,
                       struct packet *packet)
{
    if (ng->interfaces == 0)
        return walk_broken(info, "block at offset %lu: interface 0 is not described", b->offset);
    const struct interface *f = &ng->interface[0];
    uint32_t wirelen = field32(b, 8);
    uint32_t caplen = f->snaplen != 0 && wirelen > f->snaplen ? f->snaplen : wirelen;
    if (caplen > b->total - 12 - TAIL || caplen > CAPLEN_MAX)
        return walk_broken(info, "block at offset %lu: captured length %u exceeds the block of %u",
                           b->offset, caplen, b->total);
    *packet = (struct packet){
        .data = b->at + 12, .caplen = caplen, .wirelen = wirelen, .link = f->link,
    };
    return 1;
}

static int read_block(struct pcapng *ng, struct capture_info *info, const struct block *b,
                      uint32_t type, struct packet *packet)
{
    if (type == BLOCK_SECTION)
        return read_section(ng, info, b);
    if (type == BLOCK_INTERFACE)
        return read_interface(ng, info, b);
    if (b->total < (type == BLOCK_SIMPLE ? 16u : 32u))
        return walk_broken(info, "block at offset %lu: packet block too short", b->offset);
    if (type == BLOCK_SIMPLE)
        return read_simple(ng, info, b, packet);
    return read_frame(ng, info, b, type == BLOCK_PACKET ? field16(b, 8) : field32(b, 8), packet);
}

static int tail_mismatch(struct capture_info *info, uint64_t offset, uint32_t total, uint32_t tail)
{
    return walk_broken(info, "block at offset %lu: length %u, but %u at its end",
                       offset, total, tail);
}

/* One step through a block that is passed over; only its trailing length is looked at. */
static int skip_block(struct pcapng *ng, struct window *w, struct capture_info *info)
{
    uint64_t body = ng->skip - TAIL;
    uint64_t step = body < window_left(w) ? body : window_left(w);
    w->at += step;
    ng->skip -= step;
    if (ng->skip > TAIL || window_left(w) < TAIL)
        return walk_short(info, w, ng->skip_start, "block");
    uint32_t tail = load32(w->at, ng->swap);
    if (tail != ng->skip_total)
        return tail_mismatch(info, ng->skip_start, ng->skip_total, tail);
    w->at += TAIL;
    ng->skip = 0;
    info->skipped++;
    return 0;
}

static int is_read(uint32_t type)
{
    return type == BLOCK_ENHANCED || type == BLOCK_INTERFACE || type == BLOCK_PACKET
        || type == BLOCK_SIMPLE || type == BLOCK_SECTION;
}

static int section_order(const uint8_t *at, int swap)
{
    if (load32(at, 0) != BLOCK_SECTION)
        return swap;
    return load32(at + HEAD, 0) == MAGIC ? 0 : load32(at + HEAD, 1) == MAGIC ? 1 : -1;
}

int pcapng_next(struct pcapng *ng, struct window *w, struct capture_info *info,
                struct packet *packet)
{
    if (ng->skip != 0)
        return skip_block(ng, w, info);
    struct block b = { .at = w->at, .offset = window_offset(w) };
    if (window_left(w) < HEAD + TAIL)
        return walk_short(info, w, b.offset, "block header");
    b.swap = section_order(b.at, ng->swap);
    if (b.swap < 0)
        return walk_broken(info, "block at offset %lu: section header without its magic", b.offset);
    uint32_t type = field32(&b, 0);
    b.total = field32(&b, 4);
    if (b.total < HEAD + TAIL || b.total % 4 != 0)
        return walk_broken(info, "block at offset %lu: impossible length %u", b.offset, b.total);
    if (!is_read(type)) {
        ng->skip = ng->skip_total = b.total;
        ng->skip_start = b.offset;
        return skip_block(ng, w, info);
    }
    if (b.total > WINDOW_KEEP)
        return walk_broken(info, "block at offset %lu: length %u is above the limit of %u",
                           b.offset, b.total, WINDOW_KEEP);
    if (window_left(w) < b.total)
        return walk_short(info, w, b.offset, "block");
    walk_prefetch(b.at, b.total);
    if (field32(&b, b.total - TAIL) != b.total)
        return tail_mismatch(info, b.offset, b.total, field32(&b, b.total - TAIL));
    int rc = read_block(ng, info, &b, type, packet);
    if (rc >= 0)
        w->at += b.total;
    return rc;
}
