#include "book/level.h"
#include <string.h>

/* A side is a sorted array with its best level last: nearly everything happens within a few levels
 * of the best, so a search looks there first and an insertion moves a few 32-byte levels. It
 * moves all that lies above it: at 10^5 levels in one book a stray far price moves 4 MB, the
 * worst that input can ask for. The prices are kept a second time, side by side, so that a search
 * touches one or two cache lines.
 *
 * Arrays have power-of-two lengths and one free list per length. A full array moves to one of
 * twice the length. When nothing of a length is free or fresh, a longer free array is split;
 * short ones are not joined again before everything is cleared: a session's books grow to their
 * shape in the morning and keep it. */

enum { CLASS_MIN = 2, SEARCH_NEAR = 8 };

_Static_assert(sizeof(struct level) == 32, "two levels per cache line");

void arena_open(struct level_arena *arena, struct level *levels, int64_t *prices, uint32_t room)
{
    arena->level_at = (uint64_t)((char *)levels - (char *)arena);
    arena->price_at = (uint64_t)((char *)prices - (char *)arena);
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
    levels_of(arena)[at].head = arena->free[class];
    arena->free[class] = at;
}

static uint32_t pop(struct level_arena *arena, int class)
{
    uint32_t at = arena->free[class];
    arena->free[class] = levels_of(arena)[at].head;
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
    memcpy(levels_of(arena) + at, levels_of(arena) + side->at, side->count * sizeof(struct level));
    memcpy(prices_of(arena) + at, prices_of(arena) + side->at, side->count * sizeof(int64_t));
    side_release(arena, side);
    *side = grown;
    return 1;
}

/* How many of the prices are worse than this one: where it is or belongs. Complementing them
 * (~x = -x - 1, which cannot overflow) makes the asks ascend as well. Halving the range takes no
 * branch that could be predicted wrongly. */
static uint32_t rank(const int64_t *prices, uint32_t count, int ask, int64_t price)
{
    const int64_t flip = -(int64_t)ask, key = price ^ flip;
    uint32_t low = 0;
    if (count > SEARCH_NEAR) {
        const uint32_t far = count - SEARCH_NEAR, near = (prices[far - 1] ^ flip) < key;
        low = far & -near;
        count = near ? SEARCH_NEAR : far;
    }
    while (count > 1) {
        const uint32_t half = count / 2;
        low += half & -(uint32_t)((prices[low + half - 1] ^ flip) < key);
        count -= half;
    }
    return low + (count == 1 && (prices[low] ^ flip) < key);
}

struct level *level_find(const struct level_arena *arena, const struct book_side *side, int ask, int64_t price)
{
    const int64_t *prices = prices_of(arena) + side->at;
    uint32_t at = rank(prices, side->count, ask, price);
    return at < side->count && prices[at] == price ? levels_of(arena) + side->at + at : NULL;
}

struct level *level_get(struct level_arena *arena, struct book_side *side, int ask, int64_t price)
{
    const int64_t *prices = prices_of(arena) + side->at;
    uint32_t at = rank(prices, side->count, ask, price);
    if (at < side->count && prices[at] == price)
        return levels_of(arena) + side->at + at;
    if (side->count == side->room && !grow(arena, side))
        return NULL;
    struct level *level = levels_of(arena) + side->at + at;
    int64_t *first = prices_of(arena) + side->at + at;
    memmove(level + 1, level, (side->count - at) * sizeof(*level));
    memmove(first + 1, first, (side->count - at) * sizeof(*first));
    *first = price;
    *level = (struct level){ .price = price, .head = NO_ORDER, .tail = NO_ORDER };
    side->count++;
    return level;
}

void level_erase(struct level_arena *arena, struct book_side *side, struct level *level)
{
    const size_t above = (size_t)(levels_of(arena) + side->at + side->count - level - 1);
    int64_t *price = prices_of(arena) + (level - levels_of(arena));
    memmove(level, level + 1, above * sizeof(*level));
    memmove(price, price + 1, above * sizeof(*price));
    side->count--;
}
