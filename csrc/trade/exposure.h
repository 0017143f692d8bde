#pragma once
#include "base/id_map.h"
#include "event.h"
#include "trade/reject.h"

/* What we are exposed to: our orders, working shares, positions and their value.
 * Theory in exposure.c. Values are 1e-9 currency in 128 bits: see the bounds there. */

typedef __int128 value_t;

struct sent_order {
    uint64_t id;
    uint64_t sequence;      /* of the last report that was applied */
    int64_t price;
    uint32_t instrument;
    uint32_t left;          /* shares working; 0 once finished */
    uint32_t next_finished;
    uint8_t side;
    uint8_t finished;
    uint8_t pad[2];
};

struct holding {            /* one instrument */
    int64_t working[2];     /* shares in working buys and sells */
    value_t cost;           /* of the position, at the prices it was filled */
};

struct exposure {
    struct sent_order *orders;
    struct id_map ids;
    struct holding *holdings;
    int64_t *positions;
    value_t gross;          /* sum of price x left of working orders and of holding.cost */
    uint32_t instruments;
    uint32_t orders_max;
    uint32_t orders_used;   /* rows ever taken */
    uint32_t finished_first, finished_last;     /* oldest first; NO_ROW at the ends */
    int64_t open;           /* working orders */
};

int exposure_create(struct exposure *exposure, uint32_t instruments, uint32_t orders_max);
void exposure_destroy(struct exposure *exposure);
const struct sent_order *exposure_find(const struct exposure *exposure, uint64_t id);
int exposure_has_room(const struct exposure *exposure);
/* The order was approved; its id is absent, there is room, its fields passed the checks. */
void exposure_enter(struct exposure *exposure, const struct event *order);
void exposure_report(struct exposure *exposure, const struct event *report, struct risk_stats *stats);
