/* Pre-trade risk: every order walks the rows of REJECTS below, in that order, and the first
 * check that says no names the reject. Nothing is counted for an order that is refused: it
 * never reaches the venue, so it weighs neither in exposure nor in the rate.
 *
 * A check is one function and one row. It sees integers only. Prices are compared crosswise
 * (price x 10,000 against best x (10,000 +- bps)) in 128 bits: no division, no rounding, and no
 * limit or price that a caller can write overflows. INT64_MAX as a limit means none.
 *
 * The rate is exact: the times of the last RATE_ORDERS_MAX orders are kept, and an order passes
 * when the rate_max-th last one is at least a window old. A larger rate_max is held at
 * RATE_ORDERS_MAX. A record clock that goes back never makes room: times are kept monotonic.
 *
 * Cancels only shrink exposure, so they pass whenever their order is working. */
#include "trade/risk.h"
#include "book/state.h"
#include "trade/exposure.h"
#include "trade/price.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { RATE_ORDERS_MAX = 1 << 17 };

struct feed_books {
    const struct book *books;   /* NULL until risk_books() */
    const uint32_t *gaps;
};

struct risk {
    struct exposure exposure;
    struct limits *limits;
    struct account_limits account;
    struct risk_stats stats;
    uint64_t times_count;       /* orders ever passed */
    uint64_t time_last;
    uint64_t *times;            /* of the last RATE_ORDERS_MAX of them */
    struct feed_books feeds[FEEDS_MAX];
};

struct candidate {              /* an order on its way through the checks */
    struct risk *risk;
    const struct event *order;
    const struct limits *limits;    /* these three are valid after instrument_unknown */
    const struct book *book;        /* NULL when the feed has none */
    const uint32_t *gaps;
    value_t value;
    uint64_t now;
};

static int beyond(value_t amount, int64_t limit) { return limit != INT64_MAX && amount > limit; }

/* Relaxed: one flag that anyone may set, ordered with nothing. */
static int kill_switch(struct candidate *c)
{
    return __atomic_load_n(&c->risk->account.kill, __ATOMIC_RELAXED) != 0;
}

static int instrument_unknown(struct candidate *c)
{
    static const struct limits none;
    uint32_t instrument = c->order->instrument_id;
    if (instrument >= c->risk->exposure.instruments)
        return 1;
    const struct feed_books *feed = &c->risk->feeds[instrument >> 16];
    c->limits = &c->risk->limits[instrument];
    c->book = feed->books ? &feed->books[instrument & 0xffff] : NULL;
    c->gaps = feed->gaps;
    return memcmp(c->limits, &none, sizeof none) == 0;
}

static int instrument_halted(struct candidate *c)
{
    return c->book && book_halted(c->book);
}

static int book_wrong(struct candidate *c)
{
    return c->book && book_suspect(c->book, c->gaps ? *c->gaps : c->book->epoch);
}

static int side_bad(struct candidate *c) { return c->order->side != SIDE_BID && c->order->side != SIDE_ASK; }
static int size_zero(struct candidate *c) { return c->order->size == 0; }
static int size_max(struct candidate *c) { return beyond(c->order->size, c->limits->order_size_max); }
static int price_bad(struct candidate *c) { return !priced(c->order->price); }
static int value_max(struct candidate *c) { return beyond(c->value, c->limits->order_value_max); }

static int price_collar(struct candidate *c)
{
    int64_t bps = c->limits->price_collar_bps;
    int buy = c->order->side == SIDE_BID;
    if (bps == INT64_MAX)
        return 0;
    if (!c->book)
        return 1;
    int64_t best = buy ? c->book->ask : c->book->bid;
    if (!priced(best))
        best = buy ? c->book->bid : c->book->ask;
    if (!priced(best))
        return 1;
    value_t price = (value_t)c->order->price * 10000;
    return buy ? price > best * ((value_t)10000 + bps) : price < best * ((value_t)10000 - bps);
}

static int position_max(struct candidate *c)
{
    const struct exposure *exposure = &c->risk->exposure;
    uint32_t instrument = c->order->instrument_id;
    int sell = c->order->side == SIDE_ASK;
    value_t position = exposure->positions[instrument];
    value_t worst = exposure->holdings[instrument].working[sell] + (value_t)c->order->size;
    return beyond(worst + (sell ? -position : position), c->limits->position_max);
}

