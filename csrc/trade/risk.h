#pragma once
#include "book/book.h"
#include "event.h"
#include "trade/reject.h"

/* Pre-trade risk: one pass of integer checks per order; the only way to a gateway.
 * Python sets the limits; the checks, in order, are the rows of risk.c. */

struct limits {             /* one instrument; 0 = no order passes, INT64_MAX = no limit */
    int64_t order_size_max;         /* shares */
    int64_t order_value_max;        /* currency, 1e-9 */
    int64_t price_collar_bps;       /* through the opposite best price, else the own one */
    int64_t position_max;           /* shares, long or short, working orders counted */
};
struct account_limits {     /* all instruments */
    int64_t gross_value_max;        /* currency, 1e-9: sum of |position| + working, at order price */
    int64_t rate_max;               /* orders per rate_window_ns of the record clock */
    int64_t rate_window_ns;
    int64_t open_max;               /* working orders */
    int64_t kill;                   /* != 0: only cancels pass */
};

const char *reject_name(int reject);    /* NULL when out of range */
const char *reject_doc(int reject);

struct risk;
/* feeds: instrument ids go up to feeds << 16. orders_max: order ids known at once. */
int risk_create(uint32_t feeds, uint32_t orders_max, struct risk **risk);
void risk_destroy(struct risk *risk);
struct limits *risk_limits(struct risk *risk);              /* feeds << 16 rows, zero at first */
struct account_limits *risk_account(struct risk *risk);     /* all zero at first: nothing passes */
int64_t *risk_positions(struct risk *risk);                 /* shares, feeds << 16 rows */
/* The books that collar, halt and suspect checks look at; `gaps` is the feed's gap count. */
void risk_books(struct risk *risk, uint32_t feed, const struct book *books, const uint32_t *gaps);
/* REJECT_NONE and the order is counted as working, or why not. Cancels pass when known. */
int risk_check(struct risk *risk, const struct event *order, uint64_t now);
/* Checks `count` orders in order: those approved are copied to `approved` (their number is
 * returned), the others become EVENT_REJECT or EVENT_CANCEL_REJECT records in `rejects`. */
uint64_t risk_pass(struct risk *risk, const struct event *orders, uint64_t count, uint64_t now,
                   struct event *approved, struct event *rejects, uint64_t *reject_count);
/* Execution reports move working orders to positions; applied once per report: of one order,
 * `sequence` must rise (0: not numbered). Rejects that risk_pass() itself made are ignored. */
void risk_report(struct risk *risk, const struct event *reports, uint64_t count);
const struct risk_stats *risk_stats(const struct risk *risk);
