#pragma once
#include <stdint.h>

/* The record: 64 bytes, one cache line, the only thing that crosses a ring. Market events,
 * orders and execution reports share the first 40 bytes, so one stream can carry them all.
 *
 * Sizes are integers in the unit of their instrument: 10^-n of a share, coin or contract, where n is
 * told by EVENT_INSTRUMENT, 0 for whole shares. What 32 bits do not hold is flagged, never cut in
 * silence: FLAG_WIDE says that `aux` has the upper half of `size` (event_size()), and on an
 * EVENT_QUOTE that a size is told as UNDEF_SIZE, which the book has whole. Orders have 32 bits in a book too: a larger one is refused, counted, and its book
 * suspect. So is a price that 1e-9 in 64 bits does not hold: it is read as UNDEF_PRICE. */

#define UNDEF_PRICE INT64_MAX
enum { FEEDS_MAX = 64 };     /* feeds whose records one ring carries */
enum { UNDEF_SIZE = 0xffffffff };

enum event_kind {
    EVENT_NONE = 0,
    /* about the stream */
    EVENT_SESSION = 1,      /* a session begins: books are empty; order_id = first sequence */
    EVENT_SESSION_END = 2,
    EVENT_GAP = 3,          /* `order_id` messages from `sequence` on are lost; books flagged */
    EVENT_LOST = 4,         /* `order_id` records before this one were not written to this ring */
    EVENT_SYSTEM = 5,       /* venue-wide: aux = the venue's event code */
    /* about an instrument */
    EVENT_INSTRUMENT = 8,   /* directory; order_id = symbol, its first 8 ASCII bytes, space padded;
                             * size = round lot; aux = n: sizes are in 10^-n */
    EVENT_STATUS = 9,       /* trading state: aux = the venue's code */
    EVENT_AUCTION = 10,     /* imbalance: price, size, aux = code */
    EVENT_INFO = 11,        /* any other administrative message: aux = venue message type */
    EVENT_CLEAR = 12,       /* the book of this instrument is empty from here */
    /* about an order in the market */
    EVENT_ADD = 16,         /* order_id, price, size, side */
    EVENT_CANCEL = 17,      /* size = removed, not left; price = the order's */
    EVENT_DELETE = 18,      /* size = what was left */
    EVENT_EXECUTE = 19,     /* a displayed order traded: price = of the trade, size = traded */
    EVENT_TRADE = 20,       /* a trade that changes no book: hidden, cross, auction */
    EVENT_BREAK = 21,       /* a trade was broken: order_id = match number */
    /* about levels */
    EVENT_LEVEL = 24,       /* price level: size = the new total (may be wide), 0 when it is gone */
    EVENT_QUOTE = 25,       /* best prices after an event changed them */
    /* our orders: stage -> risk -> gateway */
    EVENT_ORDER_NEW = 32,   /* order_id = ours; side, price, size; aux = TIME_IN_FORCE_* */
    EVENT_ORDER_CANCEL = 33,
    /* execution reports: gateway -> stage */
    EVENT_ACK = 40,
    EVENT_FILL = 41,        /* price, size = filled now; aux = size left */
    EVENT_CANCELED = 42,    /* size = what was left */
    EVENT_REJECT = 43,      /* aux = REJECT_* */
    EVENT_CANCEL_REJECT = 44,
    /* reserved: no record of these is written yet */
    EVENT_FILL_INFO = 45,   /* behind a FILL: the venue's match number, liquidity, fee */
    EVENT_EXPIRED = 46,     /* an approved order that was never sent, and will not be */
    EVENT_SENT = 47,        /* an approved order was written to its session */
    /* about the appliance; instrument_id = feed << 16 where one feed is meant */
    EVENT_ENGINE = 48,      /* an engine began to write this ring: what came before broke off here;
                             * order_id = 1 for the first one, 2 for the next...;
                             * aux = enum engine_state */
    EVENT_LINK = 49,        /* order_id = source, aux = enum link_state */
    EVENT_LINE = 50,        /* order_id = line (0 is A), aux = enum line_state */
    EVENT_FEED = 51,        /* all lines of a feed: aux = enum line_state */
    EVENT_MARK = 52,        /* a batch ends; ts_recv = record clock, order_id = what was handled;
                             * sequence = the next one of the feed that was handled last */
    EVENT_CHECKPOINT = 53,  /* reserved: order_id = hash of the state at this place */
    EVENT_GATEWAY = 54,     /* reserved: numbers of a gateway's session */
};
enum { EVENT_KINDS_MAX = 64 };   /* kinds stay below: a set of them is one word */

enum engine_state { ENGINE_BEGINS = 0, ENGINE_DIED = 1 };
enum line_state { LINE_ALIVE = 0, LINE_STALE = 1 };     /* heard again; silent for too long */
enum link_state { LINK_STATE_UNKNOWN = 0, LINK_STATE_UP = 1, LINK_STATE_DOWN = 2,
                  LINK_STATE_GONE = 3 };                /* the interface or device is no more */

enum {                      /* event.flags */
    FLAG_LAST = 1,          /* last record of its message */
    FLAG_SUSPECT = 2,       /* the book of this instrument may be wrong */
    FLAG_HALTED = 4,        /* the instrument is not trading */
    FLAG_CROSSED = 8,       /* bid >= ask after this event */
    FLAG_REPLACE = 16,      /* EVENT_DELETE and EVENT_ADD halves of one replace */
    FLAG_HIDDEN = 32,       /* not displayed, or not printable */
    FLAG_CROSS = 64,        /* from an auction or cross */
    FLAG_INCOMPLETE = 128,  /* the venue has more updates to come for this event */
    FLAG_WIDE = 256,        /* a size above 32 bits: see above */
};

enum { SIDE_NONE = 0, SIDE_BID = 1, SIDE_ASK = 2 };     /* the aggressor's book side on trades is the
                                                         * side of the resting order */
enum { TIME_IN_FORCE_DAY = 0, TIME_IN_FORCE_IOC = 1 };

struct event {
    uint64_t stamp;         /* ring position + 1, written last; 0 outside a ring */
    uint64_t ts_recv;       /* ns since the Unix epoch, clock domain of the source */
    uint64_t ts_event;      /* ns since the Unix epoch, the venue's clock */
    uint64_t sequence;      /* of the message in its session; of reports: of the gateway */
    uint32_t instrument_id; /* feed << 16 | index within the feed */
    uint8_t kind;           /* EVENT_* */
    uint8_t side;           /* SIDE_* */
    uint16_t flags;         /* FLAG_* */
    union {
        struct {
            int64_t price;      /* 1e-9; UNDEF_PRICE when there is none */
            uint64_t order_id;
            uint32_t size;
            uint32_t aux;
        };
        struct {                /* EVENT_QUOTE */
            int64_t bid;        /* UNDEF_PRICE when that side is empty */
            int64_t ask;
            uint32_t bid_size;
            uint32_t ask_size;
        };
    };
};
