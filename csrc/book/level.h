#pragma once
#include "book/order.h"
#include <stddef.h>

/* The sorted level arrays of all book sides, in one arena. Theory in level.c. */

enum { NO_LEVEL = 0xffffffff };
enum { LEVEL_CLASSES = 32 };

struct level_arena {
    uint64_t level_at;              /* bytes from here to the levels */
    uint64_t price_at;              /* to the prices of each again: eight a cache line for searches */
    uint32_t room, fresh;           /* length; first never used */
    uint32_t free[LEVEL_CLASSES];   /* arrays of 2^class levels, linked through `head` */
};

static inline struct level *levels_of(const struct level_arena *arena)
{
    return (struct level *)((char *)arena + arena->level_at);
}

static inline int64_t *prices_of(const struct level_arena *arena)
{
    return (int64_t *)((char *)arena + arena->price_at);
}

void arena_open(struct level_arena *arena, struct level *levels, int64_t *prices, uint32_t room);
void arena_reset(struct level_arena *arena);    /* every array is free */
/* The level at this price, or NULL. `ask`: 0 or 1, the index of the side in its book. */
struct level *level_find(const struct level_arena *arena, const struct book_side *side, int ask, int64_t price);
/* The same, made when absent, with size 0 and no orders. NULL: the arena is full. */
struct level *level_get(struct level_arena *arena, struct book_side *side, int ask, int64_t price);
/* The level at this price if it is still where `guess` says; NULL: search with the two above. */
static inline struct level *level_near(const struct level_arena *arena, const struct book_side *side, int64_t price,
                                       uint32_t guess)
{
    return guess - side->at < side->count && prices_of(arena)[guess] == price ? levels_of(arena) + guess : NULL;
}
void level_erase(struct level_arena *arena, struct book_side *side, struct level *level);
void side_release(struct level_arena *arena, struct book_side *side);   /* gives its array back */
