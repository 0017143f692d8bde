#include "checksum.h"

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

/* The last `len` < 8 bytes. Where 8 or more came before, they end a word whose beginning is
 * counted already and shifted out. */
static inline uint64_t tail(const uint8_t *at, size_t len, size_t before)
{
    uint64_t word = 0;
    if (len == 0)
        return 0;
    if (before >= 8)
        return load_word(at + len - 8) >> (64 - 8 * len);
    while (len-- > 0)
        word = word << 8 | at[len];
    return word;
}

uint64_t checksum_add(uint64_t sum, const void *data, size_t len)
{
    const uint8_t *at = data;
    const lanes low = { UINT32_MAX, UINT32_MAX };
    lanes a = { 0, 0 }, b = { 0, 0 };
    size_t left = len;
    for (; left >= 32; at += 32, left -= 32) {
        lanes x = load_lanes(at), y = load_lanes(at + 16);
        a += (x & low) + (x >> 32);
        b += (y & low) + (y >> 32);
    }
    a += b;
    sum += a[0] + a[1];
    for (; left >= 8; at += 8, left -= 8)
        sum += checksum_halves(load_word(at));
    return sum + checksum_halves(tail(at, left, len - left));
}
