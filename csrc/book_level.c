#include "book_level.h"
#include <string.h>

/* A side is a sorted array with its best level last: nearly everything happens within a few levels
 * of the best, so a search walks down from there and an insertion moves a few 32-byte levels.
 * Far from the best a search is binary, and an insertion moves what lies above it: at 10^5 levels
 * in one book a stray far price moves 3 MB, the worst that input can ask for.
 *
 * Arrays have power-of-two lengths and one free list per length. A full array moves to one of
 * twice the length. When nothing of a length is free or fresh, a longer free array is split;
 * short ones are not joined again before everything is cleared: a session's books grow to their
 * shape in the morning and keep it. */

enum { CLASS_MIN = 2, SEARCH_NEAR = 8 };

_Static_assert(sizeof(struct level) == 32, "two levels per cache line");

void arena_open(struct level_arena *arena, struct level *levels, uint32_t room)
{
    arena->level = levels;
    arena->room = room;
    arena_reset(arena);
}

void arena_reset(struct level_arena *arena)
{
    arena->fresh = 0;
    memset(arena->free, 0xff, sizeof(arena->free));
    _Static_assert(NO_LEVEL == 0xffffffff, "all bits set");
}

static void give(struct level_arena *arena, uint32_t at, int class)
{
    arena->level[at].head = arena->free[class];
    arena->free[class] = at;
}

static uint32_t pop(struct level_arena *arena, int class)
{
    uint32_t at = arena->free[class];
    arena->free[class] = arena->level[at].head;
    return at;
}

static uint32_t split(struct level_arena *arena, int class)
{
    int longer = class + 1;
    while (longer < LEVEL_CLASSES && arena->free[longer] == NO_LEVEL)
        longer++;
    if (longer == LEVEL_CLASSES)
        return NO_LEVEL;
    uint32_t at = pop(arena, longer);
    while (longer-- > class)
        give(arena, at + (1U << longer), longer);
    return at;
}

static uint32_t take(struct level_arena *arena, int class)
{
    if (class >= LEVEL_CLASSES)
        return NO_LEVEL;
    if (arena->free[class] != NO_LEVEL)
        return pop(arena, class);
    if (arena->room - arena->fresh < 1U << class)
        return split(arena, class);
    arena->fresh += 1U << class;
    return arena->fresh - (1U << class);
}

void side_release(struct level_arena *arena, struct book_side *side)
{
    if (side->room != 0)
        give(arena, side->at, __builtin_ctz(side->room));
    *side = (struct book_side){ 0 };
}

static int grow(struct level_arena *arena, struct book_side *side)
{
    int class = side->room != 0 ? __builtin_ctz(side->room) + 1 : CLASS_MIN;
    uint32_t at = take(arena, class);
    if (at == NO_LEVEL)
        return 0;
    struct book_side grown = { .at = at, .count = side->count, .room = 1U << class };
    memcpy(arena->level + at, arena->level + side->at, side->count * sizeof(struct level));
    side_release(arena, side);
    *side = grown;
    return 1;
}

/* How many levels are worse than this price: where it is or belongs. Complementing the prices
 * (~x = -x - 1, which cannot overflow) makes the asks ascend as well. */
static uint32_t rank(const struct level *levels, uint32_t count, int ask, int64_t price)
{
    const int64_t flip = -(int64_t)ask, key = price ^ flip;
    uint32_t near = count > SEARCH_NEAR ? count - SEARCH_NEAR : 0;
    while (count > near && (levels[count - 1].price ^ flip) >= key)
        count--;
    if (count > near || near == 0)
        return count;
    uint32_t low = 0;
    while (low < count) {
        uint32_t middle = low + (count - low) / 2;
        if ((levels[middle].price ^ flip) < key)
            low = middle + 1;
        else
            count = middle;
    }
    return low;
}

struct level *level_find(const struct level_arena *arena, const struct book_side *side, int ask, int64_t price)
{
    struct level *levels = arena->level + side->at;
    uint32_t at = rank(levels, side->count, ask, price);
    return at < side->count && levels[at].price == price ? levels + at : NULL;
}

struct level *level_get(struct level_arena *arena, struct book_side *side, int ask, int64_t price)
{
    struct level *levels = arena->level + side->at;
    uint32_t at = rank(levels, side->count, ask, price);
    if (at < side->count && levels[at].price == price)
        return levels + at;
    if (side->count == side->room && !grow(arena, side))
        return NULL;
    struct level *level = arena->level + side->at + at;
    memmove(level + 1, level, (side->count - at) * sizeof(*level));
    *level = (struct level){ .price = price, .head = NO_ORDER, .tail = NO_ORDER };
    side->count++;
    return level;
}

void level_erase(struct level_arena *arena, struct book_side *side, struct level *level)
{
    struct level *end = arena->level + side->at + side->count;
    memmove(level, level + 1, (size_t)(end - level - 1) * sizeof(*level));
    side->count--;
}
