#include "bench/bench.h"
#include "base/clock.h"
#include "base/prefetch.h"
#include "engine/feed.h"
#include "session/session.h"
#include "wire/itch50.h"
#include "wire/read.h"
#include <stddef.h>

/* What a loop finds is returned, so that none of its work can be left out by the compiler. */

#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif
#ifndef BENCH_FLAGS
#define BENCH_FLAGS "unknown"
#endif

enum { AHEAD = 2048, PACKETS_AHEAD = 8, WORDS_PER_LINE = 8, BATCH = 64, GIVE_UP_NS = 1000000000, REST_NS = 5000, LOOKS = 1 << 16 };

const char *bench_compiler(void) { return COMPILER; }
const char *bench_flags(void) { return BENCH_FLAGS; }

static uint64_t load(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* ---- floors ---- */

uint64_t bench_sum(const uint8_t *bytes, uint64_t len)
{
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (uint64_t i = 0; i + 64 <= len; i += 64) {
        __builtin_prefetch(bytes + i + AHEAD);
        a += load(bytes + i) + load(bytes + i + 32);
        b += load(bytes + i + 8) + load(bytes + i + 40);
        c += load(bytes + i + 16) + load(bytes + i + 48);
        d += load(bytes + i + 24) + load(bytes + i + 56);
    }
    return a + b + c + d;
}

uint64_t bench_touch(const struct packet *packets, uint64_t count)
{
    enum { IP = 14, UDP = IP + 20, SESSION = UDP + 8 };
    uint64_t sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *data = packets[i].data;
        if (packets[i].caplen >= SESSION + 20)
            sum += load(data) + load(data + IP) + load(data + UDP) + load(data + SESSION + 12);
    }
    return sum;
}

uint64_t bench_overlay(const struct message *messages, uint64_t count, struct event *out, uint64_t out_mask)
{
    for (uint64_t i = 0; i < count; i++) {
        const struct itch50_order_delete *m = (const void *)messages[i].data;
        out[i & out_mask] = (struct event){
            .stamp = i + 1, .ts_recv = messages[i].ts_recv, .ts_event = rd_ns48be(m->h.timestamp),
            .sequence = messages[i].sequence, .instrument_id = rd_be16(m->h.locate),
            .order_id = rd_be64(m->order_reference) };
    }
    return out[0].order_id;
}

uint64_t bench_chase(const uint64_t *lines, uint64_t steps)
{
    uint64_t at = 0;
    for (uint64_t i = 0; i < steps; i++)
        at = lines[at * WORDS_PER_LINE];
    return at;
}

uint64_t bench_gather(const uint64_t *lines, const uint32_t *order, uint64_t steps)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < steps; i++)
        sum += lines[(uint64_t)order[i] * WORDS_PER_LINE];
    return sum;
}

uint64_t bench_copy(struct event *slots, uint64_t mask, uint64_t count)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct event *slot = &slots[i & mask];
        *slot = (struct event){ .kind = EVENT_ADD, .sequence = i };
        __asm__ volatile("" ::: "memory");      /* in memory before it is read back */
        sum += slot->sequence;
    }
    return sum;
}

uint64_t bench_ticks(uint64_t reads)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < reads; i++)
        sum += ticks_now();
    return sum;
}

/* ---- parts ---- */

uint64_t bench_walk(struct source *source, int burst)
{
    struct packet packets[BURST_MAX];
    uint64_t frames = 0;
    for (int n; (n = source->burst(source, packets, burst)) >= 0;)
        frames += (uint64_t)n;
    return frames;
}

uint64_t bench_collect(struct source *source, struct packet *packets, uint64_t max)
{
    uint64_t count = 0;
    while (count < max) {
        uint64_t room = max - count;
        int n = source->burst(source, packets + count, room < BURST_MAX ? (int)room : BURST_MAX);
        if (n < 0)
            break;
        count += (uint64_t)n;
    }
    return count;
}

uint64_t bench_frame(const struct packet *packets, uint64_t count, int policy)
{
    struct datagram datagram;
    uint64_t good = 0;
    for (uint64_t i = 0; i < count; i++)
        good += frame_parse(&packets[i], policy, &datagram) == 0;
    return good;
}

/* The walk has just fetched what comes next: so do these loops, which run over packets of long
 * ago. */
static void fetch(const struct packet *packets, uint64_t i, uint64_t count)
{
    if (i + PACKETS_AHEAD < count)
        for (uint32_t at = 0; at < packets[i + PACKETS_AHEAD].caplen; at += 64)
            prefetch(packets[i + PACKETS_AHEAD].data + at);
}

