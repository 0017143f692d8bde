#pragma once
#include "counter_id.h"

/* Where in a frame a parser is, with two lengths: what the capture cut off is told apart from
 * what the packet lies about by comparing a need with both. Reads stay within `have`. */
#define CURSOR_INLINE static inline __attribute__((always_inline))

struct cursor {
    const uint8_t *at;
    uint32_t have;      /* bytes captured from here on */
    uint32_t wire;      /* bytes there were, or that the IP length allows; >= have */
};

/* 0 when `need` bytes are here; else whose fault it is. */
CURSOR_INLINE int lacks(const struct cursor *c, uint32_t need, int reason)
{
    if (__builtin_expect(need <= c->have, 1))
        return 0;
    return need <= c->wire ? COUNT_drop_capture_truncated : reason;
}

/* Past bytes that lacks() found to be here. */
CURSOR_INLINE const void *take(struct cursor *c, uint32_t len)
{
    const uint8_t *header = c->at;
    c->at += len;
    c->have -= len;
    c->wire -= len;
    return header;
}

/* Cuts the data to the length that the IP header states; lacks() found it to be on the wire. */
CURSOR_INLINE void narrow(struct cursor *c, uint32_t len)
{
    c->wire = len;
    if (c->have > len)
        c->have = len;
}
