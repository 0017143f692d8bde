#include "base/clock.h"
#include <stdatomic.h>
#include <time.h>
#include <x86intrin.h>

uint64_t ticks_now(void) { return __rdtsc(); }

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t monotonic_now(void) { return clock_ns(CLOCK_MONOTONIC); }

static double measure(void)
{
    uint64_t ns = clock_ns(CLOCK_MONOTONIC_RAW), ticks = __rdtsc(), now;
    do
        now = clock_ns(CLOCK_MONOTONIC_RAW);
    while (now - ns < 5000000);
    return (double)(now - ns) / (double)(__rdtsc() - ticks);
}

/* Single looks may overlap in the processor: a row of them tells what one takes. */
static uint64_t looks(void)
{
    enum { ROW = 64, ROWS = 16 };
    uint64_t least = UINT64_MAX;
    for (int row = 0; row < ROWS; row++) {
        uint64_t begun = ticks_now(), last = begun;
        for (int i = 0; i < ROW; i++)
            last = ticks_now();
        least = last - begun < least ? last - begun : least;
    }
    return least / ROW;
}

uint64_t ticks_cost(void)
{
    static _Atomic uint64_t known;
    uint64_t cost = atomic_load_explicit(&known, memory_order_relaxed);
    if (cost == 0) {
        cost = looks();
        atomic_store_explicit(&known, cost, memory_order_relaxed);
    }
    return cost;
}

uint64_t ticks_ns(uint64_t ticks)
{
    static _Atomic double ns_per_tick;
    double rate = atomic_load_explicit(&ns_per_tick, memory_order_relaxed);
    if (rate == 0) {
        rate = measure();
        atomic_store_explicit(&ns_per_tick, rate, memory_order_relaxed);
    }
    return (uint64_t)((double)ticks * rate);
}
