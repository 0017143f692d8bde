#pragma once
#include "base/id_map.h"
#include "event.h"

/* Orders that rest at the simulated venue. A queue is one side of one instrument, best price
 * first, then oldest; its owner keeps the row of the first. Row 0 is nobody. */

enum { NO_RESTING = 0 };

struct resting {
    uint64_t id;
    int64_t price;
    uint32_t left;
    uint32_t instrument;
    uint32_t next, prev;    /* worse and better neighbour; NO_RESTING at the ends */
    uint8_t side;
    uint8_t pad[7];
};

struct resting_pool {
    struct resting *orders;
    struct id_map ids;
    uint32_t orders_max;
    uint32_t rows_used;
    uint32_t free_first;
};

int resting_create(struct resting_pool *pool, uint32_t orders_max);     /* 0, -EINVAL, -ENOMEM */
void resting_destroy(struct resting_pool *pool);
/* Is price `a` better than `b` for an order that rests on `side`? */
int resting_better(int side, int64_t a, int64_t b);
/* There must be room and the id absent. Walks the orders that are no worse. */
void resting_add(struct resting_pool *pool, uint32_t *first, const struct resting *order);
void resting_remove(struct resting_pool *pool, uint32_t *first, uint32_t row);
