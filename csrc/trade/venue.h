#pragma once
#include "book/book.h"
#include "ring/ring.h"

/* A simulated venue: fills orders against the real book of the feed. Theory in venue.c. */

enum {
    VENUE_DEPTH_MAX = 64,   /* displayed levels that an order may take from */
    VENUE_REPORTS_PER_ORDER = VENUE_DEPTH_MAX + 2,  /* accepted, its fills, canceled */
};

struct venue_stats { uint64_t orders, cancels, acks, fills, rejects, canceled, open; };

struct venue;
/* Reports (EVENT_ACK .. EVENT_CANCEL_REJECT) go to `reports`, of which it is the writer. */
int venue_create(uint32_t orders_max, struct ring *reports, struct venue **venue);
void venue_destroy(struct venue *venue);
/* `gaps`: the feed's gap count, NULL: none. Both stay the caller's, as long as the venue. */
void venue_books(struct venue *venue, uint32_t feed, const struct books *books, const uint32_t *gaps);
/* Market events, in order: resting orders that were traded through fill. Reports: at most one
 * for each resting order and two more for each event. */
void venue_market(struct venue *venue, const struct event *events, uint64_t count);
/* Approved orders and cancels, in order, at record time `now`. Reports: at most
 * VENUE_REPORTS_PER_ORDER each. */
void venue_orders(struct venue *venue, const struct event *orders, uint64_t count, uint64_t now);
const struct venue_stats *venue_stats(const struct venue *venue);