static int gross_max(struct candidate *c)
{
    return beyond(c->risk->exposure.gross + c->value, c->risk->account.gross_value_max);
}

static int rate_max(struct candidate *c)
{
    const struct risk *risk = c->risk;
    int64_t max = risk->account.rate_max;
    if (max == INT64_MAX)
        return 0;
    if (max <= 0 || risk->account.rate_window_ns <= 0)
        return 1;
    uint64_t n = max < RATE_ORDERS_MAX ? (uint64_t)max : RATE_ORDERS_MAX;
    if (risk->times_count < n)
        return 0;
    uint64_t then = risk->times[(risk->times_count - n) % RATE_ORDERS_MAX];
    return c->now < then || c->now - then < (uint64_t)risk->account.rate_window_ns;
}

static int duplicate(struct candidate *c)
{
    return exposure_find(&c->risk->exposure, c->order->order_id) != NULL;
}

static int too_many_open(struct candidate *c)
{
    return beyond((value_t)c->risk->exposure.open + 1, c->risk->account.open_max) ||
           !exposure_has_room(&c->risk->exposure);
}

static int never(struct candidate *c) { (void)c; return 0; }

/* X(enum reject, check of a new order, documentation) */
#define REJECTS(X) \
    X(NONE, never, "the order passed") \
    X(KILL_SWITCH, kill_switch, "the account's kill switch is set: only cancels pass") \
    X(INSTRUMENT_UNKNOWN, instrument_unknown, "instrument outside the table, or no limits set for it") \
    X(INSTRUMENT_HALTED, instrument_halted, "the instrument is not trading") \
    X(BOOK_SUSPECT, book_wrong, "the instrument's book may be wrong: an unrecovered gap or a broken book") \
    X(SIDE, side_bad, "side is neither bid nor ask") \
    X(SIZE_ZERO, size_zero, "size is 0") \
    X(SIZE_MAX, size_max, "size above order_size_max") \
    X(PRICE, price_bad, "price not positive, or undefined") \
    X(VALUE_MAX, value_max, "price x size above order_value_max") \
    X(PRICE_COLLAR, price_collar, "further through the book than price_collar_bps, or no book to compare with") \
    X(POSITION_MAX, position_max, "position + working orders of this side + this order above position_max") \
    X(GROSS_MAX, gross_max, "value of all positions and working orders + this order above gross_value_max") \
    X(RATE_MAX, rate_max, "rate_max orders passed within the last rate_window_ns already") \
    X(DUPLICATE, duplicate, "order id already used") \
    X(VENUE, never, "the venue refused the order") \
    X(TOO_MANY_OPEN, too_many_open, "open_max orders are working, or the order table is full of working ones") \
    X(UNKNOWN_ORDER, never, "cancel of an order that is not working, or a record that is no order")

