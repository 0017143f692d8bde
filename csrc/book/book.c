#include "book/impl.h"
#include "counter_id.h"
#include "event.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

/* What is where. An order is found by its id through the map (order_map.c) and knows its
 * instrument, side and price; these lead to its level, by a search from the best (book_level.c).
 * A level holds the ends of the queue of its orders, oldest first, linked through the pool. So an
 * operation touches a map line, an order, a book, a level and at most two neighbours: it
 * costs what these cache misses cost, and a batch that was fetched (book_fetch.c) hides most of them.
 *
 * One thread changes the books. Others read levels by the version of a book, a sequence lock: odd
 * while it changes, and what was read counts only when the version before and after is the same
 * even number (book_read.c). Every operation either finds out beforehand that it cannot
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
    uint64_t all = lay(&bytes, BOOK_INSTRUMENTS_MAX * sizeof(struct book));
    uint64_t levels = lay(&bytes, (uint64_t)config->levels_max * sizeof(struct level));
    uint64_t prices = lay(&bytes, (uint64_t)config->levels_max * sizeof(int64_t));
    uint64_t pool = lay(&bytes, (uint64_t)config->orders_max * sizeof(struct order));
    uint64_t map = lay(&bytes, order_map_lines(config->orders_max) * sizeof(struct map_line));
    char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return -ENOMEM;
    madvise(base, bytes, MADV_HUGEPAGE);    /* refused where the kernel has none: only slower */
    struct books *made = (struct books *)base;
    *made = (struct books){ .pool = (struct order *)(base + pool), .orders_max = config->orders_max,
        .free = NO_ORDER, .all = (struct book *)(base + all), .bytes = bytes };
    arena_open(&made->arena, (struct level *)(base + levels), (int64_t *)(base + prices), config->levels_max);
    order_map_open(&made->map, (struct map_line *)(base + map), config->orders_max, config->seed);
    for (uint32_t i = 0; i < BOOK_INSTRUMENTS_MAX; i++)
        made->all[i].bid = made->all[i].ask = UNDEF_PRICE;
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
    return &books->all[instrument];
}

static void enqueue(struct books *books, struct level *level, uint32_t index)
{
    books->pool[index].prev = level->tail;
    if (level->tail != NO_ORDER)
        books->pool[level->tail].next = index;
    else
        level->head = index;
    level->tail = index;
    level->size += books->pool[index].size;
    level->orders++;
}

static void dequeue(struct books *books, struct level *level, const struct order *order)
{
    if (order->prev != NO_ORDER)
        books->pool[order->prev].next = order->next;
    else
        level->head = order->next;
    if (order->next != NO_ORDER)
        books->pool[order->next].prev = order->prev;
    else
        level->tail = order->prev;
    level->size -= order->size;
    level->orders--;
}

static void pool_take(struct books *books, uint32_t index)
{
    if (index == books->free)
        books->free = books->pool[index].next;
    else
        books->fresh++;
    if (++books->orders > books->peak)
        books->peak = books->orders;
}

static void pool_give(struct books *books, uint32_t index)
{
    books->pool[index].next = books->free;
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
    int rc = order_map_put(&books->map, books->pool, id, fetch->tag, index);
    if (rc != 0)
        return rc == -EEXIST ? COUNT_book_duplicate_order : full(book);
    change_begin(book);
    struct level *level = level_near(&books->arena, &book->side[ask], price, fetch->level);
    if (level == NULL)
        level = level_get(&books->arena, &book->side[ask], ask, price);
    if (level != NULL) {
        pool_take(books, index);
        books->pool[index] = (struct order){ .id = id, .price = price, .size = size, .next = NO_ORDER,
            .where = instrument << 1 | (uint32_t)ask };
        enqueue(books, level, index);
        book->orders++;
        book->state |= BOOK_SEEN;
    }
    change_end(book);
    if (level != NULL)
        return 0;
    books->pool[index].id = id;     /* it must be readable there for the map to find it */
    order_map_erase(&books->map, order_map_find(&books->map, books->pool, id, fetch->tag));
    return full(book);
}

/* What fetches nothing and has no hints. */
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
    const struct order *order = &books->pool[index];
    struct book *book = &books->all[order->where >> 1];
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
    if (entry != NULL && entry->ref != 0 && books->pool[entry->ref - 1].id == fetch->id)
        return entry;
    return order_map_find(&books->map, books->pool, fetch->id, fetch->tag);
}

static int take_off(struct books *books, struct map_entry *entry, uint32_t guess, uint32_t size,
                    struct book_change *change)
{
    struct order *order = &books->pool[entry->ref - 1];
    const int ask = order->where & 1;
    struct book *book = &books->all[order->where >> 1];
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
    return take_off(books, entry, fetch->level, books->pool[entry->ref - 1].size, change);
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
        uint32_t next = books->pool[index].next;
        const uint64_t id = books->pool[index].id;
        order_map_erase(&books->map, order_map_find(&books->map, books->pool, id, order_map_tag(&books->map, id)));
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
            drop_queue(books, books->arena.level[at].head);
        side_release(&books->arena, &side[i]);
    }
}

void book_clear(struct books *books, uint32_t instrument)
{
    if (instrument < BOOK_INSTRUMENTS_MAX)
        empty(books, &books->all[instrument]);
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
            empty(books, &books->all[i]);
        forget(&books->all[i]);
    }
    if (many)
        order_map_clear(&books->map);
    arena_reset(&books->arena);
    books->free = NO_ORDER;
    books->fresh = books->touched = 0;
    books->orders = 0;
}
