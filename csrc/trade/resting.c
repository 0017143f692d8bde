#include "trade/resting.h"
#include <errno.h>
#include <stdlib.h>

enum { ORDERS_MAX = 1 << 30 };

_Static_assert(sizeof(struct resting) == 40, "no padding but its own");

int resting_create(struct resting_pool *pool, uint32_t orders_max)
{
    if (orders_max == 0 || orders_max > ORDERS_MAX)
        return -EINVAL;
    pool->orders_max = orders_max;
    pool->orders = calloc((size_t)orders_max + 1, sizeof *pool->orders);
    return pool->orders ? id_map_create(&pool->ids, orders_max + 1) : -ENOMEM;
}

void resting_destroy(struct resting_pool *pool)
{
    free(pool->orders);
    id_map_destroy(&pool->ids);
}

int resting_better(int side, int64_t a, int64_t b) { return side == SIDE_BID ? a > b : a < b; }

static uint32_t take_row(struct resting_pool *pool)
{
    uint32_t row = pool->free_first;
    if (row == NO_RESTING)
        return ++pool->rows_used;
    pool->free_first = pool->orders[row].next;
    return row;
}

void resting_add(struct resting_pool *pool, uint32_t *first, const struct resting *order)
{
    struct resting *orders = pool->orders;
    uint32_t row = take_row(pool), before = NO_RESTING, after = *first;
    while (after != NO_RESTING && !resting_better(order->side, order->price, orders[after].price)) {
        before = after;
        after = orders[after].next;
    }
    orders[row] = *order;
    orders[row].prev = before;
    orders[row].next = after;
    if (after != NO_RESTING)
        orders[after].prev = row;
    *(before != NO_RESTING ? &orders[before].next : first) = row;
    id_map_add(&pool->ids, order->id, row);
}

void resting_remove(struct resting_pool *pool, uint32_t *first, uint32_t row)
{
    struct resting *orders = pool->orders, *order = &orders[row];
    if (order->next != NO_RESTING)
        orders[order->next].prev = order->prev;
    *(order->prev != NO_RESTING ? &orders[order->prev].next : first) = order->next;
    id_map_remove(&pool->ids, order->id);
    order->next = pool->free_first;
    pool->free_first = row;
}
