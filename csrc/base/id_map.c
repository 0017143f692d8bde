#include "base/id_map.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(struct id_link) == 16, "four to a line");

/* Our ids count up, so eight neighbours get buckets side by side; Fibonacci hashing, folded,
 * spreads the groups, and ids with any other stride. */
static uint32_t *bucket(const struct id_map *map, uint64_t id)
{
    uint64_t group = (id >> 3) * 0x9e3779b97f4a7c15u;
    return &map->first[((group ^ group >> 32) << 3 | (id & 7)) & map->mask];
}

int id_map_create(struct id_map *map, uint32_t rows_max)
{
    uint64_t buckets = 8;
    while (buckets < rows_max)
        buckets *= 2;
    map->mask = buckets - 1;
    map->links = calloc(rows_max, sizeof *map->links);
    map->first = malloc(buckets * sizeof *map->first);
    if (!map->links || !map->first)
        return -ENOMEM;
    memset(map->first, 0xff, buckets * sizeof *map->first);     /* NO_ROW */
    return 0;
}

void id_map_destroy(struct id_map *map)
{
    free(map->links);
    free(map->first);
}

uint32_t id_map_find(const struct id_map *map, uint64_t id)
{
    uint32_t row = *bucket(map, id);
    while (row != (uint32_t)NO_ROW && map->links[row].id != id)
        row = map->links[row].next;
    return row;
}

void id_map_add(struct id_map *map, uint64_t id, uint32_t row)
{
    uint32_t *first = bucket(map, id);
    map->links[row] = (struct id_link){ .id = id, .next = *first };
    *first = row;
}

void id_map_remove(struct id_map *map, uint64_t id)
{
    uint32_t *at = bucket(map, id);
    while (*at != (uint32_t)NO_ROW && map->links[*at].id != id)
        at = &map->links[*at].next;
    if (*at != (uint32_t)NO_ROW)
        *at = map->links[*at].next;
}
