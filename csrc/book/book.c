#include "book/book.h"
#include "base/prefetch.h"
#include "book/level.h"
#include "book/order_map.h"
#include "counter_id.h"
#include "event.h"
#include <emmintrin.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

/* What is where. An order is found by its id through the map (order_map.c) and knows its
 * instrument, side and price; these lead to its level, by a search from the best (level.c).
 * A level holds the ends of the queue of its orders, oldest first, linked through the pool. So an
 * operation touches a map line, an order, a book, a level and at most two neighbours: it
 * costs what these cache misses cost, and a batch that was fetched (book_fetch()) hides most of them.
 *
 * One thread changes the books. Others read levels by the version of a book, a sequence lock: odd
 * while it changes, and what was read counts only when the version before and after is the same
 * even number (book_read_begin()). Every operation either finds out beforehand that it cannot
 * be done, or is done whole.
 *
 * Instruments of a feed have their books either by order (book_add) or by level (book_level).
 * Mixing both in one book is a fault of the sender: it is refused where it would lose orders, and
 * harmless to memory elsewhere.
 *
 * Memory: 32 bytes an order in the pool and 16 in the map, 40 a level, 128 an instrument,
 * reserved in one piece at start; pages come when first touched and no call is made later. */

_Static_assert(sizeof(struct order) == 32, "two orders per cache line");
_Static_assert(sizeof(struct book) == 128, "a book is two cache lines");
_Static_assert(sizeof(struct book_change) == 24, "as declared");

enum { ORDERS_LIMIT = 1 << 30, LEVELS_LIMIT = 1 << 30, LINE = 64 };

/* All of it lies in one mapping that begins with this and has no address in it, so that it may stand
 * anywhere: another process's memory, a file. */
struct books {
    struct order_map map;
    uint64_t pool_at;           /* bytes from here */
    uint32_t orders_max;
    uint32_t free;              /* last freed order, linked through `next` */
    uint32_t fresh;             /* first order never used */
    uint32_t touched;           /* no instrument from here on was ever used */
    uint64_t orders, peak;
    struct level_arena arena;
    uint64_t bytes;             /* of the mapping */
};

enum { ALL_AT = (sizeof(struct books) + LINE - 1) / LINE * LINE };

static inline struct book *all_of(const struct books *books) { return (struct book *)((char *)books + ALL_AT); }
static inline struct order *pool_of(const struct books *books) { return (struct order *)((char *)books + books->pool_at); }

static uint32_t pool_next(const struct books *books)     /* NO_ORDER: full */
{
    if (books->free != NO_ORDER)
        return books->free;
    return books->fresh < books->orders_max ? books->fresh : NO_ORDER;
}

/* Readers that see the odd version, or data written after it, retry: the release fence pairs with
 * the acquire fence in book_read_end, the release store with the acquire load in book_read_begin. */
