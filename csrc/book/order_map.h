#pragma once
#include "book/order.h"

/* Order id -> index in the order pool. Theory in order_map.c. */

enum { MAP_SLOTS = 8, MAP_GROUP_BITS = 2, MAP_SPILL_LINES = 256, MAP_HASH_BITS = 29 };

struct map_entry {
    uint32_t tag;           /* hash of id / 4, 29 bits; id % 8, 3 bits */
    uint32_t ref;           /* pool index + 1; 0: the slot is empty */
};

struct map_line { struct map_entry slot[MAP_SLOTS]; };

struct order_map {
    uint64_t line_at;       /* bytes from here to count + MAP_SPILL_LINES lines, zero at first */
    uint64_t count;
    uint64_t key[4];
};

static inline struct map_line *lines_of(const struct order_map *map)
{
    return (struct map_line *)((char *)map + map->line_at);
}

uint64_t order_map_lines(uint32_t orders_max);  /* lines to provide, spill included */
void order_map_open(struct order_map *map, struct map_line *lines, uint32_t orders_max, uint64_t seed);
void order_map_clear(struct order_map *map);    /* touches every line */
uint32_t order_map_tag(const struct order_map *map, uint64_t id);
/* The entry of an id that has this tag, or NULL. */
struct map_entry *order_map_find(const struct order_map *map, const struct order *pool, uint64_t id, uint32_t tag);
/* Enters id -> index. -EEXIST: the id is live; -ENOSPC: no slot, or index is NO_ORDER. */
int order_map_put(struct order_map *map, const struct order *pool, uint64_t id, uint32_t tag, uint32_t index);
void order_map_erase(struct order_map *map, struct map_entry *entry);
/* Hints: the line of a tag; then, when that line is near, the entry that is probably meant. */
void order_map_prefetch(const struct order_map *map, uint32_t tag);
struct map_entry *order_map_guess(const struct order_map *map, uint32_t tag);   /* NULL: none */
