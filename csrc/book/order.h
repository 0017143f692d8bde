#pragma once
#include <stdint.h>

/* An order, a price level and a side of a book, as they lie in memory. */

enum { NO_ORDER = 0xffffffff };

struct order {              /* one live order: 32 bytes */
    uint64_t id;
    int64_t price;          /* 1e-9 */
    uint32_t size;          /* left */
    uint32_t next, prev;    /* queue of its level, oldest first; NO_ORDER at the ends */
    uint32_t where;         /* instrument << 1 | (side == SIDE_ASK) */
};

struct level {              /* one price: 32 bytes; a side is a sorted array, best LAST */
    int64_t price;
    uint64_t size;          /* sum of its orders; the venue's total in a price-level book */
    uint32_t orders;        /* 0 in a price-level book that does not tell */
    uint32_t head, tail;    /* indices into the order pool */
    uint32_t pad;
};

struct book_side {
    uint32_t at;            /* first level in books_levels() */
    uint32_t count;         /* levels; the best is at + count - 1 */
    uint32_t room;
    uint32_t pad;
};
