#include "base/checksum.h"

/* Two lanes of 64 bits, each adding 32-bit halves: room for 2^32 turns, no carry to keep. */
typedef uint64_t lanes __attribute__((vector_size(16)));

static inline lanes load_lanes(const uint8_t *at)
{
    lanes v;
    memcpy(&v, at, sizeof v);
    return v;
}

static inline uint64_t load_word(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

uint64_t checksum_add(uint64_t sum, const void *data, size_t left)
{
    const uint8_t *at = data;
    const lanes low = { UINT32_MAX, UINT32_MAX };
    lanes a = { 0, 0 }, b = { 0, 0 };
    for (; left >= 32; at += 32, left -= 32) {
        lanes x = load_lanes(at), y = load_lanes(at + 16);
        a += (x & low) + (x >> 32);
        b += (y & low) + (y >> 32);
    }
    a += b;
    sum += a[0] + a[1];
    for (; left >= 8; at += 8, left -= 8)
        sum += checksum_halves(load_word(at));
    if (left == 0)
        return sum;
    /* The last word begins with bytes that are counted already: they are shifted out. */
    return sum + checksum_halves(load_word(at + left - 8) >> (64 - 8 * left));
}
