#pragma once
#include <nmmintrin.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t load64(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* CRC32C by the SSE4.2 instruction, eight bytes a step. The last step takes the last eight, some
 * of them for the second time: no tail to work off, and as sharp, as the length is hashed too. */
static inline uint32_t crc32c(const uint8_t *data, uint32_t len)
{
    const uint8_t *end = data + len;
    uint64_t crc = len;
    if (len >= 8) {
        for (const uint8_t *last = end - 8; data < last; data += 8)
            crc = _mm_crc32_u64(crc, load64(data));
        return (uint32_t)_mm_crc32_u64(crc, load64(end - 8));
    }
    while (data < end)
        crc = _mm_crc32_u8((uint32_t)crc, *data++);
    return (uint32_t)crc;
}
