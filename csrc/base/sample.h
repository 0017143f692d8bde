#pragma once
#include "base/clock.h"
#include <stddef.h>

/* Time stamps around a part of the path, in the steps that are looked at closely. For C only. */

struct sample {             /* ticks spent within one step */
    uint64_t book, changes;
    uint64_t ring, records;
};

static inline uint64_t sample_begin(const struct sample *sample) { return sample != NULL ? ticks_now() : 0; }

static inline uint64_t sample_ticks(uint64_t begun)
{
    uint64_t ticks = ticks_now() - begun, cost = ticks_cost();
    return ticks > cost ? ticks - cost : 0;
}

static inline void sample_book(struct sample *sample, uint64_t begun, unsigned changes)
{
    if (sample != NULL) {
        sample->book += sample_ticks(begun);
        sample->changes += changes;
    }
}

static inline void sample_ring(struct sample *sample, uint64_t begun)
{
    if (sample != NULL) {
        sample->ring += sample_ticks(begun);
        sample->records++;
    }
}
