/* The hot parts of the core, each under callgrind for `pydpdk bench instructions`, which builds and
 * runs it. What comes before a part (its input, memory, books) is not counted. Stdout has the
 * compiler, then a line for each part: its name, its unit, how many. The counts are in
 * callgrind's file.
 * ./instructions ITCH.pcap IEX.pcap HOST_A PORT_A HOST_B PORT_B */
#include "base/hist.h"
#include "bench/bench.h"
#include "counter_id.h"
#include "engine/engine.h"
#include "net/frame.h"
#include "session/session.h"
#include "source/capture.h"
#include "trade/risk.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <valgrind/callgrind.h>

enum {
    BURST = 64, RING_SLOTS = 1 << 16, RECORDS = 1 << 15, VALUES = 1 << 16, ORDERS = 1 << 13,
    PACKETS_MAX = 1 << 17, MESSAGES_MAX = 1 << 20,
};

/* Instead of libc's: the core draws hash seeds with it, and every run is to hash alike. */
ssize_t getrandom(void *buffer, size_t len, unsigned flags)
{
    (void)flags;
    memset(buffer, 0x5a, len);
    return (ssize_t)len;
}

static void require(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "instructions: %s\n", what);
    exit(1);
}

#define COUNTED(name, unit, units, work) do { \
        CALLGRIND_START_INSTRUMENTATION; \
        work; \
        CALLGRIND_STOP_INSTRUMENTATION; \
        CALLGRIND_DUMP_STATS_AT(name); \
        printf(name "\t" unit "\t%lu\n", (unsigned long)(units)); \
    } while (0)

/* ---- input ---- */

struct session {
    const char *path;
    const struct protocol *protocol;
    struct packet *packets;
    struct span *spans;     /* a packet's */
    unsigned *lines;
    uint64_t packets_count;
    struct message *messages;   /* of both lines, merged */
    uint64_t messages_count;
};

static const struct books_config books_config = { .orders_max = 1 << 15, .levels_max = 1 << 16, .seed = 1 };

static struct source *open_capture(const char *path)
{
    char reason[160];
    struct source *source;
    require(capture_open(path, &source, reason) == 0, "no capture");
    return source;
}

static void keep(void *context, const struct message *messages, unsigned count)
{
    struct session *session = context;
    require(session->messages_count + count <= MESSAGES_MAX, "too many messages");
    memcpy(session->messages + session->messages_count, messages, count * sizeof *messages);
    session->messages_count += count;
}

static void no_gap(void *context, uint64_t sequence, uint64_t count, uint64_t ts_recv)
{
    (void)context, (void)sequence, (void)count, (void)ts_recv;
    require(0, "a gap in the generated session");
}

static struct arbiter_config arbiter_config(uint32_t compare)
{
    return (struct arbiter_config){
        .lines = 2, .window = 4096, .window_bytes = 1 << 21, .gap_timeout_us = 10000,
        .stale_line_us = 1500000, .stale_feed_us = 15000000, .compare = compare,
    };
}

/* The datagram's line, by its group. */
static unsigned parse(const struct session *session, const struct packet *packet, const uint8_t *line_b, struct span *span)
{
    struct datagram datagram;
    require(frame_parse(packet, CHECKSUM_IGNORE, &datagram) == 0, "a frame that does not parse");
    const struct protocol *protocol = session->protocol;
    int reason = protocol->framing->parse(&datagram, protocol->variant, 0, span);
    require(reason == 0, "a packet that is no span");
    return memcmp(datagram.dst, line_b, 4) == 0;
}

static void read_spans(struct session *session, const uint8_t *line_b)
{
    for (uint64_t i = 0; i < session->packets_count; i++)
        session->lines[i] = parse(session, &session->packets[i], line_b, &session->spans[i]);
}

static struct arbiter *begin(const struct session *session, uint32_t compare, struct counters *counters, struct arbiter_sink sink)
{
    struct arbiter_config config = arbiter_config(compare);
    struct arbiter *arbiter;
    *counters = (struct counters){ { 0 } };
    require(arbiter_create(&config, counters, sink, &arbiter) == 0, "no arbiter");
    arbiter_begin(arbiter, session->spans[0].session, session->spans[0].sequence, session->packets[0].ts_recv);
    return arbiter;
}

