#pragma once
#include "scalar.h"
#include <string.h>

/* The only writers of wire scalars, as read.h has the readers. */

static inline be16 wr_be16(uint16_t x) { be16 v; x = __builtin_bswap16(x); memcpy(&v, &x, 2); return v; }
static inline be32 wr_be32(uint32_t x) { be32 v; x = __builtin_bswap32(x); memcpy(&v, &x, 4); return v; }
/* Wire units: what does not divide by 1e-4 is cut off. */
static inline px4be64 wr_px4be64(int64_t price)
{
    px4be64 v;
    uint64_t x = __builtin_bswap64((uint64_t)(price / 100000));
    memcpy(&v, &x, 8);
    return v;
}
