#pragma once
#include "session/session.h"
#include <string.h>

/* The walk over the messages of a span. For C only. */

/* Length of the message whose prefix stands at `at` (<= span->len), or -1 when it is not whole. A
 * size below what it must count wraps, and is as wrong as one that is too large. */
static inline int64_t message_len(const struct span *span, uint32_t at)
{
    const uint32_t left = span->len - at;
    const struct prefix prefix = span->prefix;
    if (left < 2 || prefix.len == 0)
        return prefix.len == 0 && left > 0 ? (int64_t)left : -1;
    uint16_t raw;
    memcpy(&raw, span->blocks + at, sizeof raw);
    const uint32_t size = (uint32_t)(prefix.little ? raw : __builtin_bswap16(raw) >> prefix.shift) - prefix.own;
    return size <= left - prefix.len ? (int64_t)size : -1;
}

/* Do its messages fill the span exactly? */
static inline int messages_fit(const struct span *span)
{
    uint32_t at = 0;
    for (unsigned i = 0; i < span->count; i++) {
        int64_t len = message_len(span, at);
        if (len < 0)
            return 0;
        at += span->prefix.len + (uint32_t)len;
    }
    return at == span->len;
}
