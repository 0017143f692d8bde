#pragma once
#include "book/level.h"
#include "book/order_map.h"

/* What book.c and book_read.c share. One mapping holds this struct and all it points to. */

struct books {
    struct order_map map;
    struct order *pool;
    uint32_t orders_max;
    uint32_t free;              /* last freed order, linked through `next` */
    uint32_t fresh;             /* first order never used */
    uint32_t touched;           /* no instrument from here on was ever used */
    uint64_t orders, peak;
    struct level_arena arena;
    struct book *all;
    uint64_t bytes;             /* of the mapping */
};

static inline uint32_t pool_next(const struct books *books)     /* NO_ORDER: full */
{
    if (books->free != NO_ORDER)
        return books->free;
    return books->fresh < books->orders_max ? books->fresh : NO_ORDER;
}
