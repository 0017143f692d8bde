/* One thread changes a book, the other reads it, for at most a second. Every level's size is a
 * function of its price and prices are strictly ordered, so half-moved levels are seen for what
 * they are. Built with -DIGNORE_VERSION the reader believes whatever it read, and must fail:
 * that proves that this test can. Returns 0 when all was whole, 1 when torn, 2 when it saw nothing. */
#include "book/book.h"
#include "event.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

enum { LEVELS = 300, TICK = 1000 };

static struct books *books;
static atomic_int stop;

static uint64_t size_at(int64_t price) { return (uint64_t)price * 2654435761 % 1000003 + 1; }

/* Far levels come and go, so that all those before them move. */
static void *writer(void *unused)
{
    for (int64_t i = 0; !atomic_load(&stop); i++) {
        int64_t price = 1 + i / 2 % 7;
        book_level(books, 5, SIDE_BID, price, i & 1 ? 0 : size_at(price));
        if (i % 64 == 0)
            for (int pause = 0; pause < 2000; pause++)
                atomic_signal_fence(memory_order_seq_cst);
    }
    return unused;
}

static int whole(const struct level *level, int count)
{
    for (int i = 0; i < count; i++)
        if (level[i].size != size_at(level[i].price) || (i > 0 && level[i].price >= level[i - 1].price))
            return 0;
    return count >= LEVELS;
}

static int held(uint64_t begun)
{
#ifdef IGNORE_VERSION
    return begun != UINT64_MAX;
#else
    return book_read_end(books, 5, begun);
#endif
}

/* In place, as a reader without copies does: -1 is no answer, else whether it was whole. */
static int look(void)
{
    uint64_t begun = book_read_begin(books, 5);
    const struct book_side *side = &books_all(books)[5].side[0];
    uint32_t at = *(const volatile uint32_t *)&side->at, count = *(const volatile uint32_t *)&side->count;
    static struct level copy[2 * LEVELS];
    if (count > 2 * LEVELS || at + count > books_levels_room(books))
        return -1;
    for (uint32_t i = 0; i < count; i++)
        copy[i] = books_levels(books)[at + count - 1 - i];
    return held(begun) ? whole(copy, (int)count) : -1;
}

static int look_depth(void)
{
    static struct level copy[2 * LEVELS];
    int count = book_depth(books, 5, SIDE_BID, 2 * LEVELS, copy);
    return count < 0 ? -1 : whole(copy, count);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(void)
{
    struct books_config config = { .orders_max = 16, .levels_max = 4096, .seed = 1 };
    if (books_create(&config, &books) != 0)
        return 3;
    for (int64_t i = 1; i <= LEVELS; i++)
        book_level(books, 5, SIDE_BID, i * TICK, size_at(i * TICK));
    pthread_t thread;
    if (pthread_create(&thread, NULL, writer, NULL) != 0)
        return 3;
    long seen = 0, again = 0, torn = 0;
    for (double end = seconds() + 1; torn == 0 && seconds() < end;)
        for (int i = 0; i < 100; i++) {
            int views = look(), copies = look_depth();
            seen += (views >= 0) + (copies >= 0);
            again += (views < 0) + (copies < 0);
            torn += (views == 0) + (copies == 0);
        }
    atomic_store(&stop, 1);
    pthread_join(thread, NULL);
    books_destroy(books);
    printf("whole %ld, read again %ld, torn %ld\n", seen - torn, again, torn);
    return torn != 0 ? 1 : seen < 100 ? 2 : 0;
}
