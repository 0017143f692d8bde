#pragma once
#include "book/order.h"

/* Order books and price levels of the instruments of one feed, in memory taken at start.
 * Theory in book.c (levels) and order_map.c (order id -> order). */

enum { BOOK_INSTRUMENTS_MAX = 65536 };

enum {                      /* book.state */
    BOOK_SEEN = 1,          /* this instrument has appeared in the session */
    BOOK_HALTED = 2,        /* by its listing market */
    BOOK_STOPPED = 8,       /* operational halt by the venue of the feed, ends on its own */
    BOOK_BROKEN = 4,        /* memory ran out or an order was unknown: suspect until cleared */
};

struct book {               /* one instrument: 128 bytes, two lines */
    uint64_t version;       /* odd while it changes: see book_read_begin() in book.c */
    char symbol[8];         /* ASCII, space padded; NULs until known */
    struct book_side side[2];   /* 0 bids ascending, 1 asks descending */
    int64_t bid, ask;       /* the top as last announced in EVENT_QUOTE */
    uint32_t bid_size, ask_size;
    uint32_t state;         /* BOOK_* */
    uint32_t epoch;         /* of the gap count when it was last known right */
    uint64_t orders;        /* live */
    uint64_t pad[5];
};

struct book_change {        /* what an operation touched, for the event record */
    int64_t price;
    uint32_t instrument;
    uint32_t size;          /* removed or executed */
    uint32_t left;          /* 0: the order is gone */
    uint8_t side;           /* SIDE_* */
    uint8_t pad[3];
};

struct books_config {
    uint32_t orders_max;        /* live at once */
    uint32_t levels_max;        /* over all instruments, array slack included */
    uint64_t seed;              /* of the order-id hash */
};

struct books;
int books_create(const struct books_config *config, struct books **books);
void books_destroy(struct books *books);
/* Takes all its pages now, so that none is first touched while the market is open. 0, or a
 * negative errno: -ENOMEM, or -EINVAL from a kernel before 5.14. */
int books_populate(struct books *books);
void books_clear(struct books *books);      /* everything: session start */
uint64_t books_memory(const struct books *books);   /* bytes reserved at start */
uint64_t books_orders(const struct books *books);   /* live orders */
uint64_t books_orders_peak(const struct books *books);
const struct book *books_all(const struct books *books);        /* BOOK_INSTRUMENTS_MAX of them */
const struct level *books_levels(const struct books *books);
const struct order *books_pool(const struct books *books);
uint64_t books_levels_room(const struct books *books);          /* length of books_levels() */
/* The sum, modulo 2^64, of FNV-1a over (symbol or instrument, side, price, size, orders) of each
 * level: the same books give the same hash on every host and build; 0 when there is no level. */
uint64_t books_hash(const struct books *books);

/* Operations. 0, or the counter (enum counter) that says why the book did not change. On
 * book_over_reduce the order is reduced to nothing and `change` tells what was left. */
int book_add(struct books *books, uint32_t instrument, int side, uint64_t id, int64_t price, uint32_t size);
int book_reduce(struct books *books, uint64_t id, uint32_t size, struct book_change *change);
int book_delete(struct books *books, uint64_t id, struct book_change *change);
/* Price-level books: size 0 removes. Size beyond 32 bits is legal here. */
int book_level(struct books *books, uint32_t instrument, int side, int64_t price, uint64_t size);
void book_clear(struct books *books, uint32_t instrument);
struct book *book_of(struct books *books, uint32_t instrument);

const struct order *book_find(const struct books *books, uint64_t id);  /* NULL when not live */
/* Shares and orders ahead of this one at its price; -ENOENT when not live. */
int book_queue(const struct books *books, uint64_t id, uint64_t *shares_ahead, uint32_t *orders_ahead);
/* Prefetch: fill one book_fetch per operation of a batch, in their order, call book_fetch(), then
 * book_*_fetched() for each. It costs a fraction of the same one by one. What was fetched is only a
 * hint: the result is the same. */
enum fetch_kind {
    FETCH_ADD = 0,          /* instrument, side, id, price */
    FETCH_CHANGE = 1,       /* instrument, id */
    FETCH_REPLACE = 2,      /* id, price of the order that takes the place of the one before */
};
struct map_entry;
struct book_fetch {
    uint64_t id;
    int64_t price;
    uint32_t instrument;    /* below BOOK_INSTRUMENTS_MAX */
    uint8_t side;           /* SIDE_* */
    uint8_t kind;           /* FETCH_* */
    uint8_t pad[2];
    uint32_t tag;           /* from here on: found by book_fetch() */
    uint32_t level;
    struct map_entry *entry;
};
void book_fetch(const struct books *books, struct book_fetch *fetches, unsigned count);
int book_add_fetched(struct books *books, const struct book_fetch *fetch, uint32_t instrument, int side, uint32_t size);
int book_reduce_fetched(struct books *books, const struct book_fetch *fetch, uint32_t size, struct book_change *change);
int book_delete_fetched(struct books *books, const struct book_fetch *fetch, struct book_change *change);
/* Readers on other threads: begin, read, and read again when end says 0. */
uint64_t book_read_begin(const struct books *books, uint32_t instrument);
int book_read_end(const struct books *books, uint32_t instrument, uint64_t begun);
/* Copies at most `depth` levels of a side, best first, torn never; returns how many. */
int book_depth(const struct books *books, uint32_t instrument, int side, int depth, struct level *out);
