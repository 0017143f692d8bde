#pragma once
#include "scalar.h"

/* IEX TOPS 1.6 (edition 1.66) and DEEP 1.0 (edition 1.08), cited by the specifications'
 * section titles. Little-endian; strings are ASCII, left justified and space padded. IEX
 * may add fields at the end of any message: what is longer than here is read as far as here.
 * TOPS 1.5 is another protocol (its trade messages have 42 bytes). */

/* Administrative Message Formats */

struct iex_system_event {               /* S */
    uint8_t type;
    char event;             /* O S R M E C: messages, system hours, regular hours; start and end */
    ns64le timestamp;
};

struct iex_security_directory {         /* D */
    uint8_t type;
    uint8_t flags;          /* 0x80 test, 0x40 when issued, 0x20 ETP */
    ns64le timestamp;
    char symbol[8];
    le32 round_lot_size;
    px4le adjusted_poc_price;   /* corporate-action adjusted previous official close */
    uint8_t luld_tier;
};

struct iex_trading_status {             /* H */
    uint8_t type;
    char status;            /* H halted, O order acceptance period, P paused, T trading */
    ns64le timestamp;
    char symbol[8];
    char reason[4];
};

struct iex_retail_liquidity_indicator { /* I */
    uint8_t type;
    char indicator;         /* A buy, B sell, C both, space none */
    ns64le timestamp;
    char symbol[8];
};

struct iex_operational_halt {           /* O */
    uint8_t type;
    char status;            /* O halted on IEX, N not */
    ns64le timestamp;
    char symbol[8];
};

struct iex_short_sale_price_test {      /* P */
    uint8_t type;
    uint8_t status;         /* 0 not in effect, 1 in effect */
    ns64le timestamp;
    char symbol[8];
    char detail;
};

struct iex_security_event {             /* E, DEEP */
    uint8_t type;
    char event;             /* O opening process complete, C closing process complete */
    ns64le timestamp;
    char symbol[8];
};

/* Trading Message Formats */

struct iex_quote_update {               /* Q, TOPS */
    uint8_t type;
    uint8_t flags;          /* 0x80 not trading, 0x40 outside regular hours */
    ns64le timestamp;
    char symbol[8];
    le32 bid_size;
    px4le bid_price;        /* 0: no bid */
    px4le ask_price;        /* 0: no ask */
    le32 ask_size;
};

struct iex_buy_level_update {           /* 8, DEEP */
    uint8_t type;
    uint8_t event_flags;    /* IEX_EVENT_COMPLETE */
    ns64le timestamp;
    char symbol[8];
    le32 size;              /* the level's new total; 0 removes it */
    px4le price;
};

struct iex_sell_level_update {          /* 5, DEEP */
    uint8_t type;
    uint8_t event_flags;
    ns64le timestamp;
    char symbol[8];
    le32 size;
    px4le price;
};

struct iex_trade_report {               /* T */
    uint8_t type;
    uint8_t sale_condition_flags;   /* 0x80 ISO, 0x40 extended hours, 0x20 odd lot,
                                     * 0x10 trade-through exempt, IEX_SINGLE_PRICE_CROSS */
    ns64le timestamp;
    char symbol[8];
    le32 size;
    px4le price;
    le64 trade_id;
};

struct iex_official_price {             /* X */
    uint8_t type;
    char price_type;        /* Q opening, M closing */
    ns64le timestamp;
    char symbol[8];
    px4le price;
};

struct iex_trade_break {                /* B */
    uint8_t type;
    uint8_t sale_condition_flags;
    ns64le timestamp;
    char symbol[8];
    le32 size;
    px4le price;
    le64 trade_id;
};

/* Auction Message Formats */

struct iex_auction_information {        /* A */
    uint8_t type;
    char auction_type;      /* O opening, C closing, I IPO, H halt, V volatility */
    ns64le timestamp;
    char symbol[8];
    le32 paired_shares;
    px4le reference_price;
    px4le indicative_clearing_price;
    le32 imbalance_shares;
    char imbalance_side;    /* B buy, S sell, N none */
    uint8_t extension_number;
    sec32le scheduled_auction_time;
    px4le auction_book_clearing_price;
    px4le collar_reference_price;
    px4le lower_auction_collar;
    px4le upper_auction_collar;
};

enum {
    IEX_EVENT_COMPLETE = 1,         /* event_flags: the book is consistent after this one */
    IEX_SINGLE_PRICE_CROSS = 8,     /* sale_condition_flags */
};

/* X(type, name, length in the specification) */
#define IEX_COMMON(X) \
    X('S', system_event, 10) \
    X('D', security_directory, 31) \
    X('H', trading_status, 22) \
    X('I', retail_liquidity_indicator, 18) \
    X('O', operational_halt, 18) \
    X('P', short_sale_price_test, 19) \
    X('T', trade_report, 38) \
    X('X', official_price, 26) \
    X('B', trade_break, 38) \
    X('A', auction_information, 80)
#define TOPS16_MESSAGES(X) IEX_COMMON(X) \
    X('Q', quote_update, 42)
#define DEEP10_MESSAGES(X) IEX_COMMON(X) \
    X('E', security_event, 18) \
    X('8', buy_level_update, 30) \
    X('5', sell_level_update, 30)
