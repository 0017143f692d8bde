/* A simulated venue. What it may claim is bounded by what the market showed, and every rule errs
 * against us where the record leaves room. It is a function of the records, the books and the
 * orders alone: no clock, no chance, and market records may be cut into batches anywhere.
 *
 * An order that arrives is acknowledged and takes what is displayed on the other side, level by
 * level within its limit, at the displayed prices (VENUE_DEPTH_MAX levels at most). What is left
 * rests (day) or is canceled (immediate or cancel).
 *
 * The real market doesn't know that we took anything: its book goes on showing those shares. So
 * each side of each instrument remembers how many were taken off its top, and they are skipped
 * (counted from the best level down) until the best level of that side changes in price or
 * size. A quote that changed only the other side shows nothing new here.
 *
 * A resting order fills at its own price, best price first, then oldest:
 *   - up to the shares that traded, when a trade happens strictly beyond its price: the market
 *     went through it. A trade's shares are shared among all our orders that it went through.
 *     At its price an order may have been behind everyone, so nothing happens;
 *   - up to the shares displayed and not yet taken, when the best price of the other side
 *     reaches it (EVENT_QUOTE): that liquidity would have traded with us.
 *
 * Nothing fills while the instrument is halted, nor against a book that is suspect, as an order
 * arrives or as a quote moves. A gap alone does nothing else: orders rest on. A session that begins or ends cancels every order of the
 * feed: they are day orders.
 *
 * Reports wait in an array that cannot overflow: no record is taken that might cause more of them
 * than fit. Market records cause two each and one more for each order that rests: a report ends an
 * order, or it is the last of what a side of a quote, or a trade, had to give. */
#include "trade/venue.h"
#include "base/min.h"
#include "book/state.h"
#include "trade/price.h"
#include "trade/reject.h"
#include "trade/resting.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct market_side {
    int64_t price;          /* best displayed level when it was last looked at */
    uint64_t size;
    uint64_t taken;         /* shares we took since, from the best level down */
    uint32_t first;         /* our best order that rests on this side */
    uint32_t pad;
};

struct market { struct market_side side[2]; };      /* one instrument: bids, asks */

struct venue {
    struct gateway gateway;
    struct resting_pool pool;
    struct event *reports;
    uint64_t reports_count, reports_max;
    uint64_t lost;          /* reports without room: none, unless the bound is wrong */
    uint64_t sequence;      /* of the last report */
    struct venue_stats stats;
    const struct books *books[FEEDS_MAX];
    const uint32_t *gaps[FEEDS_MAX];    /* NULL: no book of that feed is stale by a gap */
    struct market *markets[FEEDS_MAX];  /* NULL: no such feed */
};

_Static_assert(sizeof(struct market) == 64, "one line");

struct moment { uint64_t ts_recv, ts_event; };

static struct venue *venue_of(struct gateway *gateway) { return (struct venue *)gateway; }

static void venue_close(struct gateway *gateway)
{
    struct venue *venue = venue_of(gateway);
    for (int feed = 0; feed < FEEDS_MAX; feed++)
        free(venue->markets[feed]);
    resting_destroy(&venue->pool);
    free(venue->reports);
    free(venue);
}

/* Without memory the feed stays unknown, and its orders are refused. */
void venue_books(struct gateway *gateway, uint32_t feed, const struct books *books, const uint32_t *gaps)
{
    struct venue *venue = venue_of(gateway);
    if (feed >= FEEDS_MAX)
        return;
    venue->gaps[feed] = gaps;
    venue->books[feed] = books;
    if (!venue->markets[feed])
        venue->markets[feed] = calloc(BOOK_INSTRUMENTS_MAX, sizeof **venue->markets);
}

const struct venue_stats *venue_stats(const struct gateway *gateway) { return &((const struct venue *)gateway)->stats; }

static struct market *market_of(const struct venue *venue, uint32_t instrument)
{
    uint32_t feed = instrument >> 16;
    return feed < FEEDS_MAX && venue->markets[feed] ? &venue->markets[feed][instrument & 0xffff] : NULL;
}

