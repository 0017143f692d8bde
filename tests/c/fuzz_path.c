/* Fuzz target for the path from frame to event: frames out of the input (fuzz_input.h) run through
 * an engine with two feeds of tiny limits, so that full memory is reached. tests/c/fuzz.sh builds
 * and runs it.
 *
 * Found is, besides what the sanitizers say: an account that does not close, a book that breaks
 * its own rules, a frame that was dropped for no reason, and an outcome that depends on how many
 * packets a burst has. */
#include "counter_id.h"
#include "engine/engine.h"
#include "fuzz_input.h"
#include <errno.h>
#include <stdio.h>

enum { FEEDS = 2, BIG = 1 << 16, SMALL = 64 };

struct outcome {
    struct counters counters;
    uint64_t events, hash;
};

static void require(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "finding: %s\n", what);
    __builtin_trap();
}

/* ---- the engine under test ---- */

static struct feed_config config_of(const char *protocol, int line, unsigned lines, uint8_t mode)
{
    struct feed_config config = {
        .arbiter = { .lines = lines, .window = 16, .window_bytes = 1 << 17, .gap_timeout_us = 10000,
                     .stale_line_us = 1500000, .stale_feed_us = 15000000, .compare = (mode & 4) != 0 },
        .books = { .orders_max = 64, .levels_max = 64, .seed = 1 },
    };
    strcpy(config.protocol, protocol);
    for (unsigned i = 0; i < lines; i++) {
        memcpy(config.lines[i].bytes, groups[line + (int)i], 4);
        config.lines[i].len = 4;
        config.lines[i].port = ports[line + (int)i];
    }
    return config;
}

static struct engine *make_engine(uint8_t mode, uint32_t burst, struct ring *ring, struct frames sources[2])
{
    struct engine_config config = {
        .checksum_policy = mode % 3, .burst = burst, .batch_ns = mode & 8 ? 100000 : 0,
        .packets_max = mode & 16 ? 5 : 4096, .lockstep = !(mode & 64), .until_ns = UINT64_MAX,
    };
    struct feed_config configs[FEEDS] = { config_of("itch50", 0, 2, mode), config_of("deep10", 2, 1, mode) };
    struct engine *engine;
    struct feed *feed;
    require(engine_create(&config, ring, &engine) == 0, "no engine");
    for (int i = 0; i < FEEDS; i++)
        require(engine_add_feed(engine, &configs[i], &feed) == i, "no feed");
    for (int i = 0; i < 2; i++) {
        sources[i].source = (struct source){ .burst = frames_burst, .ops = &frames_ops };
        sources[i].at = sources[i].alive = 0;
        require(engine_add_source(engine, &sources[i].source) == i, "no source");
    }
    return engine;
}

/* ---- what must hold ---- */

static uint64_t sum(const struct counters *counters, int first, int last)
{
    uint64_t total = 0;
    for (int i = first; i <= last; i++)
        total += counters->value[i];
    return total;
}

#define VALUE(name) (c->value[COUNT_##name])

static void check_counters(const struct counters *c, uint64_t frames, uint64_t read)
{
    require(VALUE(frames_received) == frames, "frames that the source gave");
    require(frames == VALUE(frames_parsed) + sum(c, counter_drop_first(), counter_drop_last()), "frames");
    require(VALUE(messages_received) == VALUE(messages_delivered) + VALUE(messages_duplicate)
            + VALUE(messages_late) + VALUE(messages_cut) + VALUE(messages_untrusted), "messages");
    require(VALUE(messages_expected) == VALUE(messages_delivered) + VALUE(messages_lost), "sequences");
    require(VALUE(messages_delivered) == VALUE(messages_decoded) + VALUE(message_unknown)
            + VALUE(message_length), "decoded messages");
    require(VALUE(events_written) == read, "records");
    require(VALUE(gaps_detected) == VALUE(gaps_healed) + VALUE(gaps_declared), "gaps");
}

static void check_ledgers(struct feed *feed)
{
    for (uint64_t i = 0; i < feed_sessions(feed); i++) {
        const struct ledger *ledger = feed_ledger(feed, i);
        if (ledger == NULL)
            continue;
        require(ledger->next - ledger->first == ledger->delivered + ledger->lost, "ledger: sequences");
        require(ledger->received == ledger->delivered + ledger->duplicate + ledger->late + ledger->cut
                + ledger->untrusted, "ledger: messages");
    }
}

static void check_queue(const struct books *books, const struct level *level)
{
    const struct order *pool = books_pool(books);
    uint64_t size = 0;
    uint32_t orders = 0;
    for (uint32_t at = level->head; orders < level->orders; at = pool[at].next, orders++) {
        require(at != NO_ORDER && pool[at].price == level->price && pool[at].size > 0, "order in its queue");
        size += pool[at].size;
    }
    require(size == level->size, "size of a level");
}

