#pragma once
#include "scalar.h"

/* Nasdaq OUCH 5.0, what goes to the venue: Enter Order, section 2.1 "Inbound Messages". Big-endian;
 * Alpha fields are ASCII, left justified and space padded. Field names follow the specification. */

struct ouch50_enter_order {     /* O */
    uint8_t type;
    be32 user_ref_num;          /* rises by order of an account within the day */
    char side;                  /* B buy, S sell, T sell short, E sell short exempt */
    be32 quantity;              /* shares */
    char symbol[8];
    px4be64 price;
    char time_in_force;         /* 0 day, 3 immediate or cancel, 5 GTX, 6 GTT, E after hours */
    char display;               /* Y visible, N hidden, A attributable */
    char capacity;              /* A agency, P principal, R riskless, O other */
    char intermarket_sweep;     /* Y eligible, N not */
    char cross_type;            /* N continuous market; O, C, H, S, R, E, A: crosses and others */
    char cl_ord_id[14];         /* the client's, given back in reports */
    be16 appendage_length;      /* bytes of optional fields that follow */
};

enum {
    OUCH50_QUANTITY_MAX = 1000000,      /* less than that */
    OUCH50_PRICE_MAX = 1999999900,      /* 199,999.9900 in wire units */
};

/* X(type, name, length in the specification) */
#define OUCH50_MESSAGES(X) \
    X('O', enter_order, 47)
