#include "base/prefetch.h"
#include "book/impl.h"
#include "event.h"

/* What a batch of operations will touch, fetched in passes, so that the memory of one is on its way
 * while the others are looked at, each pass following what the one before has brought:
 *   1. the book, and the line of the map that the id hashes to
 *   2. an order that is to change
 *   3. the best prices of the side, and the order's neighbours in its queue
 *   4. the level of that price
 *   5. the order at the end of the level that an add goes to
 * What was found on the way is kept: an operation that finds its hint still true does not search
 * again. Ones before it in the batch may have moved or removed anything, so each hint is checked
 * when it is used; and until then it only ever names memory that exists. */

static const struct book_side *side_of(const struct books *books, const struct book_fetch *fetch)
{
    return &books->all[fetch->instrument].side[fetch->side == SIDE_ASK];
}

static void find_entry(const struct books *books, struct book_fetch *fetch)
{
    fetch->entry = order_map_guess(&books->map, fetch->tag);
    if (fetch->entry != NULL)
        prefetch(&books->pool[fetch->entry->ref - 1]);
}

/* The side and price of the order that is to change, which the message does not tell. */
static void look_at_order(const struct books *books, struct book_fetch *fetch)
{
    const struct order *order = &books->pool[fetch->entry->ref - 1];
    fetch->instrument = order->where >> 1;
    fetch->side = order->where & 1 ? SIDE_ASK : SIDE_BID;
    fetch->price = order->price;
    if (order->prev != NO_ORDER)
        prefetch(&books->pool[order->prev]);
    if (order->next != NO_ORDER)
        prefetch(&books->pool[order->next]);
}

static void find_side(const struct books *books, struct book_fetch *fetch)
{
    if (fetch->kind == FETCH_REPLACE) {
        fetch->instrument = fetch[-1].instrument;
        fetch->side = fetch[-1].side;
        return;
    }
    if (fetch->entry != NULL)
        look_at_order(books, fetch);
    const struct book_side *side = side_of(books, fetch);
    const char *best = (const char *)&books->arena.price[side->at + side->count - 1];
    prefetch(best);
    prefetch(best - 64);
}

static void find_level(const struct books *books, struct book_fetch *fetch)
{
    const struct book_side *side = side_of(books, fetch);
    const struct level *level = level_find(&books->arena, side, fetch->side == SIDE_ASK, fetch->price);
    fetch->level = NO_LEVEL;
    if (level != NULL) {
        fetch->level = (uint32_t)(level - books->arena.level);
        prefetch(level);
    }
}

static void find_tail(const struct books *books, const struct book_fetch *fetch)
{
    const uint32_t tail = fetch->level != NO_LEVEL ? books->arena.level[fetch->level].tail : NO_ORDER;
    if (tail != NO_ORDER)
        prefetch(&books->pool[tail]);
}

void book_fetch(const struct books *books, struct book_fetch *fetches, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const char *book = (const char *)&books->all[fetches[i].instrument];
        prefetch(book);         /* its sides, */
        prefetch(book + 64);    /* and its announced top */
        fetches[i].tag = order_map_tag(&books->map, fetches[i].id);
        order_map_prefetch(&books->map, fetches[i].tag);
        fetches[i].entry = NULL;
    }
    for (unsigned i = 0; i < count; i++)
        if (fetches[i].kind == FETCH_CHANGE)
            find_entry(books, &fetches[i]);
    for (unsigned i = 0; i < count; i++)
        find_side(books, &fetches[i]);
    for (unsigned i = 0; i < count; i++)
        find_level(books, &fetches[i]);
    for (unsigned i = 0; i < count; i++)
        if (fetches[i].kind != FETCH_CHANGE)
            find_tail(books, &fetches[i]);
}
