/* CPU time per book operation: 45 % adds, 40 % deletes, 15 % reductions over 8,000 instruments, ids
 * sequential, the best of three rounds. One at a time, and fetched in batches; with the map as it is
 * meant, and with ids spread so that no two share a line by design, which makes the same map a
 * plain hash of the whole id.
 * cc -O2 -march=x86-64-v2 -Icsrc tests/c/bench_book.c csrc/book/*.c
 * ./a.out [LIVE] [OPERATIONS] */
#include "book/book.h"
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

static void apply_fetched(struct books *books, const struct op *op, const struct book_fetch *fetch)
{
    struct book_change change;
    if (op->kind == 'A')
        errors += book_add_fetched(books, fetch, op->instrument, op->side, op->size) != 0;
    else if (op->kind == 'D')
        errors += book_delete_fetched(books, fetch, &change) != 0;
    else
        errors += book_reduce_fetched(books, fetch, op->size, &change) != 0;
}

static void apply_batch(struct books *books, const struct op *ops)
{
    struct book_fetch fetches[BATCH];
    for (int k = 0; k < BATCH; k++)
        fetches[k] = (struct book_fetch){ .kind = ops[k].kind == 'A' ? FETCH_ADD : FETCH_CHANGE, .id = ops[k].id,
            .price = ops[k].price, .instrument = ops[k].instrument, .side = (uint8_t)ops[k].side };
    book_fetch(books, fetches, BATCH);
    for (int k = 0; k < BATCH; k++)
        apply_fetched(books, &ops[k], &fetches[k]);
}

static double run(struct books *books, const struct op *ops, uint64_t warm, uint64_t count, int fetched)
{
    books_clear(books);
    for (uint64_t i = 0; i < warm; i++)
        apply(books, &ops[i]);
    uint64_t from = now_ns();
    for (uint64_t i = warm; i + BATCH <= warm + count; i += BATCH) {
        if (fetched)
            apply_batch(books, &ops[i]);
        for (int k = 0; !fetched && k < BATCH; k++)
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
    double best[2][2];
    for (int turn = 0; turn < 2 * ROUNDS; turn++) {     /* in turns, so that both meet the same noise */
        for (uint64_t i = 0; i < live + count; i++)
            ops[i].id = turn & 1 ? spread(ops[i].number) : ops[i].number;
        for (int fetched = 0; fetched < 2; fetched++) {
            double ns = run(books, ops, live, count, fetched);
            if (turn < 2 || ns < best[turn & 1][fetched])
                best[turn & 1][fetched] = ns;
        }
    }
    for (int plain = 0; plain < 2; plain++)
        printf("%s: one at a time %.1f ns, fetched in batches of %d %.1f\n",
               plain ? "plain hash" : "four a line", best[plain][0], BATCH, best[plain][1]);
    printf("live %lu, peak %lu, %.1f bytes an order at capacity, hash %016lx, errors %lu\n", books_orders(books),
           books_orders_peak(books),
           (double)(books_memory(books) - BOOK_INSTRUMENTS_MAX * sizeof(struct book)
                    - books_levels_room(books) * (sizeof(struct level) + sizeof(int64_t))) / config.orders_max,
           books_hash(books), errors);
    books_destroy(books);
    free(ops);
    return errors != 0;
}
