#pragma once
#include "scalar.h"

/* Nasdaq TotalView-ITCH 5.0, the edition with Direct Listing with Capital Raise (O): the 23
 * messages, section numbers as there. Big-endian; Alpha fields are ASCII, left justified and
 * space padded; Price (4) and Price (8) have that many decimals. Field names follow the
 * specification, where "Stock Locate" is `locate` and "Tracking Number" `tracking`. */

struct itch50_header {
    uint8_t type;
    be16 locate;            /* of the security within the day; 0 in venue-wide messages */
    be16 tracking;
    ns48be timestamp;
};

struct itch50_system_event {                        /* S, 1.1 */
    struct itch50_header h;
    char event_code;        /* O S Q M E C: messages, system hours, market hours; start and end */
};

struct itch50_stock_directory {                     /* R, 1.2.1 */
    struct itch50_header h;
    char stock[8];
    char market_category;
    char financial_status;
    be32 round_lot_size;
    char round_lots_only;
    char issue_classification;
    char issue_subtype[2];
    char authenticity;      /* P live, T test */
    char short_sale_threshold;
    char ipo_flag;
    char luld_reference_price_tier;
    char etp_flag;
    be32 etp_leverage_factor;
    char inverse_indicator;
};

struct itch50_stock_trading_action {                /* H, 1.2.2 */
    struct itch50_header h;
    char stock[8];
    char trading_state;     /* H halted, P paused, Q quotation only, T trading */
    char reserved;
    char reason[4];
};

struct itch50_reg_sho_restriction {                 /* Y, 1.2.3 */
    struct itch50_header h;
    char stock[8];
    char reg_sho_action;    /* 0 none, 1 in effect after an intraday drop, 2 remains in effect */
};

struct itch50_market_participant_position {         /* L, 1.2.4 */
    struct itch50_header h;
    char mpid[4];
    char stock[8];
    char primary_market_maker;
    char market_maker_mode;
    char market_participant_state;
};

struct itch50_mwcb_decline_level {                  /* V, 1.2.5.1 */
    struct itch50_header h;
    px8be level_1;
    px8be level_2;
    px8be level_3;
};

struct itch50_mwcb_status {                         /* W, 1.2.5.2 */
    struct itch50_header h;
    char breached_level;    /* 1 2 3 */
};

struct itch50_ipo_quoting_period_update {           /* K, 1.2.6 */
    struct itch50_header h;
    char stock[8];
    be32 release_time;      /* seconds since midnight */
    char release_qualifier; /* A anticipated, C canceled or postponed */
    px4be price;
};

struct itch50_luld_auction_collar {                 /* J, 1.2.7 */
    struct itch50_header h;
    char stock[8];
    px4be reference_price;
    px4be upper_price;
    px4be lower_price;
    be32 extension;
};

struct itch50_operational_halt {                    /* h, 1.2.8 */
    struct itch50_header h;
    char stock[8];
    char market_code;       /* Q Nasdaq, B BX, X PSX */
    char action;            /* H halted, T resumed */
};

struct itch50_add_order {                           /* A, 1.3.1 */
    struct itch50_header h;
    be64 order_reference;
    char side;              /* B buy, S sell */
    be32 shares;
    char stock[8];
    px4be price;
};

struct itch50_add_order_mpid {                      /* F, 1.3.2 */
    struct itch50_header h;
    be64 order_reference;
    char side;
    be32 shares;
    char stock[8];
    px4be price;
    char attribution[4];
};

struct itch50_order_executed {                      /* E, 1.4.1 */
    struct itch50_header h;
    be64 order_reference;
    be32 shares;            /* executed */
    be64 match_number;
};

struct itch50_order_executed_with_price {           /* C, 1.4.2 */
    struct itch50_header h;
    be64 order_reference;
    be32 shares;            /* executed */
    be64 match_number;
    char printable;         /* N: leave out of volume, it will be in a cross trade */
    px4be price;
};

struct itch50_order_cancel {                        /* X, 1.4.3 */
    struct itch50_header h;
    be64 order_reference;
    be32 shares;            /* removed, not left */
};

struct itch50_order_delete {                        /* D, 1.4.4 */
    struct itch50_header h;
    be64 order_reference;
};

struct itch50_order_replace {                       /* U, 1.4.5 */
    struct itch50_header h;
    be64 order_reference;   /* of the order that goes */
    be64 new_order_reference;
    be32 shares;
    px4be price;
};

struct itch50_trade {                               /* P, 1.5.1: against a non-displayed order */
    struct itch50_header h;
    be64 order_reference;   /* 0 since 2010 */
    char side;              /* of the non-displayed order; always B since 2014 */
    be32 shares;
    char stock[8];
    px4be price;
    be64 match_number;
};

struct itch50_cross_trade {                         /* Q, 1.5.2 */
    struct itch50_header h;
    be64 shares;
    char stock[8];
    px4be cross_price;
    be64 match_number;
    char cross_type;        /* O opening, C closing, H halt or IPO */
};

struct itch50_broken_trade {                        /* B, 1.5.3 */
    struct itch50_header h;
    be64 match_number;
};

struct itch50_noii {                                /* I, 1.6 */
    struct itch50_header h;
    be64 paired_shares;
    be64 imbalance_shares;
    char imbalance_direction;   /* B buy, S sell, N none, O too few orders, P paused */
    char stock[8];
    px4be far_price;
    px4be near_price;
    px4be current_reference_price;
    char cross_type;        /* O opening, C closing, H halt or IPO, A extended close */
    char price_variation_indicator;
};

struct itch50_rpii {                                /* N, 1.7 */
    struct itch50_header h;
    char stock[8];
    char interest_flag;     /* B S A both N none */
};

struct itch50_direct_listing_with_capital_raise {   /* O, 1.8 */
    struct itch50_header h;
    char stock[8];
    char open_eligibility_status;
    px4be minimum_allowable_price;
    px4be maximum_allowable_price;
    px4be near_execution_price;
    be64 near_execution_time;   /* ns since midnight */
    px4be lower_price_range_collar;
    px4be upper_price_range_collar;
};

enum {
    ITCH50_PRICE_MAX = 2147483647,  /* Price (4) wire units: 214,748.3647; market orders in
                                     * crosses carry 200,000.0000 */
};

/* X(type, name, length in the specification) */
#define ITCH50_MESSAGES(X) \
    X('S', system_event, 12) \
    X('R', stock_directory, 39) \
    X('H', stock_trading_action, 25) \
    X('Y', reg_sho_restriction, 20) \
    X('L', market_participant_position, 26) \
    X('V', mwcb_decline_level, 35) \
    X('W', mwcb_status, 12) \
    X('K', ipo_quoting_period_update, 28) \
    X('J', luld_auction_collar, 35) \
    X('h', operational_halt, 21) \
    X('A', add_order, 36) \
    X('F', add_order_mpid, 40) \
    X('E', order_executed, 31) \
    X('C', order_executed_with_price, 36) \
    X('X', order_cancel, 23) \
    X('D', order_delete, 19) \
    X('U', order_replace, 35) \
    X('P', trade, 44) \
    X('Q', cross_trade, 40) \
    X('B', broken_trade, 19) \
    X('I', noii, 50) \
    X('N', rpii, 20) \
    X('O', direct_listing_with_capital_raise, 48)
