#pragma once
#include <stdint.h>

/* How far the cycle counter can be trusted: against the kernel's clock, and from core to core. */

struct clock_pair {             /* one moment on both */
    uint64_t ticks;             /* TSC */
    uint64_t raw_ns;            /* CLOCK_MONOTONIC_RAW */
    uint64_t bracket;           /* ticks that the look at the kernel's clock took: the pair's error is half */
};
void clock_pair(struct clock_pair *pair);       /* the best of many looks */
uint64_t clock_ns(uint64_t ticks);              /* as these loops count: each extension measures the rate itself */
uint64_t clock_looks(uint64_t count);           /* at the TSC, one after the other; their sum */

/* Two threads on two cores bounce a word; the one that answers writes its counter into it. */
struct clock_bounce {
    uint64_t ping, pad1[7];     /* a line each */
    uint64_t pong, stamp, pad2[6];
};
struct clock_offset {
    int64_t offset;             /* ticks that the answering core's counter is ahead */
    uint64_t error;             /* at most that wrong: half of the shortest round trip, in ticks */
    uint64_t trips;
};
/* 0, or -ETIMEDOUT when the other side is not heard of for a second. */
int clock_answer(struct clock_bounce *bounce, uint64_t trips);
int clock_ask(struct clock_bounce *bounce, uint64_t trips, struct clock_offset *best);
