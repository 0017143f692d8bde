#include "hist.h"

/* Values below 32 have a bucket each; above, every octave [2^k, 2^(k+1)) is cut into 32 equal
 * steps, so a step is at most 1/32 of its value. Bucket = octave * 32 + step. */

enum { STEP_BITS = 5, STEPS = 1 << STEP_BITS };
_Static_assert(HIST_BUCKETS == (41 - STEP_BITS) * STEPS, "up to 2^40 ns");

static unsigned bucket_of(uint64_t value)
{
    if (value < STEPS)
        return (unsigned)value;
    unsigned octave = 63u - (unsigned)__builtin_clzll(value) - STEP_BITS;
    unsigned bucket = (octave << STEP_BITS) + (unsigned)(value >> octave);
    return bucket < HIST_BUCKETS ? bucket : HIST_BUCKETS - 1;
}

static uint64_t highest_of(unsigned bucket)
{
    if (bucket < 2 * STEPS)
        return bucket;
    unsigned octave = (bucket >> STEP_BITS) - 1;
    uint64_t step = bucket - ((uint64_t)octave << STEP_BITS);
    return ((step + 1) << octave) - 1;
}

void hist_add(struct hist *hist, uint64_t value, uint64_t times)
{
    if (times == 0)
        return;
    if (hist->count == 0 || value < hist->min)
        hist->min = value;
    if (value > hist->max)
        hist->max = value;
    hist->count += times;
    hist->sum += value * times;
    hist->bucket[bucket_of(value)] += times;
}

uint64_t hist_percentile(const struct hist *hist, double percent)
{
    if (hist->count == 0)
        return 0;
    /* The smallest value that at least `percent` of the samples do not exceed. */
    uint64_t rank = (uint64_t)(percent / 100.0 * (double)hist->count + 0.9999999);
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < HIST_BUCKETS - 1; bucket++) {
        seen += hist->bucket[bucket];
        if (seen >= rank && seen > 0)
            return highest_of(bucket) < hist->max ? highest_of(bucket) : hist->max;
    }
    return hist->max;   /* the last bucket takes all that is longer */
}