static void change_begin(struct book *book)
{
    __atomic_store_n(&book->version, book->version + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

static void change_end(struct book *book)
{
    __atomic_store_n(&book->version, book->version + 1, __ATOMIC_RELEASE);
}

static uint64_t lay(uint64_t *bytes, uint64_t size)
{
    uint64_t at = (*bytes + LINE - 1) / LINE * LINE;
    *bytes = at + size;
    return at;
}

int books_create(const struct books_config *config, struct books **books)
{
    if (config->orders_max < 1 || config->orders_max > ORDERS_LIMIT || config->levels_max < 1
        || config->levels_max > LEVELS_LIMIT)
        return -EINVAL;
    uint64_t bytes = sizeof(struct books);
    lay(&bytes, BOOK_INSTRUMENTS_MAX * sizeof(struct book));    /* at ALL_AT */
    uint64_t levels = lay(&bytes, (uint64_t)config->levels_max * sizeof(struct level));
    uint64_t prices = lay(&bytes, (uint64_t)config->levels_max * sizeof(int64_t));
    uint64_t pool = lay(&bytes, (uint64_t)config->orders_max * sizeof(struct order));
    uint64_t map = lay(&bytes, order_map_lines(config->orders_max) * sizeof(struct map_line));
    char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return -ENOMEM;
    madvise(base, bytes, MADV_HUGEPAGE);    /* refused where the kernel has none: only slower */
    struct books *made = (struct books *)base;
    *made = (struct books){ .pool_at = pool, .orders_max = config->orders_max, .free = NO_ORDER, .bytes = bytes };
    arena_open(&made->arena, (struct level *)(base + levels), (int64_t *)(base + prices), config->levels_max);
    order_map_open(&made->map, (struct map_line *)(base + map), config->orders_max, config->seed);
    for (uint32_t i = 0; i < BOOK_INSTRUMENTS_MAX; i++)
        all_of(made)[i].bid = all_of(made)[i].ask = UNDEF_PRICE;
    *books = made;
    return 0;
}

int books_populate(struct books *books)
{
    return madvise(books, books->bytes, MADV_POPULATE_WRITE) == 0 ? 0 : -errno;
}

void books_destroy(struct books *books)
{
    if (books != NULL)
        munmap(books, books->bytes);
}

struct book *book_of(struct books *books, uint32_t instrument)
{
    if (instrument >= BOOK_INSTRUMENTS_MAX)
        return NULL;
    if (instrument >= books->touched)
        books->touched = instrument + 1;
    return &all_of(books)[instrument];
}

static void enqueue(struct books *books, struct level *level, uint32_t index)
{
    pool_of(books)[index].prev = level->tail;
    if (level->tail != NO_ORDER)
        pool_of(books)[level->tail].next = index;
    else
        level->head = index;
    level->tail = index;
    level->size += pool_of(books)[index].size;
    level->orders++;
}

static void dequeue(struct books *books, struct level *level, const struct order *order)
{
    if (order->prev != NO_ORDER)
        pool_of(books)[order->prev].next = order->next;
    else
        level->head = order->next;
    if (order->next != NO_ORDER)
        pool_of(books)[order->next].prev = order->prev;
    else
        level->tail = order->prev;
    level->size -= order->size;
    level->orders--;
}

static void pool_take(struct books *books, uint32_t index)
{
    if (index == books->free)
        books->free = pool_of(books)[index].next;
    else
        books->fresh++;
    if (++books->orders > books->peak)
        books->peak = books->orders;
}

static void pool_give(struct books *books, uint32_t index)
{
    pool_of(books)[index].next = books->free;
    books->free = index;
    books->orders--;
}

static int full(struct book *book)
{
    book->state |= BOOK_BROKEN;
    return COUNT_book_full;
}

int book_add_fetched(struct books *books, const struct book_fetch *fetch, uint32_t instrument, int side, uint32_t size)
{
    const uint64_t id = fetch->id;
    const int64_t price = fetch->price;
    if (instrument >= BOOK_INSTRUMENTS_MAX)
        return COUNT_book_instrument;
    if (size == 0)
        return COUNT_book_bad_size;
    if (price == UNDEF_PRICE)
        return COUNT_book_bad_price;
    const int ask = side == SIDE_ASK;
    const uint32_t index = pool_next(books);
    struct book *book = book_of(books, instrument);
    int rc = order_map_put(&books->map, pool_of(books), id, fetch->tag, index);
    if (rc != 0)
        return rc == -EEXIST ? COUNT_book_duplicate_order : full(book);
    change_begin(book);
    struct level *level = level_near(&books->arena, &book->side[ask], price, fetch->level);
    if (level == NULL)
        level = level_get(&books->arena, &book->side[ask], ask, price);
    if (level != NULL) {
        pool_take(books, index);
        pool_of(books)[index] = (struct order){ .id = id, .price = price, .size = size, .next = NO_ORDER,
            .where = instrument << 1 | (uint32_t)ask };
        enqueue(books, level, index);
        book->orders++;
        book->state |= BOOK_SEEN;
    }
    change_end(book);
    if (level != NULL)
        return 0;
    pool_of(books)[index].id = id;     /* it must be readable there for the map to find it */
    order_map_erase(&books->map, order_map_find(&books->map, pool_of(books), id, fetch->tag));
    return full(book);
}

/* A book_fetch without hints, for an operation that was not fetched. */
static struct book_fetch plain(const struct books *books, uint64_t id)
{
    return (struct book_fetch){ .id = id, .tag = order_map_tag(&books->map, id), .level = NO_LEVEL };
}

int book_add(struct books *books, uint32_t instrument, int side, uint64_t id, int64_t price, uint32_t size)
{
    struct book_fetch fetch = plain(books, id);
    fetch.price = price;
    return book_add_fetched(books, &fetch, instrument, side, size);
}

/* Takes the order off its level and out of the map. */
static void retire(struct books *books, struct map_entry *entry, struct level *level)
{
    const uint32_t index = entry->ref - 1;
    const struct order *order = &pool_of(books)[index];
    struct book *book = &all_of(books)[order->where >> 1];
    change_begin(book);
    dequeue(books, level, order);
    if (level->orders == 0)
        level_erase(&books->arena, &book->side[order->where & 1], level);
    book->orders--;
    change_end(book);
    order_map_erase(&books->map, entry);
    pool_give(books, index);
}

static struct map_entry *find(const struct books *books, const struct book_fetch *fetch)
{
    struct map_entry *entry = fetch->entry;
    if (entry != NULL && entry->ref != 0 && pool_of(books)[entry->ref - 1].id == fetch->id)
        return entry;
    return order_map_find(&books->map, pool_of(books), fetch->id, fetch->tag);
}

static int take_off(struct books *books, struct map_entry *entry, uint32_t guess, uint32_t size,
                    struct book_change *change)
{
    struct order *order = &pool_of(books)[entry->ref - 1];
    const int ask = order->where & 1;
    struct book *book = &all_of(books)[order->where >> 1];
    struct level *level = level_near(&books->arena, &book->side[ask], order->price, guess);
    if (level == NULL)
        level = level_find(&books->arena, &book->side[ask], ask, order->price);
    const uint32_t taken = size < order->size ? size : order->size;
    *change = (struct book_change){ .price = order->price, .instrument = order->where >> 1, .size = taken,
        .left = order->size - taken, .side = ask ? SIDE_ASK : SIDE_BID };
    if (change->left == 0) {
        retire(books, entry, level);
        return size > taken ? COUNT_book_over_reduce : 0;
    }
    change_begin(book);
    order->size -= taken;
    level->size -= taken;
    change_end(book);
    return 0;
}

int book_reduce_fetched(struct books *books, const struct book_fetch *fetch, uint32_t size, struct book_change *change)
{
    struct map_entry *entry = find(books, fetch);
    if (entry == NULL)
        return COUNT_book_unknown_order;
    return size == 0 ? COUNT_book_bad_size : take_off(books, entry, fetch->level, size, change);
}

int book_delete_fetched(struct books *books, const struct book_fetch *fetch, struct book_change *change)
{
    struct map_entry *entry = find(books, fetch);
    if (entry == NULL)
        return COUNT_book_unknown_order;
    return take_off(books, entry, fetch->level, pool_of(books)[entry->ref - 1].size, change);
}

int book_reduce(struct books *books, uint64_t id, uint32_t size, struct book_change *change)
{
    const struct book_fetch fetch = plain(books, id);
    return book_reduce_fetched(books, &fetch, size, change);
}

int book_delete(struct books *books, uint64_t id, struct book_change *change)
{
    const struct book_fetch fetch = plain(books, id);
    return book_delete_fetched(books, &fetch, change);
}

int book_level(struct books *books, uint32_t instrument, int side, int64_t price, uint64_t size)
{
    if (instrument >= BOOK_INSTRUMENTS_MAX)
        return COUNT_book_instrument;
    if (price == UNDEF_PRICE)
        return COUNT_book_bad_price;
    const int ask = side == SIDE_ASK;
    struct book *book = book_of(books, instrument);
    struct level *level = level_find(&books->arena, &book->side[ask], ask, price);
    if (level == NULL ? size == 0 : level->orders != 0)     /* a level made of orders is theirs */
        return COUNT_book_unknown_level;
    change_begin(book);
    if (level == NULL)
        level = level_get(&books->arena, &book->side[ask], ask, price);
    if (level != NULL && size != 0)
        level->size = size;
    else if (level != NULL)
        level_erase(&books->arena, &book->side[ask], level);
    book->state |= BOOK_SEEN;
    change_end(book);
    return level != NULL ? 0 : full(book);
}

static void drop_queue(struct books *books, uint32_t index)
{
    while (index != NO_ORDER) {
        uint32_t next = pool_of(books)[index].next;
        const uint64_t id = pool_of(books)[index].id;
        order_map_erase(&books->map, order_map_find(&books->map, pool_of(books), id, order_map_tag(&books->map, id)));
        pool_give(books, index);
        index = next;
    }
}

/* Readers see the empty book at once; its orders are then returned at leisure. */
static void empty(struct books *books, struct book *book)
{
    struct book_side side[2] = { book->side[0], book->side[1] };
    change_begin(book);
    memset(book->side, 0, sizeof(book->side));
    book->orders = 0;
    book->state &= ~(uint32_t)BOOK_BROKEN;
    change_end(book);
    for (int i = 0; i < 2; i++) {
        for (uint32_t at = side[i].at; at < side[i].at + side[i].count; at++)
            drop_queue(books, levels_of(&books->arena)[at].head);
        side_release(&books->arena, &side[i]);
    }
}

void book_clear(struct books *books, uint32_t instrument)
{
    if (instrument < BOOK_INSTRUMENTS_MAX)
        empty(books, &all_of(books)[instrument]);
}

static void forget(struct book *book)
{
    change_begin(book);
    memset((char *)book + offsetof(struct book, symbol), 0, sizeof(*book) - offsetof(struct book, symbol));
    book->bid = book->ask = UNDEF_PRICE;
    change_end(book);
}

/* Costs about what its live orders cost: few are taken out of the map one by one, many with
 * all of it, at 64 bytes an order or less. */
void books_clear(struct books *books)
{
    const int many = books->orders > books->map.count;
    for (uint32_t i = 0; i < books->touched; i++) {
        if (!many)
            empty(books, &all_of(books)[i]);
        forget(&all_of(books)[i]);
    }
    if (many)
        order_map_clear(&books->map);
    arena_reset(&books->arena);
    books->free = NO_ORDER;
    books->fresh = books->touched = 0;
    books->orders = 0;
}

/* ---- fetching ----
 *
 * What a batch of operations will touch, fetched in passes, so that the memory of one is on its way
 * while the others are looked at, each pass following what the one before has brought:
 *   1. the book, and the line of the map that the id hashes to
 *   2. an order that is to change
 *   3. the best prices of the side, and the order's neighbours in its queue
 *   4. the level of that price
 *   5. the order at the end of the level that an add goes to
 * What was found on the way is kept: an operation that finds its hint still true does not search
 * again. Ones before it in the batch may have moved or removed anything, so each hint is checked
 * when it is used; and until then it only ever names memory that exists. */

static const struct book_side *fetched_side(const struct books *books, const struct book_fetch *fetch)
{
    return &all_of(books)[fetch->instrument].side[fetch->side == SIDE_ASK];
}

static void find_entry(const struct books *books, struct book_fetch *fetch)
{
    fetch->entry = order_map_guess(&books->map, fetch->tag);
    if (fetch->entry != NULL)
        prefetch(&pool_of(books)[fetch->entry->ref - 1]);
}

/* The side and price of the order that is to change, which the message does not tell. */
static void look_at_order(const struct books *books, struct book_fetch *fetch)
{
    const struct order *order = &pool_of(books)[fetch->entry->ref - 1];
    fetch->instrument = order->where >> 1;
    fetch->side = order->where & 1 ? SIDE_ASK : SIDE_BID;
    fetch->price = order->price;
    if (order->prev != NO_ORDER)
        prefetch(&pool_of(books)[order->prev]);
    if (order->next != NO_ORDER)
        prefetch(&pool_of(books)[order->next]);
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
    const struct book_side *side = fetched_side(books, fetch);
    const char *best = (const char *)&prices_of(&books->arena)[side->at + side->count - 1];
    prefetch(best);
    prefetch(best - 64);
}

static void find_level(const struct books *books, struct book_fetch *fetch)
{
    const struct book_side *side = fetched_side(books, fetch);
    const struct level *level = level_find(&books->arena, side, fetch->side == SIDE_ASK, fetch->price);
    fetch->level = NO_LEVEL;
    if (level != NULL) {
        fetch->level = (uint32_t)(level - levels_of(&books->arena));
        prefetch(level);
    }
}

static void find_tail(const struct books *books, const struct book_fetch *fetch)
{
    const uint32_t tail = fetch->level != NO_LEVEL ? levels_of(&books->arena)[fetch->level].tail : NO_ORDER;
    if (tail != NO_ORDER)
        prefetch(&pool_of(books)[tail]);
}

void book_fetch(const struct books *books, struct book_fetch *fetches, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const char *book = (const char *)&all_of(books)[fetches[i].instrument];
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

/* ---- looking at books ----
 *
 * Levels may be read by other threads while the writer goes on: they
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
const struct book *books_all(const struct books *books) { return all_of(books); }
const struct level *books_levels(const struct books *books) { return levels_of(&books->arena); }
const struct order *books_pool(const struct books *books) { return pool_of(books); }
uint64_t books_levels_room(const struct books *books) { return books->arena.room; }

const struct order *book_find(const struct books *books, uint64_t id)
{
    const struct map_entry *entry = order_map_find(&books->map, pool_of(books), id, order_map_tag(&books->map, id));
    return entry != NULL ? &pool_of(books)[entry->ref - 1] : NULL;
}

struct tally { uint64_t shares; uint32_t orders; };

static uint32_t count_order(const struct books *books, uint32_t at, struct tally *tally, int back)
{
    tally->shares += pool_of(books)[at].size;
    tally->orders++;
    return back ? pool_of(books)[at].prev : pool_of(books)[at].next;
}

static const struct level *level_of(const struct books *books, const struct order *order)
{
    const int ask = order->where & 1;
    struct book_side side = all_of(books)[order->where >> 1].side[ask];
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
    return __atomic_load_n(&all_of(books)[instrument].version, __ATOMIC_ACQUIRE);
}

/* The acquire fence pairs with the release fence in change_begin: had anything of a later change
 * been read, the version seen here would be its odd one, or newer. */
int book_read_end(const struct books *books, uint32_t instrument, uint64_t begun)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return (begun & 1) == 0 && __atomic_load_n(&all_of(books)[instrument].version, __ATOMIC_RELAXED) == begun;
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
        out[i] = levels_of(arena)[at + count - 1 - i];
    return depth;
}

int book_depth(const struct books *books, uint32_t instrument, int side, int depth, struct level *out)
{
    if (instrument >= BOOK_INSTRUMENTS_MAX || depth < 0)
        return -EINVAL;
    const struct book_side *from = &all_of(books)[instrument].side[side == SIDE_ASK];
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

static uint64_t hash_side(const struct level_arena *arena, const struct book_side *side, uint64_t name, int side_code)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < side->count; i++) {
        const struct level *level = &levels_of(arena)[side->at + i];
        uint64_t hash = fnv1a(0xcbf29ce484222325, name, 8);
        hash = fnv1a(hash, (uint64_t)side_code, 1);
        hash = fnv1a(hash, (uint64_t)level->price, 8);
        hash = fnv1a(hash, level->size, 8);
        sum += fnv1a(hash, level->orders, 4);
    }
    return sum;
}

/* A level is 29 bytes: the 8 of the symbol (or, before it is known, the instrument number in 8), 1
 * SIDE_*, 8 price, 8 size, 4 orders; numbers little endian. The sum over levels does not depend on
 * their order, so whoever changes one can keep it: less the hash it had, plus the one it has. */
uint64_t books_hash(const struct books *books)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < books->touched; i++) {
        const struct book *book = &all_of(books)[i];
        uint64_t name = i;
        if (book->symbol[0] != 0)
            __builtin_memcpy(&name, book->symbol, 8);
        sum += hash_side(&books->arena, &book->side[0], name, SIDE_BID);
        sum += hash_side(&books->arena, &book->side[1], name, SIDE_ASK);
    }
    return sum;
}
