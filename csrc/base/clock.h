#pragma once
#include <stdint.h>

/* The cycle counter, for intervals inside one host. */

uint64_t ticks_now(void);
/* Nanoseconds of an interval; the first call of the process measures the counter's rate
 * against CLOCK_MONOTONIC_RAW for 5 ms. */
uint64_t ticks_ns(uint64_t ticks);
uint64_t monotonic_now(void);   /* CLOCK_MONOTONIC in ns, which all processes of a host share */
/* Ticks from one look at the counter to the next with nothing between: as a row of them
 * shows it at best. The first call of the process measures it. */
uint64_t ticks_cost(void);
