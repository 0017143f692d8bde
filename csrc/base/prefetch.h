#pragma once

/* Fetches the line at `at` to be written. A function that only prefetches has no effect in the
 * eyes of GCC, which drops calls of it where it sees its body; the empty asm is an effect. */
static inline void prefetch(const void *at)
{
    __builtin_prefetch(at, 1);
    __asm__ volatile("");
}
