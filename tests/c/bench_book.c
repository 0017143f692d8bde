/* CPU time per book operation: 45 % adds, 40 % deletes, 15 % reductions over 8,000 instruments, ids
 * sequential, the best of three rounds. One at a time, and in batches prefetched in two and three
 * passes; with the map as it is meant, and with ids spread so that no two share a line by
 * design, which makes the same map a plain hash of the whole id.
 * cc -O2 -march=x86-64-v2 -Icsrc tests/c/bench_book.c csrc/book*.c csrc/order_map.c
 * ./a.out [LIVE] [OPERATIONS] */
#include "book.h"
#include "event.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { INSTRUMENTS = 8000, BATCH = 64, ROUNDS = 3 };

struct op { uint64_t number, id; int64_t price; uint32_t size; uint32_t instrument; uint8_t kind, side; };

static uint64_t state = 88172645463325252;
static uint64_t rnd(void) { state ^= state << 13; state ^= state >> 7; return state ^= state << 17; }

/* A bijection that keeps id % 8 and tears neighbours apart: every id gets a line of its own. */
static uint64_t spread(uint64_t id) { return id << 3 | (id * 0x9e3779b97f4a7c15 >> 61); }

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static struct op add_op(uint64_t id)
{
    uint64_t r = rnd();
    uint32_t skew = (uint32_t)(r % INSTRUMENTS * (r >> 20 & 1023) >> 10);   /* some trade more */
    int64_t off = __builtin_ctzll(rnd() | 1 << 12) * 3 + (int64_t)(rnd() % 4);      /* near the best */
    uint8_t side = r >> 40 & 1 ? SIDE_ASK : SIDE_BID;
    int64_t price = 100000 + (side == SIDE_ASK ? off : -off - 1);
    return (struct op){ id, id, price * 10000000, 100 + (uint32_t)(r >> 50), skew, 'A', side };
}

/* Deletes choose a live order, half of them among the most recent 2 %. */
static void make(struct op *ops, uint64_t warm, uint64_t count)
{
    uint64_t *live = malloc((warm + count) * 8), n = 0, next = 1;
    for (uint64_t i = 0; i < warm; i++) {
        ops[i] = add_op(next);
        live[n++] = next++;
    }
    for (uint64_t i = warm; i < warm + count; i++) {
        uint64_t dice = rnd() % 100, recent = n / 50 + 1;
        uint64_t at = rnd() & 1 ? n - 1 - rnd() % recent : rnd() % n;
        if (dice < 45 || n < 2) {
            ops[i] = add_op(next);
            live[n++] = next++;
        } else if (dice < 85) {
            ops[i] = (struct op){ .number = live[at], .kind = 'D' };
            live[at] = live[--n];
        } else {
            ops[i] = (struct op){ .number = live[at], .size = 1, .kind = 'X' };
        }
    }
    free(live);
}

static uint64_t errors;
static void apply(struct books *books, const struct op *op)
{
    struct book_change change;
    if (op->kind == 'A')
        errors += book_add(books, op->instrument, op->side, op->id, op->price, op->size) != 0;
    else if (op->kind == 'D')
        errors += book_delete(books, op->id, &change) != 0;
    else
        errors += book_reduce(books, op->id, op->size, &change) != 0;
}

static double run(struct books *books, const struct op *ops, uint64_t warm, uint64_t count, int passes)
{
    books_clear(books);
    for (uint64_t i = 0; i < warm; i++)
        apply(books, &ops[i]);
    uint64_t from = now_ns();
    for (uint64_t i = warm; i + BATCH <= warm + count; i += BATCH) {
        uint32_t orders[BATCH];
        for (int k = 0; passes > 0 && k < BATCH; k++)
            book_prefetch(books, ops[i + k].instrument, ops[i + k].id);
        for (int k = 0; passes > 0 && k < BATCH; k++)
            if (ops[i + k].kind != 'A')
                orders[k] = book_prefetch_order(books, ops[i + k].id);
            else
                book_prefetch_side(books, ops[i + k].instrument, ops[i + k].side);
        for (int k = 0; passes > 1 && k < BATCH; k++)
            if (ops[i + k].kind != 'A')
                book_prefetch_queue(books, orders[k]);
        for (int k = 0; k < BATCH; k++)
            apply(books, &ops[i + k]);
    }
    return (double)(now_ns() - from) / (double)count;
}

int main(int argc, char **argv)
{
    uint64_t live = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000000;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 0) : 4000000;
    struct op *ops = malloc((live + count) * sizeof(*ops));
    struct books_config config = { .orders_max = (uint32_t)(live + count / 10), .levels_max = 4 << 20, .seed = 42 };
    struct books *books;
    if (ops == NULL || books_create(&config, &books) != 0)
        return 1;
    make(ops, live, count);
    double best[2][3];
    for (int turn = 0; turn < 2 * ROUNDS; turn++) {     /* in turns, so that both meet the same noise */
        for (uint64_t i = 0; i < live + count; i++)
            ops[i].id = turn & 1 ? spread(ops[i].number) : ops[i].number;
        for (int passes = 0; passes < 3; passes++) {
            double ns = run(books, ops, live, count, passes);
            if (turn < 2 || ns < best[turn & 1][passes])
                best[turn & 1][passes] = ns;
        }
    }
    for (int plain = 0; plain < 2; plain++)
        printf("%s: one at a time %.1f ns, batches of %d in two passes %.1f, in three %.1f\n",
               plain ? "plain hash" : "four a line", best[plain][0], BATCH, best[plain][1], best[plain][2]);
    printf("live %lu, peak %lu, %.1f bytes an order at capacity, hash %016lx, errors %lu\n", books_orders(books),
           books_orders_peak(books),
           (double)(books_memory(books) - BOOK_INSTRUMENTS_MAX * sizeof(struct book)
                    - books_levels_room(books) * sizeof(struct level)) / config.orders_max,
           books_hash(books), errors);
    books_destroy(books);
    free(ops);
    return errors != 0;
}
