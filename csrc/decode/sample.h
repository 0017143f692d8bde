#pragma once
#include "base/clock.h"
#include "decode/decode.h"
#include <stddef.h>

/* Time stamps around a part of the decoder's work, in the steps that are looked at closely. */

static inline uint64_t sample_begin(const struct decoder *decoder) { return decoder->sample != NULL ? ticks_now() : 0; }

static inline uint64_t sample_ticks(uint64_t begun)
{
    uint64_t ticks = ticks_now() - begun, cost = ticks_cost();
    return ticks > cost ? ticks - cost : 0;
}

static inline void sample_book(const struct decoder *decoder, uint64_t begun, unsigned changes)
{
    if (decoder->sample != NULL) {
        decoder->sample->book += sample_ticks(begun);
        decoder->sample->changes += changes;
    }
}

static inline void sample_ring(const struct decoder *decoder, uint64_t begun)
{
    if (decoder->sample != NULL) {
        decoder->sample->ring += sample_ticks(begun);
        decoder->sample->records++;
    }
}
