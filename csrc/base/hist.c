#include "base/hist.h"

/* Values below 256 have a bucket each. Above, every octave [2^k, 2^(k+1)) is cut into 128 equal
 * steps, so a step is at most 1/128 of its value: 0.8 %. Bucket = octave * 128 + step, which is
 * HdrHistogram's index for lowest value 1, highest 2^40 - 1 and two significant figures. */

enum { HALF = 1 << HIST_SUB_BITS };
_Static_assert(HIST_BUCKETS == (HIST_BITS + 1 - HIST_SUB_BITS) * HALF, "values below 2^40");
_Static_assert(sizeof(struct hist) == 8 * (4 + HIST_BUCKETS), "no padding: read by layout");

static unsigned bucket_of(uint64_t value)
{
    unsigned octave = 63u - (unsigned)__builtin_clzll(value | (2 * HALF - 1)) - HIST_SUB_BITS;
    unsigned bucket = (octave << HIST_SUB_BITS) + (unsigned)(value >> octave);
    return value >> HIST_BITS ? HIST_BUCKETS - 1 : bucket;
}

uint64_t hist_highest(uint32_t bucket)
{
    if (bucket < 2 * HALF)
        return bucket;
    unsigned octave = (bucket >> HIST_SUB_BITS) - 1;
    uint64_t step = bucket - ((uint64_t)octave << HIST_SUB_BITS);
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

void hist_add_all(struct hist *hist, const uint64_t *values, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        hist_add(hist, values[i], 1);
}

void hist_merge(struct hist *into, const struct hist *from)
{
    if (from->count == 0)
        return;
    if (into->count == 0 || from->min < into->min)
        into->min = from->min;
    if (from->max > into->max)
        into->max = from->max;
    into->count += from->count;
    into->sum += from->sum;
    for (unsigned bucket = 0; bucket < HIST_BUCKETS; bucket++)
        into->bucket[bucket] += from->bucket[bucket];
}

uint64_t hist_percentile(const struct hist *hist, double percent)
{
    if (hist->count == 0)
        return 0;
    uint64_t rank = (uint64_t)(percent / 100.0 * (double)hist->count + 0.9999999);
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < HIST_BUCKETS - 1; bucket++) {
        seen += hist->bucket[bucket];
        if (seen >= rank && seen > 0)
            return hist_highest(bucket) < hist->max ? hist_highest(bucket) : hist->max;
    }
    return hist->max;   /* the last bucket takes all that is longer */
}
