#pragma once
#include <stdint.h>

/* Order id -> row of a table of our own orders. Open addressing at most half full, linear
 * probing; removal shifts the run back, so nothing is left behind and a probe is always short. */

enum { NO_ROW = 0xffffffff };

struct id_slot {
    uint64_t id;
    uint32_t row;           /* NO_ROW: empty */
    uint32_t pad;
};
struct id_map {
    struct id_slot *slots;
    uint64_t mask;
};

int id_map_create(struct id_map *map, uint32_t rows_max);   /* 0 or -ENOMEM */
void id_map_destroy(struct id_map *map);
uint32_t id_map_find(const struct id_map *map, uint64_t id);
void id_map_add(struct id_map *map, uint64_t id, uint32_t row); /* id must be absent, rows_max not reached */
void id_map_remove(struct id_map *map, uint64_t id);
