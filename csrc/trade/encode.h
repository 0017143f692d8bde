#pragma once
#include "event.h"

/* Approved orders as OUCH 5.0 Enter Orders, each in a UDP datagram of its own. A venue takes them
 * over TCP: this is the message and its cost, until there is a session to carry it. */

enum { ENCODE_LEN = 89 };       /* Ethernet, IPv4, UDP, Enter Order */

struct order_route {
    uint8_t dst_mac[6], src_mac[6];
    uint8_t dst[4], src[4];
    uint16_t dport, sport;
    char display, capacity;     /* OUCH's letters for all orders */
    char cl_ord_id[14];
};

struct encoder {                /* the frame with all that does not change */
    uint64_t sum;               /* of the pseudo header */
    const uint64_t *symbols;    /* by instrument id, as EVENT_INSTRUMENT has them; 0: not known */
    uint64_t symbols_count;
    uint8_t frame[ENCODE_LEN];
    uint8_t pad[7];
};

/* `symbols` is the caller's and may change between calls. */
void encoder_init(struct encoder *encoder, const struct order_route *route, const uint64_t *symbols,
                  uint64_t symbols_count);
/* Writes the ENCODE_LEN bytes of a new order's frame. 0, or it cannot be said in OUCH: -EINVAL no new
 * order, or no side; -ENOENT its instrument has no symbol; -ERANGE its id, size or price is beyond the
 * specification, or the price is no multiple of 1e-4. */
int encode_order(const struct encoder *encoder, const struct event *order, uint8_t *frame);
