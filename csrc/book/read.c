#include "book/impl.h"
#include "event.h"
#include <emmintrin.h>
#include <errno.h>
#include <stddef.h>

/* Looking at books. Levels may be read by other threads while the writer goes on: they
 * take the version before, read, and ask whether it still holds. What they read meanwhile may be
 * torn, so a side's place is checked against the arena before it is followed; nothing of it
 * counts until book_read_end has said yes.
 *
 * The map and the pool have no such version: book_find and book_queue are for the thread that
 * writes, or while it rests. From elsewhere they never leave the pool and always end, and an order
 * found between a begin and an end that hold is right. */

enum { READ_TRIES = 4096 };     /* about 100 us of waiting for a writer that changes something */

uint64_t books_memory(const struct books *books) { return books->bytes; }
uint64_t books_orders(const struct books *books) { return books->orders; }
uint64_t books_orders_peak(const struct books *books) { return books->peak; }
const struct book *books_all(const struct books *books) { return books->all; }
const struct level *books_levels(const struct books *books) { return books->arena.level; }
const struct order *books_pool(const struct books *books) { return books->pool; }
uint64_t books_levels_room(const struct books *books) { return books->arena.room; }

const struct order *book_find(const struct books *books, uint64_t id)
{
    const struct map_entry *entry = order_map_find(&books->map, books->pool, id, order_map_tag(&books->map, id));
    return entry != NULL ? &books->pool[entry->ref - 1] : NULL;
}

struct tally { uint64_t shares; uint32_t orders; };

static uint32_t count_order(const struct books *books, uint32_t at, struct tally *tally, int back)
{
    tally->shares += books->pool[at].size;
    tally->orders++;
    return back ? books->pool[at].prev : books->pool[at].next;
}

static const struct level *level_of(const struct books *books, const struct order *order)
{
    const int ask = order->where & 1;
    struct book_side side = books->all[order->where >> 1].side[ask];
    if ((uint64_t)side.at + side.count > books->arena.room)     /* torn */
        return NULL;
    return level_find(&books->arena, &side, ask, order->price);
}

/* Both ways at once, to the nearer end of the queue: what is ahead was counted, or is what the
 * level has but for the order and those behind it. */
int book_queue(const struct books *books, uint64_t id, uint64_t *shares_ahead, uint32_t *orders_ahead)
{
    const struct order *order = book_find(books, id);
    if (order == NULL)
        return -ENOENT;
    const struct level *level = level_of(books, order);
    struct tally ahead = { 0, 0 }, behind = { order->size, 1 };
    uint32_t back = order->prev, on = order->next;
    while (back != NO_ORDER && (on != NO_ORDER || level == NULL) && ahead.orders < books->orders_max) {
        back = count_order(books, back, &ahead, 1);
        if (on != NO_ORDER)
            on = count_order(books, on, &behind, 0);
    }
    if (back != NO_ORDER && level != NULL)
        ahead = (struct tally){ level->size - behind.shares, level->orders - behind.orders };
    *shares_ahead = ahead.shares;
    *orders_ahead = ahead.orders;
    return 0;
}

/* Acquire: pairs with the release store in change_end; the book is whole as of that version. */
uint64_t book_read_begin(const struct books *books, uint32_t instrument)
{
    if (instrument >= BOOK_INSTRUMENTS_MAX)
        return 1;       /* odd: never holds */
    return __atomic_load_n(&books->all[instrument].version, __ATOMIC_ACQUIRE);
}

/* The acquire fence pairs with the release fence in change_begin: had anything of a later change
 * been read, the version seen here would be its odd one, or newer. */
int book_read_end(const struct books *books, uint32_t instrument, uint64_t begun)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return (begun & 1) == 0 && __atomic_load_n(&books->all[instrument].version, __ATOMIC_RELAXED) == begun;
}

static uint32_t copy_best(const struct level_arena *arena, const struct book_side *side, uint32_t depth, struct level *out)
{
    uint32_t at = __atomic_load_n(&side->at, __ATOMIC_RELAXED);
    uint32_t count = __atomic_load_n(&side->count, __ATOMIC_RELAXED);
    if ((uint64_t)at + count > arena->room)     /* torn */
        return 0;
    if (depth > count)
        depth = count;
    for (uint32_t i = 0; i < depth; i++)
        out[i] = arena->level[at + count - 1 - i];
    return depth;
}

int book_depth(const struct books *books, uint32_t instrument, int side, int depth, struct level *out)
{
    if (instrument >= BOOK_INSTRUMENTS_MAX || depth < 0)
        return -EINVAL;
    const struct book_side *from = &books->all[instrument].side[side == SIDE_ASK];
    for (int i = 0; i < READ_TRIES; i++) {
        uint64_t begun = book_read_begin(books, instrument);
        uint32_t copied = copy_best(&books->arena, from, (uint32_t)depth, out);
        if (book_read_end(books, instrument, begun))
            return (int)copied;
        _mm_pause();
    }
    return -EAGAIN;
}

static uint64_t fnv1a(uint64_t hash, uint64_t value, int bytes)     /* little endian */
{
    for (int i = 0; i < bytes; i++)
        hash = (hash ^ (value >> 8 * i & 0xff)) * 0x100000001b3;
    return hash;
}

static uint64_t hash_side(uint64_t hash, const struct level_arena *arena, const struct book_side *side,
                          uint64_t name, int side_code)
{
    for (uint32_t i = side->count; i-- > 0;) {
        const struct level *level = &arena->level[side->at + i];
        hash = fnv1a(hash, name, 8);
        hash = fnv1a(hash, (uint64_t)side_code, 1);
        hash = fnv1a(hash, (uint64_t)level->price, 8);
        hash = fnv1a(hash, level->size, 8);
        hash = fnv1a(hash, level->orders, 4);
    }
    return hash;
}

/* Instruments ascending; of each the bids, then the asks, best first. A level is 29 bytes: the
 * 8 of the symbol (or, before it is known, the instrument number in 8), 1 SIDE_*, 8 price,
 * 8 size, 4 orders; numbers little endian. The basis is 0xcbf29ce484222325, so empty books
 * hash to that. */
uint64_t books_hash(const struct books *books)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (uint32_t i = 0; i < books->touched; i++) {
        const struct book *book = &books->all[i];
        uint64_t name = i;
        if (book->symbol[0] != 0)
            __builtin_memcpy(&name, book->symbol, 8);
        hash = hash_side(hash, &books->arena, &book->side[0], name, SIDE_BID);
        hash = hash_side(hash, &books->arena, &book->side[1], name, SIDE_ASK);
    }
    return hash;
}
