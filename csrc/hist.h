#pragma once
#include <stdint.h>

/* Latency histogram: log-linear, 32 steps an octave (3 % steps), ns, up to 2^40. */

enum { HIST_BUCKETS = 1152 };

struct hist {
    uint64_t count, sum, min, max;
    uint64_t bucket[HIST_BUCKETS];
};

void hist_add(struct hist *hist, uint64_t value, uint64_t times);
uint64_t hist_percentile(const struct hist *hist, double percent);  /* highest value of its step */