static void merge(const struct session *session, struct arbiter *arbiter)
{
    for (uint64_t i = 0; i < session->packets_count; i++) {
        uint64_t now = session->packets[i].ts_recv;
        arbiter_span(arbiter, session->lines[i], &session->spans[i], now, now);
    }
    arbiter_finish(arbiter, UINT64_MAX);
}

/* The source stays open: all else are views of it. */
static struct session read_session(const char *path, const char *protocol, const uint8_t *line_b)
{
    struct session session = {
        .path = path, .protocol = protocol_find(protocol),
        .packets = malloc(PACKETS_MAX * sizeof *session.packets),
        .spans = malloc(PACKETS_MAX * sizeof *session.spans),
        .lines = malloc(PACKETS_MAX * sizeof *session.lines),
        .messages = malloc(MESSAGES_MAX * sizeof *session.messages),
    };
    struct counters counters;
    require(session.protocol && session.packets && session.spans && session.lines && session.messages, "no memory");
    session.packets_count = bench_collect(open_capture(path), session.packets, PACKETS_MAX);
    read_spans(&session, line_b);
    struct arbiter *arbiter = begin(&session, 0, &counters, (struct arbiter_sink){ &session, keep, no_gap });
    merge(&session, arbiter);
    arbiter_destroy(arbiter);
    require(session.messages_count > 0, "no messages");
    return session;
}

/* ---- parts ---- */

static void count_frames(const struct session *session)
{
    uint64_t n = session->packets_count, walked = 0, good = 0;
    struct source *source = open_capture(session->path);
    COUNTED("capture walk", "packet", n, walked = bench_walk(source, BURST));
    source_close(source);
    require(walked == n, "not every packet was walked over");
    COUNTED("frame parse", "packet", n, good = bench_frame(session->packets, n, CHECKSUM_IGNORE));
    require(good == n, "not every frame parsed");
    COUNTED("frame parse, checksums", "packet", n, good = bench_frame(session->packets, n, CHECKSUM_VERIFY));
    require(good == n, "not every checksum was right");
}

static void count_only(void *context, const struct message *messages, unsigned count)
{
    (void)messages;
    *(uint64_t *)context += count;
}

static void count_lines(const struct session *session)
{
    uint64_t n = session->packets_count, messages = 0;
    struct counters counters;
    struct arbiter_sink sink = { &messages, count_only, no_gap };
    COUNTED("frame and session headers", "packet", n, messages = bench_session(session->packets, n));
    require(messages == 2 * session->messages_count, "not two copies of each message");
    messages = 0;
    struct arbiter *bare = begin(session, 0, &counters, sink);
    COUNTED("arbiter, A and B", "packet", n, merge(session, bare));
    require(messages == session->messages_count, "not every message was delivered");
    arbiter_destroy(bare);
    messages = 0;
    struct arbiter *comparing = begin(session, 1, &counters, sink);
    COUNTED("arbiter, A and B compared", "packet", n, merge(session, comparing));
    require(messages == session->messages_count, "not every message was delivered");
    arbiter_destroy(comparing);
}

static struct ring *ring_of(struct ring **reader)
{
    struct ring *ring;
    require(ring_create(NULL, RING_SLOTS, "capture", &ring) == 0, "no ring");
    if (reader != NULL)
        require(ring_attach(NULL, ring_fd(ring), RING_BLOCK, 1, reader) == 0, "no reader");
    return ring;
}

static void decode_all(struct decoder *decoder, const struct session *session)
{
    for (uint64_t i = 0; i < session->messages_count; i += BATCH_MAX) {
        uint64_t left = session->messages_count - i;
        session->protocol->decode(decoder, session->messages + i, left < BATCH_MAX ? (unsigned)left : BATCH_MAX);
    }
}

static void open_decoder(const struct session *session, struct counters *counters, struct decoder *decoder)
{
    *decoder = (struct decoder){ .out = { .ring = ring_of(NULL), .counters = counters } };
    require(books_create(&books_config, &decoder->books) == 0, "no books");
    require(session->protocol->open(decoder) == 0, "no decoder");
}

