#include "bench/clock.h"
#include "base/clock.h"
#include <errno.h>
#include <time.h>
#include <x86intrin.h>

/* A round trip from core a to core b and back: a looks at its counter (t1), b at its own when the
 * word is there (t2), a again when the answer is (t4). Were both ways equal, b's counter would
 * have been (t1 + t4) / 2; how unequal they are is not known, but no more than the whole trip. So
 * the shortest trip tells most, as in NTP (RFC 5905, section 8). */

enum { LOOKS = 64 };
static const uint64_t PATIENCE_NS = 1000000000;

void clock_pair(struct clock_pair *pair)
{
    pair->bracket = UINT64_MAX;
    for (int i = 0; i < LOOKS; i++) {
        struct timespec ts;
        uint64_t before = __rdtsc();
        clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
        uint64_t bracket = __rdtsc() - before;
        if (bracket < pair->bracket)
            *pair = (struct clock_pair){ before + bracket / 2, (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec, bracket };
    }
}

static int await(const uint64_t *word, uint64_t value)
{
    uint64_t begun = ticks_now();
    for (uint64_t looks = 1; __atomic_load_n(word, __ATOMIC_ACQUIRE) != value; looks++)     /* pairs with the releases below */
        if (looks % 4096 == 0 && ticks_ns(ticks_now() - begun) > PATIENCE_NS)
            return -ETIMEDOUT;
    return 0;
}

int clock_answer(struct clock_bounce *bounce, uint64_t trips)
{
    for (uint64_t i = 1; i <= trips; i++) {
        if (await(&bounce->ping, i) < 0)
            return -ETIMEDOUT;
        unsigned core;
        bounce->stamp = __rdtscp(&core);
        __atomic_store_n(&bounce->pong, i, __ATOMIC_RELEASE);   /* pairs with await in clock_ask */
    }
    return 0;
}

int clock_ask(struct clock_bounce *bounce, uint64_t trips, struct clock_offset *best)
{
    *best = (struct clock_offset){ .error = UINT64_MAX };
    for (uint64_t i = 1; i <= trips; i++) {
        unsigned core;
        uint64_t begun = __rdtscp(&core);
        __atomic_store_n(&bounce->ping, i, __ATOMIC_RELEASE);   /* pairs with await in clock_answer */
        if (await(&bounce->pong, i) < 0)
            return -ETIMEDOUT;
        uint64_t trip = __rdtscp(&core) - begun;
        if (trip / 2 < best->error)
            *best = (struct clock_offset){ (int64_t)(bounce->stamp - begun - trip / 2), trip / 2 + 1, trips };
    }
    return 0;
}

uint64_t clock_ns(uint64_t ticks) { return ticks_ns(ticks); }

uint64_t clock_looks(uint64_t count)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < count; i++)
        sum += ticks_now();
    return sum;
}
