#pragma once
#include <stdint.h>

/* Order id -> row of a table of our own orders, rows 0 .. rows_max - 1. Chained: each bucket is
 * a list of rows, and as there are at least as many buckets as rows, lists are short. Removal
 * unlinks; nothing is left behind. */

enum { NO_ROW = 0xffffffff };

struct id_link {            /* by row */
    uint64_t id;
    uint32_t next;          /* row in the same bucket; NO_ROW at the end */
    uint32_t pad;
};
struct id_map {
    struct id_link *links;
    uint32_t *first;        /* by bucket */
    uint64_t mask;
};

int id_map_create(struct id_map *map, uint32_t rows_max);   /* 0 or -ENOMEM */
void id_map_destroy(struct id_map *map);
uint32_t id_map_find(const struct id_map *map, uint64_t id);
void id_map_add(struct id_map *map, uint64_t id, uint32_t row);     /* neither may be in use */
void id_map_remove(struct id_map *map, uint64_t id);                /* nothing when absent */
