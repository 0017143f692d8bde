#pragma once
#include "book/book.h"
#include "trade/gateway.h"

/* A simulated venue: a gateway that fills orders against the real book of the feed. Theory in venue.c. */

enum {
    VENUE_DEPTH_MAX = 64,   /* displayed levels that an order may take from */
    VENUE_REPORTS_PER_ORDER = VENUE_DEPTH_MAX + 2,  /* accepted, its fills, canceled */
    VENUE_ROOM = 4096,      /* reports that may wait, and one more for each order that may rest */
};

struct venue_stats { uint64_t orders, cancels, acks, fills, rejects, canceled, open; };

/* orders_max: that may rest at once. 0, -EINVAL, -ENOMEM. */
int venue_create(uint32_t orders_max, struct gateway **venue);
/* `gaps`: the feed's gap count, NULL: none. Both stay the caller's, as long as the venue. */
void venue_books(struct gateway *venue, uint32_t feed, const struct books *books, const uint32_t *gaps);
const struct venue_stats *venue_stats(const struct gateway *venue);