static int index_of(int side) { return side == SIDE_ASK; }

/* Reports. */

static uint64_t room(const struct venue *venue) { return venue->reports_max - venue->reports_count; }

static uint64_t venue_reports(struct gateway *gateway, struct event *out, uint64_t max)
{
    struct venue *venue = venue_of(gateway);
    uint64_t count = min(max, venue->reports_count);
    memcpy(out, venue->reports, count * sizeof *out);
    venue->reports_count -= count;
    memmove(venue->reports, venue->reports + count, venue->reports_count * sizeof *out);
    return count;
}

static void report(struct venue *venue, struct event event, struct moment at)
{
    event.ts_recv = at.ts_recv;
    event.ts_event = at.ts_event;
    event.sequence = ++venue->sequence;
    if (venue->reports_count < venue->reports_max)
        venue->reports[venue->reports_count++] = event;
    else
        venue->lost++;
}

static struct event about(int kind, const struct resting *order)
{
    return (struct event){ .kind = (uint8_t)kind, .side = order->side, .instrument_id = order->instrument,
                           .order_id = order->id, .price = order->price, .size = order->left };
}

static void report_fill(struct venue *venue, const struct resting *order, int64_t price, uint32_t size,
                        struct moment at)
{
    struct event event = about(EVENT_FILL, order);
    event.price = price;
    event.size = size;
    event.aux = order->left;
    venue->stats.fills++;
    report(venue, event, at);
}

static void report_canceled(struct venue *venue, const struct resting *order, struct moment at)
{
    venue->stats.canceled++;
    report(venue, about(EVENT_CANCELED, order), at);
}

/* The request comes back as it was, with the reason. */
static void report_reject(struct venue *venue, const struct event *request, int kind, int reject, struct moment at)
{
    struct event event = *request;
    event.stamp = 0;
    event.kind = (uint8_t)kind;
    event.aux = (uint32_t)reject;
    venue->stats.rejects++;
    report(venue, event, at);
}

static uint32_t *first_of(const struct venue *venue, const struct resting *order)
{
    return &market_of(venue, order->instrument)->side[index_of(order->side)].first;
}

static void leave(struct venue *venue, uint32_t row)
{
    resting_remove(&venue->pool, first_of(venue, &venue->pool.orders[row]), row);
    venue->stats.open--;
}

/* Market. */

static void note_best(struct market_side *side, int64_t price, uint64_t size)
{
    if (side->price == price && side->size == size)
        return;
    side->price = price;
    side->size = size;
    side->taken = 0;
}

static void fill_resting(struct venue *venue, uint32_t row, uint32_t size, struct moment at)
{
    struct resting *order = &venue->pool.orders[row];
    order->left -= size;
    report_fill(venue, order, order->price, size, at);
    if (order->left == 0)
        leave(venue, row);
}

/* Orders that rest on `side` meet the best price displayed on the other one. */
static void meet(struct venue *venue, struct market *market, int side, struct moment at)
{
    struct market_side *shown = &market->side[!index_of(side)];
    const uint32_t *first = &market->side[index_of(side)].first;
    while (*first != NO_RESTING && priced(shown->price) && shown->size > shown->taken) {
        const struct resting *order = &venue->pool.orders[*first];
        if (resting_better(side, shown->price, order->price))
            return;
        uint64_t room = shown->size - shown->taken;
        uint32_t size = room < order->left ? (uint32_t)room : order->left;
        shown->taken += size;
        fill_resting(venue, *first, size, at);
    }
}

static void on_quote(struct venue *venue, struct market *market, const struct event *quote, struct moment at)
{
    note_best(&market->side[0], quote->bid, priced(quote->bid) ? quote->bid_size : 0);
    note_best(&market->side[1], quote->ask, priced(quote->ask) ? quote->ask_size : 0);
    if (quote->flags & (FLAG_HALTED | FLAG_SUSPECT))
        return;
    meet(venue, market, SIDE_BID, at);
    meet(venue, market, SIDE_ASK, at);
}

