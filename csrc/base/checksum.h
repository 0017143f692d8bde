#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Internet checksum, RFC 1071. The sum is kept in the byte order of the packet, because the
 * one's complement sum does not depend on it (section 2 B): what is whole folds to 0xffff,
 * and ~fold is stored as it lies in memory. Since 2^16 = 1 (mod 0xffff), words of any multiple
 * of 16 bits may be summed, and the upper half of a 64-bit sum is worth the same as the lower. */

/* Adds `len` >= 8 bytes to a running sum. Only the last piece of a sum may have odd length. */
uint64_t checksum_add(uint64_t sum, const void *data, size_t len);

/* checksum_add() of a multiple of 4 bytes, unrolled where `len` is a constant. */
static inline uint64_t checksum_add_header(uint64_t sum, const void *data, size_t len)
{
    for (size_t i = 0; i < len; i += 4) {
        uint32_t word;
        memcpy(&word, (const uint8_t *)data + i, sizeof word);
        sum += word;
    }
    return sum;
}

static inline uint64_t checksum_halves(uint64_t word) { return (uint32_t)word + (word >> 32); }

static inline uint16_t checksum_fold(uint64_t sum)
{
    sum = checksum_halves(sum);     /* at most 33 bits */
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}
