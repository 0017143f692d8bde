#pragma once
#include <stdint.h>

/* Latency histogram of ns, up to 2^40, in HdrHistogram's layout for two significant figures. */

enum { HIST_SUB_BITS = 7, HIST_BITS = 40, HIST_BUCKETS = 4352, HIST_FIGURES = 2 };

/* One writer. Another process may read it while it is written: each word is whole, and who wants
 * count and buckets to agree adds the buckets up. */
struct hist {
    uint64_t count, sum, min, max;      /* min: 0 while count is */
    uint64_t bucket[HIST_BUCKETS];
};

void hist_add(struct hist *hist, uint64_t value, uint64_t times);
void hist_add_all(struct hist *hist, const uint64_t *values, uint64_t count);
void hist_merge(struct hist *into, const struct hist *from);
/* The smallest value that `percent` of the samples do not exceed, as the highest of its step. */
uint64_t hist_percentile(const struct hist *hist, double percent);
uint64_t hist_highest(uint32_t bucket);     /* of the values that a bucket counts */