static int session_header(const struct packet *packet, struct datagram *datagram, struct span *span)
{
    int reason = frame_parse(packet, CHECKSUM_IGNORE, datagram);
    return reason != 0 ? reason : moldudp64_framing.parse(datagram, 0, 0, span);
}

uint64_t bench_session(const struct packet *packets, uint64_t count)
{
    struct datagram datagram;
    struct span span;
    uint64_t messages = 0;
    for (uint64_t i = 0; i < count; i++) {
        fetch(packets, i, count);
        if (session_header(&packets[i], &datagram, &span) == 0)
            messages += span.count;
    }
    return messages;
}

static void ignore_messages(void *context, const struct message *messages, unsigned count)
{
    (void)messages;
    *(uint64_t *)context += count;
}

static void ignore_gap(void *context, uint64_t sequence, uint64_t count, uint64_t ts_recv)
{
    (void)context, (void)sequence, (void)count, (void)ts_recv;
}

uint64_t bench_arbiter(const struct packet *packets, uint64_t count, const struct arbiter_config *config,
                       const uint8_t *line_b)
{
    struct counters counters = { { 0 } };
    uint64_t delivered = 0;
    struct arbiter_sink sink = { &delivered, ignore_messages, ignore_gap };
    struct arbiter *arbiter;
    struct datagram datagram;
    struct span span;
    if (arbiter_create(config, &counters, sink, &arbiter) < 0)
        return 0;
    for (uint64_t i = 0; i < count; i++) {
        fetch(packets, i, count);
        if (session_header(&packets[i], &datagram, &span) != 0)
            continue;
        if (arbiter_expected(arbiter) == 0)
            arbiter_begin(arbiter, span.session, span.sequence, packets[i].ts_recv);
        unsigned line = config->lines > 1 && memcmp(datagram.dst, line_b, 4) == 0;
        arbiter_span(arbiter, line, &span, packets[i].ts_recv, packets[i].ts_recv);
    }
    arbiter_finish(arbiter, UINT64_MAX);
    arbiter_destroy(arbiter);
    return delivered;
}

uint64_t bench_messages(const uint8_t *tapped, uint64_t len, struct message *messages, uint64_t max)
{
    uint64_t count = 0;
    for (uint64_t at = 0; at + sizeof(struct tap_record) <= len && count < max; count++) {
        struct tap_record record;
        memcpy(&record, tapped + at, sizeof record);
        messages[count] = (struct message){ .data = tapped + at + sizeof record, .sequence = record.sequence,
                                            .ts_recv = record.ts_recv, .len = record.len };
        at += (sizeof record + record.len + 7) & ~7ull;
    }
    return count;
}

#define AS(name) ((const struct itch50_##name *)message->data)

static uint16_t locate_of(const struct message *message) { return rd_be16(AS(header)->locate); }
static uint64_t order_of(const struct message *message) { return rd_be64(AS(order_delete)->order_reference); }
static int is_add(const struct message *message) { return message->data[0] == 'A' || message->data[0] == 'F'; }
static int side_of(const struct message *message) { return AS(add_order)->side == 'B' ? SIDE_BID : SIDE_ASK; }
static int64_t price_of(const struct message *message) { return rd_px4be(AS(add_order)->price); }

static int is_change(const struct message *message)
{
    return message->data[0] == 'D' || message->data[0] == 'E' || message->data[0] == 'C'
        || message->data[0] == 'X' || message->data[0] == 'U';
}

static int replace(struct books *books, const struct message *message, const struct book_fetch *fetch)
{
    struct book_change change;
    int code = book_delete_fetched(books, &fetch[0], &change);
    return code != 0 ? code : book_add_fetched(books, &fetch[1], change.instrument, change.side,
                                               rd_be32(AS(order_replace)->shares));
}

static int change(struct books *books, const struct message *message, const struct book_fetch *fetch)
{
    struct book_change change;
    switch (message->data[0]) {
    case 'A': case 'F':
        return book_add_fetched(books, fetch, fetch->instrument, fetch->side, rd_be32(AS(add_order)->shares));
    case 'D': return book_delete_fetched(books, fetch, &change);
    case 'E': case 'C': case 'X':
        return book_reduce_fetched(books, fetch, rd_be32(AS(order_cancel)->shares), &change);
    case 'U': return replace(books, message, fetch);
    default: return 0;
    }
}

