/* The protocol of the ring. Positions count records from 0 for ever; position p lives in slot
 * p % slots. Who may look at what, and when:
 *
 * The sequence is in the slot. event.stamp is position + 1 and is stored last, with release. A
 * reader polls the stamp of the slot it wants next, with acquire: one cache line moves per hop,
 * and it is the one that holds the data. A stamp of an earlier lap, or 0, says "not yet".
 *
 * Overwriting is a seqlock. The writer stores stamp 0, a release fence, the payload as relaxed
 * words, then the new stamp. A skip reader loads the stamp (acquire), the words (relaxed), an
 * acquire fence, and the stamp again. If one of its words came from the next lap, the fences
 * pair and the second look sees the 0 or what followed it: the copy is thrown away. A stamp
 * never repeats, so equal stamps mean one whole record.
 *
 * A reader that was overrun finds a stamp from a later lap, goes on a quarter of a ring after
 * the oldest record (there it has time to read; at the oldest it would be overrun again) and
 * counts exactly the positions it passed over. A stamp of 0 is either a record being written or
 * one being overwritten: it is the latter when `written` had passed it before the 0 was seen.
 * The writer publishes at every look (below), so nothing is overwritten before it was published.
 *
 * Block readers gate. The writer goes up to `gate` and only there looks at the cursors: the
 * slowest block cursor + slots is as far as it may go, and it never allows itself more than half
 * a ring, so that a joining reader need not wait long to be seen. The reader's release of `read`
 * pairs with the acquire in look(): what it read is read before it is overwritten. A cursor that
 * no honest reader could have (ahead of the writer, or more than a ring behind) does not gate:
 * its memory is writable by every reader, and must not stop the writer. If that hits an honest
 * reader it notices by the stamps, and counts the loss as a skip reader does.
 *
 * Joining. The danger: a block reader says "I am at P" while the writer, which looked before,
 * runs past P + slots. So the writer announces `horizon`, the furthest position it may reach
 * before its next look, BEFORE that look, and the reader says P BEFORE it looks at the horizon:
 *
 *     writer: horizon = next + slots / 2            reader: read = P, policy = BLOCK
 *             fence (seq_cst)                               fence (seq_cst)
 *             look at policy and read                       look at horizon
 *             gate = horizon = what they allow              horizon <= P + slots, or P moves up
 *
 * One of the fences is first. If it is the writer's, the reader sees a horizon at least as late
 * as that look's, and accepts P only if all that the look allowed stays below P + slots. If it
 * is the reader's, this look and all later ones see P; the writer was below P + slots when it
 * began (by the looks before), so P is a cursor that gates. Either way nothing from P on is
 * overwritten before it is released. The horizon may shrink at the end of a look, to the gate;
 * that is never below what was written, so a reader that sees it is as safe. */

#include "base/min.h"
#include "ring/impl.h"
#include <errno.h>
#include <stddef.h>

/* The steps that the tests take away, each to see its absence caught. */
#ifndef RING_STAMP_ORDER
#define RING_STAMP_ORDER __ATOMIC_RELEASE
#endif
#ifndef RING_POLL_ORDER
#define RING_POLL_ORDER __ATOMIC_ACQUIRE
#endif
#ifndef RING_READ_ORDER
#define RING_READ_ORDER __ATOMIC_RELEASE
#endif
#ifndef RING_GATE_ORDER
#define RING_GATE_ORDER __ATOMIC_ACQUIRE
#endif
#ifndef RING_INVALIDATE
#define RING_INVALIDATE 1
#endif
#ifndef RING_VALIDATE
#define RING_VALIDATE 1
#endif
#ifndef RING_GATE_SLACK
#define RING_GATE_SLACK 0
#endif
#ifndef RING_PAUSE
#define RING_PAUSE      /* between two words, where only a test would stop */
#endif

/* When `written` is stale a reader recovers from the stamp it found, a ring behind at worst:
 * four steps of a quarter. More only if the writer is faster still. */
enum { JOIN_TRIES = 4096, RECOVERIES = 8 };
_Static_assert(sizeof(struct event) == 64, "a record is one cache line");
_Static_assert(sizeof(struct ring_writer) == 64 && sizeof(struct ring_cursor) == 64, "one line per owner");

