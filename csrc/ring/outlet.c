#include "ring/outlet.h"
#include "base/sample.h"
#include "counter_id.h"

/* A refused EVENT_LOST stands in for the record that follows it, so the ring's own count of
 * refused records stays equal to events_lost. */
static int put(struct outlet *outlet, const struct event *event)
{
    if (outlet->unreported) {
        struct event lost = {
            .ts_recv = event->ts_recv, .ts_event = event->ts_event, .sequence = event->sequence,
            .instrument_id = outlet->feed << 16, .kind = EVENT_LOST,
            .price = UNDEF_PRICE, .order_id = outlet->unreported, .size = UNDEF_SIZE,
        };
        if (ring_put(outlet->ring, &lost))
            return -1;
        outlet->unreported = 0;
        COUNT(outlet->counters, events_written);
    }
    return ring_put(outlet->ring, event);
}

void outlet_put(struct outlet *outlet, struct event *event)
{
    if (!outlet->ring)
        return;
    event->instrument_id |= outlet->feed << 16;
    uint64_t begun = sample_begin(outlet->sample);
    int rc = put(outlet, event);
    sample_ring(outlet->sample, begun);
    if (rc == 0) {
        COUNT(outlet->counters, events_written);
    } else {
        outlet->unreported++;
        COUNT(outlet->counters, events_lost);
    }
}
