#pragma once
#include "scalar.h"
#include <string.h>

/* The only readers of wire scalars: one load and at most one byte swap each. */

static inline uint16_t rd_be16(be16 v) { uint16_t x; memcpy(&x, &v, 2); return __builtin_bswap16(x); }
static inline uint32_t rd_be32(be32 v) { uint32_t x; memcpy(&x, &v, 4); return __builtin_bswap32(x); }
static inline uint64_t rd_be64(be64 v) { uint64_t x; memcpy(&x, &v, 8); return __builtin_bswap64(x); }
static inline uint16_t rd_le16(le16 v) { uint16_t x; memcpy(&x, &v, 2); return x; }
static inline uint32_t rd_le32(le32 v) { uint32_t x; memcpy(&x, &v, 4); return x; }
static inline uint64_t rd_le64(le64 v) { uint64_t x; memcpy(&x, &v, 8); return x; }

static inline uint64_t rd_ns48be(ns48be v)
{
    uint16_t high;
    uint32_t low;
    memcpy(&high, v.byte, 2);
    memcpy(&low, v.byte + 2, 4);
    return (uint64_t)__builtin_bswap16(high) << 32 | __builtin_bswap32(low);
}
/* Prices come out in units of 1e-9. */
static inline int64_t rd_px4be(px4be v) { uint32_t x; memcpy(&x, &v, 4); return (int64_t)__builtin_bswap32(x) * 100000; }
/* A price that does not fit 1e-9 in 64 bits is read as INT64_MAX: undefined. */
static inline int64_t rd_px8be(px8be v)
{
    uint64_t x;
    int64_t out;
    memcpy(&x, &v, 8);
    return __builtin_mul_overflow(__builtin_bswap64(x), 10, &out) ? INT64_MAX : out;
}
static inline int64_t rd_px4le(px4le v)
{
    int64_t x, out;
    memcpy(&x, &v, 8);
    return __builtin_mul_overflow(x, 100000, &out) ? INT64_MAX : out;
}
static inline uint64_t rd_ns64le(ns64le v) { uint64_t x; memcpy(&x, &v, 8); return x; }

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "these readers are for little-endian hosts");