typedef uint64_t __attribute__((may_alias)) word;
/* Written out: compilers do not unroll loops over atomics, which would double the cost. */
#define PAYLOAD_WORDS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define STORE_WORD(i) __atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED); RING_PAUSE
#define LOAD_WORD(i) to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED); RING_PAUSE

static struct event *slot_of(const struct ring *ring, uint64_t at)
{
    return &ring->slot[at & (ring->slots - 1)];
}

/* ---- writer ---- */

/* Positions that the slowest block reader leaves free, from `next` on. */
static uint64_t room(const struct ring *ring)
{
    uint64_t behind = 0;
    for (int i = 0; i < RING_READERS; i++) {
        const struct ring_cursor *cursor = &ring->cursors[i];
        /* Acquire: pairs with the release in ring_join, and in ring_leave. */
        if (__atomic_load_n(&cursor->policy, __ATOMIC_ACQUIRE) != RING_BLOCK)
            continue;
        /* Acquire: pairs with the release in advance(). */
        uint64_t lag = ring->next - __atomic_load_n(&cursor->read, RING_GATE_ORDER);
        if (lag <= ring->slots && lag > behind)
            behind = lag;
    }
    return ring->slots - behind + RING_GATE_SLACK;
}

static uint64_t look(struct ring *ring)
{
    struct ring_writer *writer = ring->writer;
    uint64_t most = ring->slots / 2;
    ring_publish(ring);
    __atomic_store_n(&writer->horizon, ring->next + most, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);    /* pairs with the one in ring_join */
    uint64_t free = min(room(ring), most);
    ring->gate = ring->next + free;
    __atomic_store_n(&writer->horizon, ring->gate, __ATOMIC_RELAXED);
    return free;
}

uint64_t ring_room(struct ring *ring)
{
    return look(ring);
}

int ring_put(struct ring *ring, const struct event *event)
{
    if (ring->next == ring->gate && look(ring) == 0) {
        __atomic_store_n(&ring->writer->lost, ++ring->lost, __ATOMIC_RELAXED);
        return -ENOBUFS;
    }
    struct event *slot = slot_of(ring, ring->next);
    const word *from = (const word *)event;
    word *to = (word *)slot;
    if (RING_INVALIDATE)
        __atomic_store_n(&slot->stamp, 0, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);    /* pairs with the acquire fence in copy_slot */
    PAYLOAD_WORDS(STORE_WORD)
    /* Release: pairs with the acquire of the stamp in ring_peek and copy_slot. */
    __atomic_store_n(&slot->stamp, ++ring->next, RING_STAMP_ORDER);
    return 0;
}

uint64_t ring_put_many(struct ring *ring, const struct event *events, uint64_t n)
{
    uint64_t fitted = 0;
    for (uint64_t i = 0; i < n; i++)
        fitted += ring_put(ring, &events[i]) == 0;
    return fitted;
}

void ring_publish(struct ring *ring)
{
    /* Release: pairs with the acquires in ring_join, overrun and ring_lag. */
    __atomic_store_n(&ring->writer->written, ring->next, __ATOMIC_RELEASE);
}

/* ---- reader ---- */

static void advance(struct ring *ring, uint64_t n)
{
    ring->next += n;
    /* Release: pairs with the acquire in room(); all that was read is read. */
    __atomic_store_n(&ring->me->read, ring->next, RING_READ_ORDER);
}

int ring_join(struct ring *ring, int policy, int from_start)
{
    struct ring_cursor *me = ring->me;
    uint64_t slots = ring->slots;
    uint64_t at = __atomic_load_n(&ring->writer->written, __ATOMIC_ACQUIRE);
    if (from_start) {
        if (policy == RING_BLOCK)   /* older ones may go any time, and would hold the writer up */
            at = __atomic_load_n(&ring->writer->horizon, __ATOMIC_RELAXED);
        at -= min(at, slots);
    }
    ring->policy = policy;
    __atomic_store_n(&me->lost, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&me->read, at, __ATOMIC_RELAXED);
    __atomic_store_n(&me->policy, (uint32_t)policy, __ATOMIC_RELEASE);
    for (int i = 0; i < JOIN_TRIES; i++) {
        ring->next = at;
        advance(ring, 0);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);    /* pairs with the one in look() */
        uint64_t horizon = __atomic_load_n(&ring->writer->horizon, __ATOMIC_RELAXED);
        if (policy != RING_BLOCK || horizon <= at + slots)
            return 0;
        at = horizon - slots;
    }
    return -EAGAIN;
}