#define NAME(name, check, doc) #name,
#define DOC(name, check, doc) doc,
#define POSITION(name, check, doc) POSITION_##name,
#define IN_ORDER(name, check, doc) \
    _Static_assert((int)POSITION_##name == (int)REJECT_##name, "rows stand in the order of enum reject");
#define CHECK(name, check, doc) if (check(c)) return REJECT_##name;

static const char *const names[] = { REJECTS(NAME) };
static const char *const docs[] = { REJECTS(DOC) };
enum { REJECTS(POSITION) POSITIONS };
REJECTS(IN_ORDER)
_Static_assert((int)POSITIONS == (int)REJECT_END, "every reject has a row");
_Static_assert((int)REJECT_END <= 32, "risk_stats.rejected has a place for each");

/* Expanded, not walked: every check inlines, and a pass costs no indirect call. */
static int first_reject(struct candidate *c)
{
    REJECTS(CHECK)
    return REJECT_NONE;
}

const char *reject_name(int reject) { return reject >= 0 && reject < REJECT_END ? names[reject] : NULL; }
const char *reject_doc(int reject) { return reject >= 0 && reject < REJECT_END ? docs[reject] : NULL; }

int risk_create(uint32_t feeds, uint32_t orders_max, struct risk **out)
{
    *out = NULL;
    if (feeds == 0 || feeds > FEEDS_MAX)
        return -EINVAL;
    struct risk *risk = calloc(1, sizeof *risk);
    if (!risk)
        return -ENOMEM;
    int rc = exposure_create(&risk->exposure, feeds << 16, orders_max);
    risk->limits = calloc((size_t)feeds << 16, sizeof *risk->limits);
    risk->times = calloc(RATE_ORDERS_MAX, sizeof *risk->times);
    if (rc == 0 && (!risk->limits || !risk->times))
        rc = -ENOMEM;
    if (rc < 0) {
        risk_destroy(risk);
        return rc;
    }
    *out = risk;
    return 0;
}

void risk_destroy(struct risk *risk)
{
    if (!risk)
        return;
    exposure_destroy(&risk->exposure);
    free(risk->limits);
    free(risk->times);
    free(risk);
}

struct limits *risk_limits(struct risk *risk) { return risk->limits; }
struct account_limits *risk_account(struct risk *risk) { return &risk->account; }
int64_t *risk_positions(struct risk *risk) { return risk->exposure.positions; }
const struct risk_stats *risk_stats(const struct risk *risk) { return &risk->stats; }

void risk_books(struct risk *risk, uint32_t feed, const struct book *books, const uint32_t *gaps)
{
    if (feed < risk->exposure.instruments >> 16)
        risk->feeds[feed] = (struct feed_books){ books, gaps };
}

static int check_cancel(struct risk *risk, const struct sent_order *order)
{
    if (!order || order->finished)
        return REJECT_UNKNOWN_ORDER;
    risk->stats.cancels++;
    return REJECT_NONE;
}

static void enter(struct risk *risk, const struct event *order, uint64_t now)
{
    if (now > risk->time_last)
        risk->time_last = now;
    risk->times[risk->times_count++ % RATE_ORDERS_MAX] = risk->time_last;
    exposure_enter(&risk->exposure, order);
    risk->stats.passed++;
}

static int check_new(struct risk *risk, const struct event *order, uint64_t now)
{
    struct candidate candidate = {
        .risk = risk, .order = order, .now = now, .value = (value_t)order->price * order->size,
    };
    int reject = first_reject(&candidate);
    if (reject == REJECT_NONE)
        enter(risk, order, now);
    return reject;
}

int risk_check(struct risk *risk, const struct event *order, uint64_t now)
{
    int reject = REJECT_UNKNOWN_ORDER;
    if (order->kind == EVENT_ORDER_NEW)
        reject = check_new(risk, order, now);
    else if (order->kind == EVENT_ORDER_CANCEL)
        reject = check_cancel(risk, exposure_find(&risk->exposure, order->order_id));
    if (reject != REJECT_NONE)
        risk->stats.rejected[reject]++;
    return reject;
}

static void refuse(struct event *out, const struct event *order, uint64_t now, int reject)
{
    *out = *order;
    out->stamp = out->sequence = 0;
    out->ts_recv = now;
    out->kind = order->kind == EVENT_ORDER_CANCEL ? EVENT_CANCEL_REJECT : EVENT_REJECT;
    out->aux = (uint32_t)reject;
}

/* A cancel names its order only; the gateway is told where that order is. */
static void approve(const struct risk *risk, struct event *out, const struct event *order)
{
    *out = *order;
    if (order->kind == EVENT_ORDER_CANCEL) {
        const struct sent_order *sent = exposure_find(&risk->exposure, order->order_id);
        out->instrument_id = sent->instrument;
        out->side = sent->side;
    }
}

uint64_t risk_pass(struct risk *risk, const struct event *orders, uint64_t count, uint64_t now,
                   struct event *approved, struct event *rejects, uint64_t *reject_count)
{
    uint64_t passed = 0, refused = 0;
    for (uint64_t i = 0; i < count; i++) {
        int reject = risk_check(risk, &orders[i], now);
        if (reject == REJECT_NONE)
            approve(risk, &approved[passed++], &orders[i]);
        else
            refuse(&rejects[refused++], &orders[i], now, reject);
    }
    *reject_count = refused;
    return passed;
}

void risk_report(struct risk *risk, const struct event *reports, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        exposure_report(&risk->exposure, &reports[i], &risk->stats);
}