/* Best last: bids ascend, asks descend. Returns the side's orders. */
static uint64_t check_side(const struct books *books, const struct book_side *side, int ask)
{
    const struct level *levels = books_levels(books) + side->at;
    uint64_t orders = 0;
    require(side->count <= side->room && side->at + (uint64_t)side->room <= books_levels_room(books), "room");
    for (uint32_t i = 0; i < side->count; i++) {
        require(levels[i].size > 0, "empty level");
        if (i > 0)
            require(ask ? levels[i - 1].price > levels[i].price : levels[i - 1].price < levels[i].price, "order of levels");
        if (levels[i].orders > 0)
            check_queue(books, &levels[i]);
        orders += levels[i].orders;
    }
    return orders;
}

static void check_books(const struct books *books)
{
    const struct book *all = books_all(books);
    uint64_t total = 0;
    for (uint32_t i = 0; i < BOOK_INSTRUMENTS_MAX; i++) {
        if (!(all[i].state & BOOK_SEEN)) {
            require(all[i].side[0].count + all[i].side[1].count == 0, "book of nobody");
            continue;
        }
        uint64_t orders = check_side(books, &all[i].side[0], 0) + check_side(books, &all[i].side[1], 1);
        require(orders == all[i].orders && (all[i].version & 1) == 0, "orders of a book");
        total += orders;
    }
    require(total == books_orders(books), "orders of the books");
}

/* ---- one run ---- */

static uint64_t drain(struct ring *reader, uint64_t *hash)
{
    const struct event *slots = ring_slots(reader);
    uint64_t first, n, total = 0;
    while ((n = ring_peek(reader, BIG, &first)) > 0) {
        for (uint64_t i = 0; i < n; i++) {
            struct event event = slots[first + i];
            uint64_t words[8];
            event.stamp = 0;
            memcpy(words, &event, sizeof words);
            for (int w = 0; w < 8; w++)
                *hash = (*hash ^ words[w]) * 0x9e3779b97f4a7c15 + (*hash >> 29);
        }
        ring_release(reader, n);
        total += n;
    }
    return total;
}

static void run(uint8_t mode, uint32_t burst, struct ring *ring, struct ring *reader, struct frames sources[2],
                struct outcome *out)
{
    struct engine *engine = make_engine(mode, burst, ring, sources);
    uint64_t lost = ring_writer(ring)->lost;
    int rc, steps = 0;
    *out = (struct outcome){ .hash = 1 };
    while ((rc = engine_step(engine)) >= 0) {
        require(steps++ < 2 * FRAMES + 16, "it does not end");
        if (!(mode & 64))
            out->events += drain(reader, &out->hash);
    }
    require(rc == -ENODATA, "end of the run");
    out->events += drain(reader, &out->hash);
    out->counters = *engine_counters(engine);
    for (unsigned i = 0; i < FEEDS; i++) {
        struct feed *feed = engine_feed(engine, i);
        feed_sync(feed);
        for (int n = 0; n < COUNT_END; n++)
            out->counters.value[n] += feed_counters(feed)->value[n];
        check_ledgers(feed);
        check_books(feed_books(feed));
    }
    check_counters(&out->counters, sources[0].count + sources[1].count, out->events);
    require(ring_writer(ring)->lost - lost == out->counters.value[COUNT_events_lost], "records lost");
    engine_destroy(engine);
    source_close(&sources[0].source);
    source_close(&sources[1].source);
}

static struct ring *attach(struct ring *ring)
{
    struct ring *reader;
    require(ring_attach(NULL, ring_fd(ring), RING_BLOCK, 1, &reader) == 0, "no reader");
    return reader;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ring *rings[2], *readers[2];
    static struct frames sources[2];
    struct outcome one, other;
    if (size < CONFIG_BYTES)
        return 0;
    for (int i = 0; i < 2 && rings[i] == NULL; i++) {
        require(ring_create(NULL, i ? SMALL : BIG, "capture", &rings[i]) == 0, "no ring");
        readers[i] = attach(rings[i]);
    }
    uint8_t mode = data[0];
    int lossy = (mode & 64) != 0;
    read_frames(data + CONFIG_BYTES, size - CONFIG_BYTES, sources);
    run(mode, 64, rings[lossy], readers[lossy], sources, &one);
    if (mode & 32 && !lossy) {
        run(mode, 1 + mode % 7, rings[0], readers[0], sources, &other);
        require(one.hash == other.hash && memcmp(&one.counters, &other.counters, sizeof one.counters) == 0,
                "the outcome depends on the burst");
    }
    sources[0].count = sources[1].count = 0;
    return 0;
}