/* Gives `shares` that traded at `price` to our orders on `side`; returns what is left of them. */
static uint32_t trade_through(struct venue *venue, const struct market *market, int side, int64_t price,
                              uint32_t shares, struct moment at)
{
    const uint32_t *first = &market->side[index_of(side)].first;
    while (shares && *first != NO_RESTING) {
        const struct resting *order = &venue->pool.orders[*first];
        if (!resting_better(side, order->price, price))
            break;
        uint32_t size = shares < order->left ? shares : order->left;
        shares -= size;
        fill_resting(venue, *first, size, at);
    }
    return shares;
}

static void on_trade(struct venue *venue, struct market *market, const struct event *trade, struct moment at)
{
    if ((trade->flags & FLAG_HALTED) || !priced(trade->price))
        return;
    uint32_t left = trade_through(venue, market, SIDE_BID, trade->price, trade->size, at);
    trade_through(venue, market, SIDE_ASK, trade->price, left, at);
}

static void cancel_feed(struct venue *venue, uint32_t feed, struct moment at)
{
    for (uint32_t i = 0; i < BOOK_INSTRUMENTS_MAX && venue->stats.open; i++)
        for (int side = 0; side < 2; side++)
            for (uint32_t row; (row = venue->markets[feed][i].side[side].first) != NO_RESTING;) {
                report_canceled(venue, &venue->pool.orders[row], at);
                leave(venue, row);
            }
}

static void market_record(struct venue *venue, const struct event *event)
{
    struct market *market = market_of(venue, event->instrument_id);
    struct moment at = { event->ts_recv, event->ts_event };
    if (!market)
        return;
    switch (event->kind) {
    case EVENT_SESSION: case EVENT_SESSION_END: cancel_feed(venue, event->instrument_id >> 16, at); break;
    case EVENT_QUOTE: on_quote(venue, market, event, at); break;
    case EVENT_EXECUTE: case EVENT_TRADE: on_trade(venue, market, event, at); break;
    default: break;
    }
}

static uint64_t venue_market(struct gateway *gateway, const struct event *events, uint64_t count, uint64_t now)
{
    (void)now;  /* the records have their times */
    struct venue *venue = venue_of(gateway);
    uint64_t open = min(venue->stats.open, room(venue));
    count = min(count, (room(venue) - open) / 2);
    for (uint64_t i = 0; i < count; i++)
        market_record(venue, &events[i]);
    return count;
}

/* Orders. */

static int acceptable(const struct venue *venue, const struct event *order)
{
    return market_of(venue, order->instrument_id) && (order->side == SIDE_BID || order->side == SIDE_ASK) &&
           order->size > 0 && priced(order->price) && order->aux <= TIME_IN_FORCE_IOC &&
           venue->stats.open < venue->pool.orders_max && id_map_find(&venue->pool.ids, order->order_id) == (uint32_t)NO_ROW;
}

/* Takes from one displayed level what `skip` shares taken earlier leave of it. */
static void take_level(struct venue *venue, struct resting *order, struct market_side *shown,
                       const struct level *level, uint64_t *skip, struct moment at)
{
    uint64_t gone = *skip < level->size ? *skip : level->size;
    uint64_t room = level->size - gone;
    uint32_t size = room < order->left ? (uint32_t)room : order->left;
    *skip -= gone;
    if (size == 0)
        return;
    shown->taken += size;
    order->left -= size;
    report_fill(venue, order, level->price, size, at);
}

/* May an order take from this book: does it trade, and is it right? */
static int takeable(const struct venue *venue, uint32_t feed, uint32_t instrument)
{
    const struct books *books = venue->books[feed];
    if (!books)
        return 0;
    const struct book *book = &books_all(books)[instrument];
    return !book_halted(book) && !book_suspect(book, venue->gaps[feed] ? *venue->gaps[feed] : book->epoch);
}

