#pragma once
#include "source/capture_info.h"
#include "source/window.h"
#include <errno.h>
#include <string.h>

/* What the pcap and the pcapng walk share. A walk's step returns 1 with a frame, 0 with
 * nothing (a block passed over), or, without having moved:
 *   -EAGAIN   the rest of the record comes with the next window_advance()
 *   -ENODATA  the clean end
 *   -EBADMSG  it breaks here; info.reason and info.truncated say how
 * As nothing moves, asking again gives the same answer. */

enum {
    CAPLEN_MAX = 262144,        /* libpcap's MAXIMUM_SNAPLEN */
    PREFETCH_AHEAD = 2048,      /* bytes */
    CACHE_LINE = 64,
};

/* Record headers are a chain of cache misses, and what follows each is read soon: as many bytes
 * as were just walked over are fetched, so far ahead that they are here in time. */
static inline void walk_prefetch(const uint8_t *at, uint32_t walked)
{
    for (uint32_t i = 0; i < walked; i += CACHE_LINE)
        __builtin_prefetch(at + PREFETCH_AHEAD + i);
}

/* A snap length of 0, or one above CAPLEN_MAX, says nothing. */
static inline uint32_t caplen_limit(uint32_t snaplen)
{
    return snaplen == 0 || snaplen > CAPLEN_MAX ? CAPLEN_MAX : snaplen;
}

static inline uint32_t load32(const uint8_t *at, int swap)
{
    uint32_t v;
    memcpy(&v, at, 4);
    return swap ? __builtin_bswap32(v) : v;
}

static inline uint16_t load16(const uint8_t *at, int swap)
{
    uint16_t v;
    memcpy(&v, at, 2);
    return swap ? __builtin_bswap16(v) : v;
}

/* -EBADMSG, with the reason written. */
__attribute__((format(printf, 2, 3)))
int walk_broken(struct capture_info *info, const char *format, ...);

/* For when fewer bytes are left than `what`, begun at `offset`, needs. */
int walk_short(struct capture_info *info, const struct window *w, uint64_t offset,
               const char *what);
