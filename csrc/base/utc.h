#pragma once
#include <stdint.h>

/* A map from a counter to UTC: read on the packet path at the cost of the counter and one
 * multiplication, kept by a control thread that looks at the host's clock some ten times a
 * second. What "error" means stands in utc.c. */

struct utc;     /* plain memory: may lie in a mapping that other processes read */

struct utc_state {
    uint64_t updates;   /* samples taken in */
    uint64_t error_ns;  /* bound of utc_now() against the clock sampled; UINT64_MAX before the first */
    int64_t offset_ns;  /* how far utc_now() is ahead of that clock: what is still being slewed */
    int64_t rate_ppb;   /* how much longer a tick is than it was at the start */
    uint64_t steps;     /* of the clock sampled, by more than UTC_STEP_NS */
    uint64_t age_ns;    /* since the sample that the map rests on; UINT64_MAX before the first */
    uint64_t late;      /* changes published after they took effect: see utc.c */
};

enum {
    UTC_STEP_NS = 1000000,      /* a surprise above this is a step of the clock, not of its rate */
    UTC_SLEW_PPB = 500000,      /* what a correction may add to the rate, or take from it */
    UTC_WANDER_PPB = 10000,     /* assumed: how far the rate may stray from its mean of the last seconds */
    UTC_LEAD_NS = 1000000,      /* how long before it takes effect a change is published */
};

/* Of this host's TSC against CLOCK_REALTIME: allocates, measures 5 ms. 0, -ENOMEM, or clock_gettime's. */
int utc_create(struct utc **utc);
void utc_destroy(struct utc *utc);
/* Makes a map in memory of the caller's: utc_size() bytes at a multiple of 64. */
uint64_t utc_size(void);
int utc_calibrate(struct utc *utc);
/* Of another counter (a NIC's clock): `hz` ticks a second, right within `ppm`. utc_sample() follows. */
void utc_init(struct utc *utc, uint64_t hz, uint64_t ppm);

/* ---- one control thread ---- */

/* Samples CLOCK_REALTIME, the best of a few. 0 or a negative errno. */
int utc_update(struct utc *utc);
/* The clock showed `utc_ns` (ns since the Unix epoch) somewhere within half of `bracket_ns`
 * before or after `counter`. Samples less than UTC_LEAD_NS after the one before are left out. */
void utc_sample(struct utc *utc, uint64_t counter, uint64_t utc_ns, uint64_t bracket_ns);
/* The next sample is believed at once, be it a jump back: for a caller who knows that no one
 * relies on intervals just now. */
void utc_jump(struct utc *utc);

/* ---- any thread or process ---- */

uint64_t utc_now(const struct utc *utc);
uint64_t utc_at(const struct utc *utc, uint64_t counter);
void utc_state(const struct utc *utc, struct utc_state *out);
void utc_state_at(const struct utc *utc, uint64_t counter, struct utc_state *out);
