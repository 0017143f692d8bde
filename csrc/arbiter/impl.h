#pragma once
#include "arbiter/arbiter.h"
#include "arbiter/hold.h"
#include "counter_id.h"
#include <nmmintrin.h>
#include <stdbool.h>
#include <string.h>

/* The arbiter's state, shared by its three files. For C only. */

struct gap { uint64_t first, count; };

struct past {               /* what is remembered of a delivered sequence */
    uint32_t crc;           /* bit 0: the line, bit 1: set, the rest: CRC32C of the message */
    uint32_t ts;            /* low half of ts_recv */
};

enum { WHOLES = 1 << 10 };

struct whole {              /* and of a packet, all of whose messages were delivered in a run */
    uint64_t sequence;      /* 0: nothing */
    uint32_t len;
    uint32_t crc;           /* span_crc() */
};

struct arbiter {
    struct arbiter_config config;
    struct counters *counters;
    struct arbiter_sink sink;
    uint64_t expected;
    uint64_t highest;       /* one past the highest sequence known to exist */
    bool gap_open;          /* the hole at `expected` was noticed, at gap_us */
    bool borrowed;          /* the batch points into the hold */
    uint64_t now_us;        /* record clock */
    uint64_t gap_us;
    struct { bool active; unsigned line; uint64_t first, next, since_us; } suspect;
    struct hold hold;
    unsigned batched;
    struct message batch[BATCH_MAX];
    struct line lines[LINES_MAX];
    struct ledger ledger;
    struct gap gaps[GAPS_REMEMBERED];
    uint64_t gaps_seen;
    struct past *history;   /* by sequence modulo HISTORY; NULL with one line */
    struct whole wholes[WHOLES];    /* by sequence modulo WHOLES */
};

#define ADD(arbiter, name, n) ((arbiter)->counters->value[COUNT_##name] += (n))

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

/* Of all blocks of a span, by four chains at once: one waits three cycles for each of its steps. */
static inline uint32_t span_crc(const struct span *span)
{
    const uint8_t *data = span->blocks;
    uint32_t left = span->len;
    uint64_t crc[4] = { span->count, 1, 2, 3 };
    for (; left >= 32; left -= 32, data += 32)
        for (int i = 0; i < 4; i++)
            crc[i] = _mm_crc32_u64(crc[i], load64(data + 8 * i));
    crc[0] = _mm_crc32_u64(crc[0], crc[1] << 32 | crc[2]);
    return (uint32_t)_mm_crc32_u64(crc[0], crc[3] << 32 | crc32c(data, left));
}

static inline const struct past *recall(const struct arbiter *arbiter, uint64_t sequence)
{
    if (arbiter->history == NULL || arbiter->expected - sequence > HISTORY)
        return NULL;
    const struct past *past = &arbiter->history[sequence & (HISTORY - 1)];
    return past->crc & 2 ? past : NULL;
}

/* The first copies of sequences: did a line skip some? Then they are healed by these; or, when
 * it is this line's own, not lost after all. */
static inline void first_copies(struct arbiter *arbiter, unsigned line, uint64_t first, uint64_t count)
{
    for (unsigned i = 0; i < arbiter->config.lines; i++) {
        struct line *other = &arbiter->lines[i];
        uint64_t skipped = other->next > first ? other->next - first : 0;
        if (skipped > count)
            skipped = count;
        if (i == line)
            other->losses -= skipped < other->losses ? skipped : other->losses;
        else
            other->healed += skipped;
    }
}

/* Length of the block at `at`, or -1 when it is not whole. */
static inline int64_t block_len(const struct span *span, uint32_t at)
{
    if (span->len - at < 2)
        return -1;
    uint16_t raw;
    memcpy(&raw, span->blocks + at, sizeof raw);
    uint32_t len = span->flags & SPAN_LITTLE_ENDIAN ? raw : __builtin_bswap16(raw);
    return len <= span->len - at - 2 ? (int64_t)len : -1;
}

/* arbiter_line.c: what a packet tells of its line. */
void arbiter_note_line(struct arbiter *arbiter, unsigned line, const struct span *span, uint64_t ts_recv);
/* How long the line that brought `sequence` first was ahead of this one. */
void arbiter_note_lead(struct arbiter *arbiter, unsigned line, uint64_t sequence, uint64_t ts_recv);
