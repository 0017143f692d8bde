#pragma once
#include "book.h"
#include "ring.h"

/* A simulated venue: fills orders against the real book of the feed. Theory in venue.c. */

struct venue_stats { uint64_t orders, cancels, acks, fills, rejects, canceled, open; };

struct venue;
/* Reports (EVENT_ACK .. EVENT_CANCEL_REJECT) go to `reports`, of which it is the writer. */
int venue_create(uint32_t orders_max, struct ring *reports, struct venue **venue);
void venue_destroy(struct venue *venue);
void venue_books(struct venue *venue, uint32_t feed, const struct books *books);
/* Market events, in order: resting orders that were traded through fill. */
void venue_market(struct venue *venue, const struct event *events, uint64_t count);
/* Approved orders and cancels, in order, at record time `now`. */
void venue_orders(struct venue *venue, const struct event *orders, uint64_t count, uint64_t now);
const struct venue_stats *venue_stats(const struct venue *venue);
