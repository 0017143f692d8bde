/* One writer, two block and two skip readers on the smallest ring, checked word by word.
 *
 *     ring_stress RECORDS [file]
 *
 * Without `file` all threads share memory that is mapped once, and readers stop at its end, so
 * that a thread sanitizer sees two accesses to one record as such. With it they go through
 * ring_create and ring_attach. Prints the first violations; 0 when there was none. */

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <unistd.h>

/* Now and then gives the processor away halfway through a record, as an interrupt would. */
static void pause_sometimes(void)
{
    static __thread uint32_t random;
    if (random == 0)    /* other pauses in each thread and each run */
        random = (uint32_t)(uintptr_t)&random ^ (uint32_t)getpid() * 2654435761u;
    random = random * 1664525 + 1013904223;
    if (random >> 22 == 0)
        sched_yield();
}
#define RING_PAUSE pause_sometimes();

#include "ring/ring.c"   /* with the orders and steps that -D took away */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = RING_SLOTS_MIN, THREADS = 5 };

static struct {
    struct ring_writer writer;
    struct ring_cursor cursors[RING_READERS];
    struct event slot[SLOTS];
} shared __attribute__((aligned(64)));
static uint64_t records;
static int through_file, violations;
static struct ring *writing;

static void violated(const char *what)
{
    if (__atomic_fetch_add(&violations, 1, __ATOMIC_RELAXED) < 10)
        fprintf(stderr, "violation: %s\n", what);
}

/* Every word tells the position, each in its own way. */
static uint64_t word_of(uint64_t position, int i)
{
    return (position + 1) * 0x9e3779b97f4a7c15 * (uint64_t)(2 * i + 1);
}

static int whole(const struct event *event, uint64_t position)
{
    uint64_t words[8];
    memcpy(words, event, sizeof(words));
    for (int i = 1; i < 8; i++)
        if (words[i] != word_of(position, i))
            return 0;
    return words[0] == position + 1;
}

static struct ring *attach(int index, int policy, int from_start)
{
    struct ring *ring;
    if (through_file)
        return ring_attach(NULL, ring_fd(writing), policy, from_start, &ring) < 0 ? NULL : ring;
    ring = calloc(1, sizeof(*ring));
    ring->slots = SLOTS;
    ring->slot = shared.slot;
    ring->writer = &shared.writer;
    ring->cursors = shared.cursors;
    ring->me = &shared.cursors[index];
    return ring_join(ring, policy, from_start) < 0 ? NULL : ring;
}

static void detach(struct ring *ring)
{
    if (through_file) {
        ring_close(ring);
        return;
    }
    __atomic_store_n(&ring->me->policy, RING_FREE, __ATOMIC_RELEASE);
    free(ring);
}

static void *write_all(void *arg)
{
    (void)arg;
    for (uint64_t p = 0; p < records; p++) {
        struct event event;
        uint64_t words[8] = { 0 };
        for (int i = 1; i < 8; i++)
            words[i] = word_of(p, i);
        memcpy(&event, words, sizeof(event));
        while (ring_put(writing, &event) != 0)
            sched_yield();
        if (p % 7 == 0)
            ring_publish(writing);
    }
    ring_publish(writing);
    return NULL;
}

/* Reads to the last record, or `turns` batches; returns the position it reached. */
static uint64_t read_block(struct ring *ring, uint64_t turns)
{
    uint64_t at = ring->next, first;
    for (uint64_t turn = 0; at < records && turn < turns; turn++) {
        uint64_t to_end = SLOTS - (at & (SLOTS - 1));
        uint64_t n = ring_peek(ring, through_file ? SLOTS : to_end, &first);
        for (uint64_t i = 0; i < n; i++)
            if (!whole(&ring->slot[first + i], at + i))
                violated("a block reader's record is not what was written");
        n = n > 1 && turn % 3 == 0 ? n / 2 : n;
        ring_release(ring, n);
        at += n;
        if (ring->next != at || ring->lost != 0) {
            violated("a block reader was overrun");
            at = ring->next;
        }
        if (n == 0)
            sched_yield();
    }
    return at;
}

static void *read_all(void *arg)
{
    struct ring *ring = arg;
    if (read_block(ring, UINT64_MAX) != records)
        violated("a block reader missed the end");
    detach(ring);
    return NULL;
}

/* Joins, reads a little and leaves, over and over. */
static void *come_and_go(void *arg)
{
    uint64_t at = 0;
    for (int visit = 0; at < records; visit++) {
        struct ring *ring = attach(1, RING_BLOCK, visit & 1);
        if (ring == NULL) {
            violated("a block reader could not join");
            break;
        }
        at = read_block(ring, 8);
        detach(ring);
    }
    return arg;
}

static void *skim(void *arg)
{
    struct ring *ring = arg;
    struct event out[48];
    uint64_t read = 0, lost = 0, start = ring->next;
    while (start + read + lost < records) {
        uint64_t n = ring_copy(ring, out, 1 + read % 48, &lost);
        for (uint64_t i = 0; i < n; i++)
            if (!whole(&out[i], start + read + lost + i))
                violated("a skip reader's copy is torn or of another position");
        read += n;
        if (n == 0)
            sched_yield();
        else if (read % 5 == 0)
            for (int i = 0; i < 200; i++)   /* fall behind */
                __atomic_load_n(&violations, __ATOMIC_RELAXED);
    }
    if (start + read + lost != records || ring->me->lost != lost)
        violated("read + lost is not what was written");
    detach(ring);
    return NULL;
}

static int start_writer(void)
{
    if (through_file)
        return ring_create(NULL, SLOTS, "test", &writing);
    static struct ring ring;
    ring.slots = SLOTS;
    ring.slot = shared.slot;
    ring.writer = &shared.writer;
    ring.cursors = shared.cursors;
    writing = &ring;
    return 0;
}

int main(int argc, char **argv)
{
    void *(*const body[THREADS])(void *) = { write_all, read_all, come_and_go, skim, skim };
    pthread_t thread[THREADS];
    records = argc > 1 ? strtoull(argv[1], NULL, 0) : 100000;
    through_file = argc > 2;
    if (start_writer() < 0)
        return 2;
    struct ring *reader[THREADS] = {
        NULL, attach(0, RING_BLOCK, 0), NULL, attach(2, RING_SKIP, 0), attach(3, RING_SKIP, 0),
    };
    for (int i = 0; i < THREADS; i++)
        pthread_create(&thread[i], NULL, body[i], reader[i]);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    if (through_file)
        ring_close(writing);
    return violations != 0;
}