/* As the product's decoder does. Returns how many were declared. */
static unsigned declare(const struct message *message, struct book_fetch *fetch)
{
    if (is_add(message)) {
        *fetch = (struct book_fetch){ .kind = FETCH_ADD, .instrument = locate_of(message), .id = order_of(message),
                                      .side = (uint8_t)side_of(message), .price = price_of(message) };
        return 1;
    }
    if (!is_change(message))
        return 0;
    *fetch = (struct book_fetch){ .kind = FETCH_CHANGE, .instrument = locate_of(message), .id = order_of(message) };
    if (message->data[0] != 'U')
        return 1;
    fetch[1] = (struct book_fetch){ .kind = FETCH_REPLACE, .instrument = fetch->instrument,
                                    .id = rd_be64(AS(order_replace)->new_order_reference),
                                    .price = rd_px4be(AS(order_replace)->price) };
    return 2;
}

static uint64_t change_batch(struct books *books, const struct message *messages, uint64_t count, int queue)
{
    struct book_fetch fetches[2 * BATCH];
    uint64_t refused = 0, shares;
    unsigned fetched = 0, at[BATCH];
    uint32_t orders;
    for (uint64_t i = 0; i < count; i++) {
        at[i] = fetched;
        fetched += declare(&messages[i], &fetches[fetched]);
    }
    book_fetch(books, fetches, fetched);
    for (uint64_t i = 0; i < count; i++) {
        refused += change(books, &messages[i], &fetches[at[i]]) != 0;
        if (queue && is_add(&messages[i]))
            refused += book_queue(books, order_of(&messages[i]), &shares, &orders) != 0;
    }
    return refused;
}

uint64_t bench_books(struct books *books, const struct message *messages, uint64_t count, int queue)
{
    uint64_t refused = 0;
    for (uint64_t i = 0; i < count; i += BATCH)
        refused += change_batch(books, messages + i, count - i < BATCH ? count - i : BATCH, queue);
    return refused;
}

uint64_t bench_ring(struct ring *writer, struct ring *reader, uint64_t count, uint64_t batch)
{
    struct event event = { .kind = EVENT_ADD };
    const struct event *slots = ring_slots(reader);
    uint64_t read = 0, sum = 0, first;
    for (uint64_t i = 0; i < count; i += batch) {
        for (uint64_t k = 0; k < batch; k++) {
            event.sequence = i + k;
            ring_put(writer, &event);
        }
        uint64_t n = ring_peek(reader, batch, &first);
        for (uint64_t k = 0; k < n; k++)
            sum += slots[first + k].sequence;
        ring_release(reader, n);
        read += n;
    }
    return sum == 0 && count > 1 ? 0 : read;
}

/* ---- between two cores ---- */

/* Until *word is `value`; 0: it did not become so in time. */
static int await(const uint64_t *word, uint64_t value)
{
    for (uint64_t from = ticks_now(); ticks_ns(ticks_now() - from) < GIVE_UP_NS;)
        for (int i = 0; i < LOOKS; i++)
            /* Acquire: pairs with the release store of the other side. */
            if (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value)
                return 1;
    return 0;
}

uint64_t bench_ping(uint64_t *word, uint64_t count, uint64_t *ns)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t from = ticks_now();
        __atomic_store_n(word, 2 * i + 1, __ATOMIC_RELEASE);
        if (!await(word, 2 * i + 2))
            return i;
        ns[i] = ticks_ns(ticks_now() - from);
    }
    return count;
}

uint64_t bench_echo(uint64_t *word, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        if (!await(word, 2 * i + 1))
            return i;
        __atomic_store_n(word, 2 * i + 2, __ATOMIC_RELEASE);
    }
    return count;
}

static void rest(void)
{
    for (uint64_t from = ticks_now(); ticks_ns(ticks_now() - from) < REST_NS;)
        ;
}

uint64_t bench_hop(struct ring *ring, const uint64_t *answer, uint64_t count, uint64_t *ns)
{
    struct event event = { .kind = EVENT_TRADE };
    for (uint64_t i = 0; i < count; i++) {
        rest();
        event.sequence = ring_next(ring) + 1;
        uint64_t from = ticks_now();
        ring_put(ring, &event);
        if (!await(answer, event.sequence))
            return i;
        ns[i] = ticks_ns(ticks_now() - from);
    }
    return count;
}

void bench_on_pcap(uint8_t *user, const void *header, const uint8_t *bytes)
{
    (void)header, (void)bytes;
    ++*(uint64_t *)(void *)user;
}