/* How far a reader at `at` must go on because the writer lapped it; 0: it was not lapped. */
static uint64_t overrun(const struct ring *ring, uint64_t at)
{
    const struct event *slot = slot_of(ring, at);
    uint64_t stamp = __atomic_load_n(&slot->stamp, __ATOMIC_ACQUIRE);
    if (stamp != 0 && stamp <= at + 1)
        return 0;
    /* Acquire: pairs with ring_publish; a stamp loaded after it is not older than `written`. */
    uint64_t written = __atomic_load_n(&ring->writer->written, __ATOMIC_ACQUIRE);
    if (stamp == 0)
        stamp = __atomic_load_n(&slot->stamp, __ATOMIC_ACQUIRE);
    if (stamp <= at + 1 && (stamp != 0 || written <= at))
        return 0;
    uint64_t newest = stamp != 0 ? stamp : at + ring->slots;
    if (written - newest < ring->slots)     /* else stale, or scribbled on */
        newest = written;
    return newest - ring->slots + ring->slots / 4 - at;
}

/* Moves past what was overwritten; returns how many. */
static uint64_t recover(struct ring *ring)
{
    uint64_t jump = overrun(ring, ring->next);
    if (jump != 0) {
        ring->lost += jump;
        __atomic_store_n(&ring->me->lost, ring->lost, __ATOMIC_RELAXED);
        advance(ring, jump);
    }
    return jump;
}

uint64_t ring_peek(struct ring *ring, uint64_t max, uint64_t *first)
{
    uint64_t at = ring->next, n = 0, stamp = 0;
    const struct event *slot = slot_of(ring, at);
    if (ring->policy != RING_BLOCK)
        max = 0;
    max = min(max, ring->slots);
    *first = at & (ring->slots - 1);
    /* Acquire: pairs with the release in ring_put; the record is whole. */
    while (n < max && (stamp = __atomic_load_n(&slot[n].stamp, RING_POLL_ORDER)) == at + n + 1)
        n++;
    if (n == 0 && stamp > at + 1)
        recover(ring);
    ring->ready = n;
    return n;
}

void ring_release(struct ring *ring, uint64_t n)
{
    n = min(n, ring->ready);
    ring->ready -= n;
    advance(ring, n);
}

static int copy_slot(const struct ring *ring, uint64_t at, struct event *out)
{
    const struct event *slot = slot_of(ring, at);
    const word *from = (const word *)slot;
    word *to = (word *)out;
    /* Acquire: pairs with the release in ring_put. */
    if (__atomic_load_n(&slot->stamp, RING_POLL_ORDER) != at + 1)
        return 0;
    PAYLOAD_WORDS(LOAD_WORD)
    __atomic_thread_fence(__ATOMIC_ACQUIRE);    /* pairs with the release fence in ring_put */
    out->stamp = at + 1;
    return !RING_VALIDATE || __atomic_load_n(&slot->stamp, __ATOMIC_RELAXED) == at + 1;
}

static uint64_t copy_run(const struct ring *ring, struct event *out, uint64_t max)
{
    uint64_t n = 0;
    while (n < max && copy_slot(ring, ring->next + n, &out[n]))
        n++;
    return n;
}

uint64_t ring_copy(struct ring *ring, struct event *out, uint64_t max, uint64_t *lost)
{
    uint64_t n = copy_run(ring, out, max), jump;
    for (int i = 0; i < RECOVERIES && n == 0 && max != 0 && (jump = recover(ring)) != 0; i++) {
        *lost += jump;
        n = copy_run(ring, out, max);
    }
    if (n != 0)
        advance(ring, n);
    ring->ready = 0;
    return n;
}

uint64_t ring_lag(const struct ring *ring)
{
    uint64_t written = __atomic_load_n(&ring->writer->written, __ATOMIC_ACQUIRE);
    return ring->me == NULL || written < ring->next ? 0 : written - ring->next;
}