static void check_decoded(const struct session *session, struct counters *counters)
{
    require(counters->value[COUNT_messages_decoded] == session->messages_count, "not every message was decoded");
    require(counters->value[COUNT_events_written] > session->messages_count / 2, "too few records");
}

/* The books stay as the session left them: risk looks at them. */
static void count_itch(const struct session *session, struct counters *counters, struct decoder *decoder)
{
    open_decoder(session, counters, decoder);
    COUNTED("ITCH decode, books, records", "message", session->messages_count, decode_all(decoder, session));
    check_decoded(session, counters);
}

static void count_iex(const struct session *session)
{
    struct counters counters = { { 0 } };
    struct decoder decoder;
    open_decoder(session, &counters, &decoder);
    COUNTED("IEX decode, books, records", "message", session->messages_count, decode_all(&decoder, session));
    check_decoded(session, &counters);
}

/* Trades change no book: what is left is the decoder alone. */
static void count_trades(const struct session *session)
{
    struct session trades = *session;
    struct counters counters = { { 0 } };
    struct decoder decoder;
    trades.messages = malloc(session->messages_count * sizeof *trades.messages);
    require(trades.messages != NULL, "no memory");
    trades.messages_count = 0;
    for (uint64_t i = 0; i < session->messages_count; i++)
        if (session->messages[i].data[0] == 'P')
            trades.messages[trades.messages_count++] = session->messages[i];
    require(trades.messages_count > 0, "no trades");
    for (uint64_t own = trades.messages_count; trades.messages_count < session->messages_count; trades.messages_count++)
        trades.messages[trades.messages_count] = trades.messages[trades.messages_count % own];
    open_decoder(&trades, &counters, &decoder);
    COUNTED("ITCH decode, trades", "message", trades.messages_count, decode_all(&decoder, &trades));
    check_decoded(&trades, &counters);
}

static void count_books(const struct session *session)
{
    struct books *books;
    uint64_t n = session->messages_count, refused = 0;
    require(books_create(&books_config, &books) == 0, "no books");
    COUNTED("book operations", "message", n, refused = bench_books(books, session->messages, n, 0));
    require(refused == 0, "the books refused a message");
    books_clear(books);
    COUNTED("book operations, queue of adds", "message", n, refused = bench_books(books, session->messages, n, 1));
    require(refused == 0, "the books refused a message");
}

static void run(struct engine *engine)
{
    int rc;
    while ((rc = engine_step(engine)) >= 0)
        ;
    require(rc == -ENODATA, "end of the run");
}

/* All of it: from the capture of both lines to records in the ring. */
static void count_path(const struct session *session, const struct address *lines)
{
    struct engine_config config = { .checksum_policy = CHECKSUM_AUTO, .burst = BURST, .packets_max = 1024,
                                    .until_ns = UINT64_MAX };
    struct feed_config feed_config = { .protocol = "itch50", .arbiter = arbiter_config(1), .books = books_config,
                                       .lines = { lines[0], lines[1] } };
    struct source *source = open_capture(session->path);
    struct engine *engine;
    struct feed *feed;
    require(engine_create(&config, ring_of(NULL), &engine) == 0 && engine_add_source(engine, source) == 0
            && engine_add_feed(engine, &feed_config, &feed) == 0, "no engine");
    COUNTED("whole path", "message", session->messages_count, run(engine));
    feed_sync(feed);
    require(feed_counters(feed)->value[COUNT_messages_decoded] == session->messages_count, "not every message was decoded");
    engine_destroy(engine);
    source_close(source);
}

static void count_ring(void)
{
    struct ring *reader, *ring = ring_of(&reader);
    uint64_t read = 0;
    COUNTED("ring put and peek, 1", "record", RECORDS, read = bench_ring(ring, reader, RECORDS, 1));
    require(read == RECORDS, "not every record was read");
    COUNTED("ring put and peek, 32", "record", RECORDS, read = bench_ring(ring, reader, RECORDS, 32));
    require(read == RECORDS, "not every record was read");
}

