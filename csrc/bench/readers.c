#include "bench/readers.h"
#include "base/clock.h"

enum { GIVE_UP_NS = 1000000000 };

uint64_t bench_put(struct ring *ring, uint64_t count, uint64_t every_ns)
{
    struct event event = { .kind = EVENT_TRADE };
    uint64_t put = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t begun = ticks_now();
        event.sequence = i + 1;
        event.ts_event = monotonic_now();
        event.ts_recv = ticks_now();
        put += ring_put(ring, &event) == 0;
        while (ticks_ns(ticks_now() - begun) < every_ns) {}
    }
    ring_publish(ring);
    return put;
}

uint64_t bench_seen(struct ring *ring, uint64_t count, struct hist *ways)
{
    const struct event *slots = ring_slots(ring);
    uint64_t seen = 0, first, last = ticks_now();
    while (seen < count) {
        uint64_t n = ring_peek(ring, 1, &first), now = ticks_now();
        if (n == 0 && ticks_ns(now - last) > GIVE_UP_NS)
            break;
        if (n == 0)
            continue;
        /* A processor may read its clock before the load that it stands behind: no way is below 0. */
        uint64_t put = slots[first].ts_recv;
        hist_add(ways, now > put ? ticks_ns(now - put) : 0, 1);
        ring_release(ring, 1);
        seen++;
        last = now;
    }
    return seen;
}
