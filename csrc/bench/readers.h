#pragma once
#include "base/hist.h"
#include "ring/ring.h"

/* Loops of `pydpdk bench` with one writer and many readers of a ring. */

/* Puts a record each `every_ns`, ts_recv by the cycle counter and ts_event by CLOCK_MONOTONIC in ns.
 * How many fitted. */
uint64_t bench_put(struct ring *ring, uint64_t count, uint64_t every_ns);
/* Polls for `count` of them and adds the time since each was put. Gives up (returning the records
 * seen) when nothing comes for a second. */
uint64_t bench_seen(struct ring *ring, uint64_t count, struct hist *ways);
