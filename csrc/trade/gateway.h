#pragma once
#include "event.h"

/* Where approved orders go and where execution reports come from: a table of operations. One
 * thread calls them, between batches of market records; none of them waits or allocates. */

enum gateway_state {
    GATEWAY_DOWN = 0,       /* no order leaves: each comes back as an EVENT_REJECT */
    GATEWAY_UP = 1,
    GATEWAY_CLOSING = 2,    /* no new order leaves; reports may still come */
};

struct gateway_ops;
struct gateway { const struct gateway_ops *ops; };     /* each kind's own struct begins with it */

/* `market` and `orders` return how many records they took, from the first on: fewer when there is
 * no room for the reports of more. Then the caller takes reports and gives the rest again; with no
 * report left to take, at least one record is taken. `now` is the record clock, ns. */
struct gateway_ops {
    /* Market records, in order, of each batch before its orders. NULL: it looks at none. */
    uint64_t (*market)(struct gateway *gateway, const struct event *events, uint64_t count, uint64_t now);
    /* Approved orders and cancels, in order. Each that was taken has its report, sooner or later. */
    uint64_t (*orders)(struct gateway *gateway, const struct event *orders, uint64_t count, uint64_t now);
    /* Moves the oldest reports (EVENT_ACK .. EVENT_CANCEL_REJECT) to `out`, at most `max`; returns
     * how many. The others stay. */
    uint64_t (*reports)(struct gateway *gateway, struct event *out, uint64_t max);
    enum gateway_state (*state)(const struct gateway *gateway);
    uint64_t (*lost)(const struct gateway *gateway);    /* reports that found no room, in all */
    void (*close)(struct gateway *gateway);             /* forgets orders and reports, frees */
};
