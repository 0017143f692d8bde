#include "base/stall.h"
#include "base/clock.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <x86intrin.h>

enum { CALIBRATION_TICKS = 1 << 30 };
static const uint64_t HOUR_NS = 3600000000000u;

static unsigned bucket_of(uint64_t ns)
{
    unsigned octave = 63u - (unsigned)__builtin_clzll(ns | 1);
    return octave < STALL_BUCKETS ? octave : STALL_BUCKETS - 1;
}

static void keep_largest(struct stall_result *out, uint64_t ns, uint64_t at_ns)
{
    uint32_t slot = 0;
    if (out->largest < STALL_LARGEST) {
        slot = out->largest++;
    } else {
        for (uint32_t i = 1; i < STALL_LARGEST; i++)
            if (out->largest_ns[i] < out->largest_ns[slot])
                slot = i;
        if (out->largest_ns[slot] >= ns)
            return;
    }
    out->largest_ns[slot] = ns;
    out->largest_at_ns[slot] = at_ns;
}

static void record(struct stall_result *out, uint64_t ns, uint64_t at_ns)
{
    out->count++;
    out->sum_ns += ns;
    if (ns > out->max_ns)
        out->max_ns = ns;
    out->bucket[bucket_of(ns)]++;
    keep_largest(out, ns, at_ns);
}

/* The number of ticks that are at least `ns`. */
static uint64_t ticks_of(uint64_t ns)
{
    double ns_per_tick = (double)ticks_ns(CALIBRATION_TICKS) / CALIBRATION_TICKS;
    return (uint64_t)((double)ns / ns_per_tick) + 1;
}

int stall_measure(uint64_t ns, uint64_t threshold_ns, struct stall_result *out)
{
    if (ns == 0 || ns > HOUR_NS || threshold_ns == 0)
        return -EINVAL;
    uint64_t duration = ticks_of(ns), threshold = ticks_of(threshold_ns), looks = 0;
    memset(out, 0, offsetof(struct stall_result, stop));
    uint64_t start = __rdtsc(), last = start;
    do {
        uint64_t now = __rdtsc(), gap = now - last;
        if (__builtin_expect(gap >= threshold, 0)) {
            record(out, ticks_ns(gap), ticks_ns(last - start));
            now = __rdtsc();   /* what recording costs is ours, not the host's */
        }
        last = now;
        looks++;
    } while (last - start < duration && !__atomic_load_n(&out->stop, __ATOMIC_RELAXED));
    out->elapsed_ns = ticks_ns(last - start);
    out->looks = looks;
    return 0;
}
