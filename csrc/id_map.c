#include "id_map.h"
#include <errno.h>
#include <stdlib.h>

_Static_assert(sizeof(struct id_slot) == 16, "four to a line");

/* Fibonacci hashing, folded: our ids count up, and their low bits must spread. */
static uint64_t home(const struct id_map *map, uint64_t id)
{
    uint64_t hash = id * 0x9e3779b97f4a7c15u;
    return (hash ^ hash >> 32) & map->mask;
}

/* Where id is, or the empty slot that ends its run; half of the slots are empty. */
static uint64_t probe(const struct id_map *map, uint64_t id)
{
    uint64_t at = home(map, id);
    while (map->slots[at].row != (uint32_t)NO_ROW && map->slots[at].id != id)
        at = (at + 1) & map->mask;
    return at;
}

int id_map_create(struct id_map *map, uint32_t rows_max)
{
    uint64_t slots = 16;
    while (slots < 2 * (uint64_t)rows_max)
        slots *= 2;
    map->slots = calloc(slots, sizeof *map->slots);
    if (!map->slots)
        return -ENOMEM;
    map->mask = slots - 1;
    for (uint64_t i = 0; i < slots; i++)
        map->slots[i].row = NO_ROW;
    return 0;
}

void id_map_destroy(struct id_map *map) { free(map->slots); }

uint32_t id_map_find(const struct id_map *map, uint64_t id) { return map->slots[probe(map, id)].row; }

void id_map_add(struct id_map *map, uint64_t id, uint32_t row)
{
    map->slots[probe(map, id)] = (struct id_slot){ .id = id, .row = row };
}

void id_map_remove(struct id_map *map, uint64_t id)
{
    uint64_t hole = probe(map, id);
    for (uint64_t at = (hole + 1) & map->mask; map->slots[at].row != (uint32_t)NO_ROW; at = (at + 1) & map->mask) {
        /* Only an entry whose home lies at or before the hole may move into it. */
        uint64_t moved = (at - home(map, map->slots[at].id)) & map->mask;
        if (moved >= ((at - hole) & map->mask)) {
            map->slots[hole] = map->slots[at];
            hole = at;
        }
    }
    map->slots[hole].row = NO_ROW;
}
