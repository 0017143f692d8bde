#pragma once
#include <stdint.h>

/* What takes a core away from a loop that wants all of it: interrupts, other processes, the
 * hypervisor, SMM. A gap between two reads of the cycle counter is all that such a loop sees of
 * them, so it is what is measured. */

enum { STALL_BUCKETS = 40, STALL_LARGEST = 16 };

struct stall_result {
    uint64_t elapsed_ns;
    uint64_t looks;                          /* reads of the counter */
    uint64_t count, sum_ns, max_ns;          /* of gaps at or above the threshold */
    uint64_t bucket[STALL_BUCKETS];          /* [k]: gaps of 2^k to 2^(k+1) - 1 ns; the last: longer too */
    uint64_t largest_ns[STALL_LARGEST];      /* the longest gaps, in no order; `largest` of them */
    uint64_t largest_at_ns[STALL_LARGEST];   /* when each began, since the measurement did */
    uint32_t largest;
    uint32_t stop;                           /* in: another thread sets it to end early */
};

/* Spins on the calling thread for `ns` and records gaps of `threshold_ns` or more. No system call
 * inside. -EINVAL: no duration, more than an hour, or no threshold. */
int stall_measure(uint64_t ns, uint64_t threshold_ns, struct stall_result *out);