/* Within all limits, at the best prices of the books. */
static uint64_t make_orders(const struct book *books, struct event *orders)
{
    uint64_t count = 0;
    for (uint32_t at = 0; count < ORDERS; at = (at + 1) % BOOK_INSTRUMENTS_MAX) {
        const struct book *book = &books[at];
        require(at != BOOK_INSTRUMENTS_MAX - 1 || count > 0, "nothing can be traded");
        if (book->side[0].count == 0 || book->side[1].count == 0 || (book->state & (BOOK_HALTED | BOOK_STOPPED)))
            continue;
        int buy = (count / 2) & 1;
        orders[count] = (struct event){
            .kind = EVENT_ORDER_NEW, .side = buy ? SIDE_BID : SIDE_ASK, .instrument_id = at, .size = 100,
            .price = buy ? book->bid : book->ask, .order_id = count + 1,
        };
        count++;
    }
    return count;
}

static void make_reports(const struct event *orders, struct event *reports)
{
    for (uint64_t i = 0; i < ORDERS; i++) {
        reports[i] = orders[i];
        reports[i].kind = EVENT_FILL;
        reports[i].sequence = i + 1;
    }
}

static uint64_t check_all(struct risk *risk, const struct event *orders)
{
    struct event approved[BURST], rejects[BURST];
    uint64_t passed = 0, refused;
    for (uint64_t i = 0; i < ORDERS; i += BURST)
        passed += risk_pass(risk, orders + i, BURST, i + 1, approved, rejects, &refused);
    return passed;
}

static void count_risk(const struct decoder *decoder)
{
    const struct book *books = books_all(decoder->books);
    static struct event orders[ORDERS], reports[ORDERS];
    struct risk *risk;
    uint64_t passed = 0;
    require(risk_create(1, ORDERS, &risk) == 0, "no risk");
    for (uint32_t i = 0; i < BOOK_INSTRUMENTS_MAX; i++)
        risk_limits(risk)[i] = (struct limits){ 10000, INT64_MAX - 1, 500, 1 << 30 };
    *risk_account(risk) = (struct account_limits){ INT64_MAX - 1, ORDERS, 1000000000, ORDERS, 0 };
    risk_books(risk, 0, books, &decoder->gaps);
    require(make_orders(books, orders) == ORDERS, "too few orders");
    make_reports(orders, reports);
    COUNTED("risk check", "order", ORDERS, passed = check_all(risk, orders));
    require(passed == ORDERS, "an order did not pass");
    COUNTED("risk report", "report", ORDERS, risk_report(risk, reports, ORDERS));
    require(risk_stats(risk)->reports == ORDERS, "a report was not applied");
}

static void count_histogram(void)
{
    static uint64_t values[VALUES];
    static struct hist hist;
    uint64_t state = 88172645463325252;
    for (int i = 0; i < VALUES; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        values[i] = state >> (24 + (state & 31));
    }
    COUNTED("histogram add", "value", VALUES, for (int i = 0; i < VALUES; i++) hist_add(&hist, values[i], 1));
    COUNTED("histogram add, many", "value", VALUES, hist_add_all(&hist, values, VALUES));
    require(hist.count == 2 * VALUES, "not every value was counted");
}

static struct address address_of(const char *host, const char *port)
{
    struct address address = { .port = (uint16_t)atoi(port), .len = 4 };
    require(inet_pton(AF_INET, host, address.bytes) == 1, "not an address");
    return address;
}

int main(int argc, char **argv)
{
    require(argc == 7, "ITCH.pcap IEX.pcap HOST_A PORT_A HOST_B PORT_B");
    struct address lines[2] = { address_of(argv[3], argv[4]), address_of(argv[5], argv[6]) };
    struct session itch = read_session(argv[1], "itch50", lines[1].bytes);
    struct session iex = read_session(argv[2], "deep10", lines[1].bytes);
    struct counters counters = { { 0 } };
    struct decoder decoder;
    puts(bench_compiler());
    count_frames(&itch);
    count_lines(&itch);
    count_trades(&itch);
    count_itch(&itch, &counters, &decoder);
    count_iex(&iex);
    count_books(&itch);
    count_ring();
    count_path(&itch, lines);
    count_risk(&decoder);
    count_histogram();
    return 0;
}