static void take(struct venue *venue, struct resting *order, struct moment at)
{
    uint32_t feed = order->instrument >> 16, instrument = order->instrument & 0xffff;
    int other = order->side == SIDE_BID ? SIDE_ASK : SIDE_BID;
    struct market_side *shown = &market_of(venue, order->instrument)->side[index_of(other)];
    struct level levels[VENUE_DEPTH_MAX];
    if (!takeable(venue, feed, instrument))
        return;
    int count = book_depth(venue->books[feed], instrument, other, VENUE_DEPTH_MAX, levels);
    if (count <= 0)
        return;
    note_best(shown, levels[0].price, levels[0].size < UINT32_MAX ? levels[0].size : UINT32_MAX);
    uint64_t skip = shown->taken;
    for (int i = 0; i < count && order->left && !resting_better(order->side, levels[i].price, order->price); i++)
        take_level(venue, order, shown, &levels[i], &skip, at);
}

static void new_order(struct venue *venue, const struct event *request, struct moment at)
{
    if (!acceptable(venue, request)) {
        report_reject(venue, request, EVENT_REJECT, REJECT_VENUE, at);
        return;
    }
    struct resting order = {
        .id = request->order_id, .price = request->price, .left = request->size,
        .instrument = request->instrument_id, .side = request->side,
    };
    venue->stats.acks++;
    report(venue, about(EVENT_ACK, &order), at);
    take(venue, &order, at);
    if (order.left && request->aux == TIME_IN_FORCE_IOC)
        report_canceled(venue, &order, at);
    else if (order.left) {
        resting_add(&venue->pool, first_of(venue, &order), &order);
        venue->stats.open++;
    }
}

static void cancel_order(struct venue *venue, const struct event *request, struct moment at)
{
    uint32_t row = id_map_find(&venue->pool.ids, request->order_id);
    venue->stats.cancels++;
    if (row == (uint32_t)NO_ROW) {
        report_reject(venue, request, EVENT_CANCEL_REJECT, REJECT_UNKNOWN_ORDER, at);
        return;
    }
    report_canceled(venue, &venue->pool.orders[row], at);
    leave(venue, row);
}

static void request(struct venue *venue, const struct event *request, struct moment at)
{
    if (request->kind == EVENT_ORDER_CANCEL) {
        cancel_order(venue, request, at);
        return;
    }
    venue->stats.orders++;
    if (request->kind == EVENT_ORDER_NEW)
        new_order(venue, request, at);
    else
        report_reject(venue, request, EVENT_REJECT, REJECT_VENUE, at);
}

static uint64_t venue_orders(struct gateway *gateway, const struct event *orders, uint64_t count, uint64_t now)
{
    struct venue *venue = venue_of(gateway);
    count = min(count, room(venue) / VENUE_REPORTS_PER_ORDER);
    for (uint64_t i = 0; i < count; i++)
        request(venue, &orders[i], (struct moment){ now, now });
    return count;
}

/* The gateway. */

static enum gateway_state venue_state(const struct gateway *gateway)
{
    (void)gateway;
    return GATEWAY_UP;
}

static uint64_t venue_lost(const struct gateway *gateway) { return ((const struct venue *)gateway)->lost; }

int venue_create(uint32_t orders_max, struct gateway **out)
{
    static const struct gateway_ops ops = {
        .market = venue_market, .orders = venue_orders, .reports = venue_reports,
        .state = venue_state, .lost = venue_lost, .close = venue_close,
    };
    *out = NULL;
    struct venue *venue = calloc(1, sizeof *venue);
    if (!venue)
        return -ENOMEM;
    venue->gateway.ops = &ops;
    venue->reports_max = (uint64_t)orders_max + VENUE_ROOM;
    venue->reports = malloc(venue->reports_max * sizeof *venue->reports);
    int rc = venue->reports ? resting_create(&venue->pool, orders_max) : -ENOMEM;
    if (rc < 0) {
        venue_close(&venue->gateway);
        return rc;
    }
    *out = &venue->gateway;
    return 0;
}
