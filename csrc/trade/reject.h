#pragma once
#include <stdint.h>

/* Why an order or a cancel was refused, and how often. */

enum reject {               /* stable: written to journals and told to users */
    REJECT_NONE = 0,
    REJECT_KILL_SWITCH = 1,
    REJECT_INSTRUMENT_UNKNOWN = 2,      /* outside the table, or no limits set for it */
    REJECT_INSTRUMENT_HALTED = 3,
    REJECT_BOOK_SUSPECT = 4,            /* the book may be wrong */
    REJECT_SIDE = 5,                    /* neither bid nor ask */
    REJECT_SIZE_ZERO = 6,
    REJECT_SIZE_MAX = 7,
    REJECT_PRICE = 8,                   /* not positive, or undefined */
    REJECT_VALUE_MAX = 9,               /* price x size */
    REJECT_PRICE_COLLAR = 10,           /* too far through the book, or no book to compare with */
    REJECT_POSITION_MAX = 11,           /* position + working + this order, per side */
    REJECT_GROSS_MAX = 12,              /* sum over instruments of exposure value */
    REJECT_RATE_MAX = 13,               /* orders within the window */
    REJECT_DUPLICATE = 14,              /* order id already used */
    REJECT_VENUE = 15,                  /* the venue refused it */
    REJECT_TOO_MANY_OPEN = 16,          /* working orders, all instruments */
    REJECT_UNKNOWN_ORDER = 17,          /* cancel of an order that is not working */
    REJECT_END = 18,
};

struct risk_stats {
    uint64_t passed, cancels, rejected[32];
    uint64_t reports;               /* execution reports applied */
    uint64_t reports_unknown;       /* of an order id that is not known: not applied */
    uint64_t reports_duplicate;     /* not newer than the order's last one: not applied */
    uint64_t reports_beyond;        /* applied fills of more than was open: the venue's word counts */
};
