#include "engine/feed.h"
#include "arbiter/silence.h"
#include "base/clock.h"
#include "counter_id.h"
#include "session/succession.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct feed {
    struct feed_config config;
    const struct protocol *protocol;
    struct decoder decoder;
    struct counters counters;
    struct arbiter *arbiter;
    struct tap *tap;
    uint64_t sessions;                  /* ever begun */
    uint64_t end_at;                    /* sequence at which the venue ended the session, 0: not yet */
    bool end_told;
    struct silence silence;
    _Atomic uint64_t midnight_next;     /* of sessions that begin from now on */
    uint64_t breaks;                    /* records of sessions, gaps and silences */
    uint64_t decode_ticks, decoded;     /* spent in the decoder, and on how many messages */
    struct ledger closed[SESSIONS_KEPT];
    struct ledger total;                /* of closed sessions: only its counts are used */
    struct succession succession;
};

static void emit_break(struct feed *feed, int kind, uint64_t sequence, uint64_t number, uint64_t ts_recv, int flags)
{
    struct event event = { .kind = (uint8_t)kind, .flags = (uint16_t)(FLAG_LAST | flags), .sequence = sequence,
                           .ts_recv = ts_recv, .price = UNDEF_PRICE, .order_id = number };
    outlet_put(&feed->decoder.out, &event);
    feed->breaks++;
}

static void tap_messages(struct tap *tap, const struct message *messages, unsigned count, uint64_t session)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t size = (sizeof(struct tap_record) + messages[i].len + 7) & ~7ull;
        if (tap->room - tap->used < size) {
            tap->lost += count - i;
            return;
        }
        struct tap_record record = { messages[i].sequence, messages[i].ts_recv, messages[i].len, (uint32_t)session };
        memcpy(tap->buffer + tap->used, &record, sizeof record);
        memcpy(tap->buffer + tap->used + sizeof record, messages[i].data, messages[i].len);
        tap->used += size;
    }
}

uint64_t tap_starts(const uint8_t *tapped, uint64_t len, uint64_t *starts, uint64_t max)
{
    uint64_t count = 0;
    for (uint64_t at = 0; at + sizeof(struct tap_record) <= len; count++) {
        struct tap_record record;
        memcpy(&record, tapped + at, sizeof record);
        if (starts != NULL && count < max)
            starts[count] = at;
        at += (sizeof record + record.len + 7) & ~7ull;
    }
    return count;
}

static void on_messages(void *context, const struct message *messages, unsigned count)
{
    struct feed *feed = context;
    if (feed->tap != NULL)
        tap_messages(feed->tap, messages, count, feed->sessions);
    uint64_t begun = ticks_now();
    feed->protocol->decode(&feed->decoder, messages, count);
    feed->decode_ticks += ticks_now() - begun;
    feed->decoded += count;
}

static void on_gap(void *context, uint64_t sequence, uint64_t count, uint64_t ts_recv)
{
    struct feed *feed = context;
    feed->decoder.gaps++;
    emit_break(feed, EVENT_GAP, sequence, count, ts_recv, FLAG_SUSPECT);
}

static int feed_init(struct feed *feed, const struct feed_config *config, uint32_t index, struct ring *out)
{
    feed->protocol = protocol_find(config->protocol);
    if (feed->protocol == NULL)
        return -EPROTONOSUPPORT;
    feed->config = *config;
    feed->decoder.out = (struct outlet){ .ring = out, .counters = &feed->counters, .feed = index };
    feed->decoder.midnight_ns = config->midnight_ns;
    feed->decoder.protocol = feed->protocol;
    int rc = books_create(&config->books, &feed->decoder.books);
    if (rc == 0)
        rc = feed->protocol->open(&feed->decoder);
    if (rc == 0) {
        struct arbiter_sink sink = { feed, on_messages, on_gap };
        rc = arbiter_create(&config->arbiter, &feed->counters, sink, &feed->arbiter);
    }
    return rc;
}

int feed_create(const struct feed_config *config, uint32_t index, struct ring *out, struct feed **feed)
{
    struct feed *made = calloc(1, sizeof *made);
    if (made == NULL)
        return -ENOMEM;
    made->midnight_next = config->midnight_ns;
    int rc = feed_init(made, config, index, out);
    if (rc < 0)
        feed_destroy(made);
    else
        *feed = made;
    return rc;
}

void feed_destroy(struct feed *feed)
{
    if (feed == NULL)
        return;
    arbiter_destroy(feed->arbiter);
    if (feed->decoder.state != NULL)
        feed->protocol->close(&feed->decoder);
    books_destroy(feed->decoder.books);
    free(feed);
}

static void describe_books(struct feed *feed, struct ledger *ledger)
{
    const struct book *books = books_all(feed->decoder.books);
    ledger->books_hash = books_hash(feed->decoder.books);
    ledger->orders = books_orders(feed->decoder.books);
    ledger->instruments = ledger->levels = 0;
    for (uint32_t i = 0; i < BOOK_INSTRUMENTS_MAX; i++) {
        ledger->instruments += (books[i].state & BOOK_SEEN) != 0;
        ledger->levels += books[i].side[0].count + books[i].side[1].count;
    }
}

static void add_up(struct ledger *total, const struct ledger *ledger)
{
    total->next += ledger->next - ledger->first;
    total->received += ledger->received;
    total->delivered += ledger->delivered;
    total->duplicate += ledger->duplicate;
    total->late += ledger->late;
    total->cut += ledger->cut;
    total->untrusted += ledger->untrusted;
}

/* Tells of the end of the session once all before it was delivered or declared. */
static void tell_end(struct feed *feed, uint64_t ts_recv)
{
    if (feed->end_at == 0 || feed->end_told || arbiter_expected(feed->arbiter) < feed->end_at)
        return;
    feed_flush(feed);
    emit_break(feed, EVENT_SESSION_END, feed->end_at, feed->end_at, ts_recv, 0);
    feed->end_told = true;
}

static void close_session(struct feed *feed, uint64_t ts_recv)
{
    if (feed->sessions == 0)
        return;
    feed_finish(feed, ts_recv);
    struct ledger *ledger = arbiter_ledger(feed->arbiter);
    describe_books(feed, ledger);
    add_up(&feed->total, ledger);
    feed->closed[(feed->sessions - 1) % SESSIONS_KEPT] = *ledger;
}

static void begin_session(struct feed *feed, const struct span *span, uint64_t ts_recv)
{
    close_session(feed, ts_recv);
    feed->counters.value[COUNT_session_resets] += feed->sessions > 0;
    feed->sessions++;
    feed->end_at = 0;
    feed->end_told = false;
    books_clear(feed->decoder.books);
    memcpy(feed->decoder.session, span->session, sizeof feed->decoder.session);
    feed->protocol->reset(&feed->decoder);
    feed->decoder.midnight_ns = atomic_load_explicit(&feed->midnight_next, memory_order_relaxed);
    /* A late join: what was sent before may have changed any book. */
    feed->decoder.gaps = span->sequence > 1;
    arbiter_begin(feed->arbiter, span->session, span->sequence, ts_recv);
    emit_break(feed, EVENT_SESSION, span->sequence, span->sequence, ts_recv,
               span->sequence > 1 ? FLAG_SUSPECT : 0);
}

/* Makes the span's session the current one if it is new. 0, or why the packet is dropped. */
static int session_of(struct feed *feed, unsigned line, const struct span *span, uint64_t ts_recv, uint64_t now)
{
    if (span->sequence == 0 || span->sequence + span->count < span->sequence)
        return COUNT_drop_sequence;
    const struct arbiter_config *config = &feed->config.arbiter;
    struct standing standing = {
        .expected = arbiter_expected(feed->arbiter), .line_next = arbiter_lines(feed->arbiter)[line].next,
        .newest_send = arbiter_newest_send(feed->arbiter), .now_us = now / 1000, .ts_us = ts_recv / 1000,
        .timeout_us = config->gap_timeout_us, .stale_us = config->stale_line_us, .window = config->window,
        .line = line, .ended = feed->end_at != 0,
        .seen = span->sequence == 1 && span->send_time != 0 && arbiter_seen(feed->arbiter, span),
    };
    if (line == LINE_RECOVERY)      /* asked for by session: no other can be meant */
        return succession_follows(&feed->succession, span) ? 0 : COUNT_drop_session_other;
    switch (succession_judge(&feed->succession, span, &standing)) {
    case SESSION_BEGINS:
        begin_session(feed, span, ts_recv);
        return 0;
    case SESSION_LEFT:
        return COUNT_drop_session_other;
    case SESSION_UNSURE:
        return COUNT_drop_untrusted_jump;
    default:
        return 0;
    }
}

static bool allowed(const struct feed *feed, const struct datagram *datagram)
{
    if (feed->config.allowed[0].len == 0)
        return true;
    for (unsigned i = 0; i < SOURCES_ALLOWED; i++) {
        const struct address *address = &feed->config.allowed[i];
        if (address->len != 0 && address->len == datagram->addr_len
            && memcmp(address->bytes, datagram->src, address->len) == 0)
            return true;
    }
    return false;
}

/* Tells of lines, or the feed, that became `state`. What came before is written first. */
static void tell_silence(struct feed *feed, unsigned changed, int state, uint64_t ts_recv)
{
    if (changed == 0)
        return;
    feed_flush(feed);
    for (unsigned i = 0; i <= LINES_MAX; i++) {
        if (!(changed & 1u << i))
            continue;
        struct event event = { .kind = i < LINES_MAX ? EVENT_LINE : EVENT_FEED, .flags = FLAG_LAST, .ts_recv = ts_recv,
                               .sequence = arbiter_expected(feed->arbiter), .price = UNDEF_PRICE,
                               .order_id = i < LINES_MAX ? i : 0, .aux = (uint32_t)state };
        outlet_put(&feed->decoder.out, &event);
        feed->breaks++;
        if (state == LINE_STALE)
            feed->counters.value[i < LINES_MAX ? COUNT_line_stale : COUNT_feed_stale]++;
    }
}

static struct line *lines_of(struct feed *feed) { return (struct line *)arbiter_lines(feed->arbiter); }

static void note_heard(struct feed *feed, unsigned line, uint64_t now)
{
    const struct arbiter_config *config = &feed->config.arbiter;
    unsigned stale = silence_check(&feed->silence, lines_of(feed), config, now / 1000);
    tell_silence(feed, stale, LINE_STALE, now);
    unsigned alive = silence_heard(&feed->silence, lines_of(feed), config, line, now / 1000);
    tell_silence(feed, alive, LINE_ALIVE, now);
}

static void note_kind(struct feed *feed, const struct span *span)
{
    if (span->flags & SPAN_HEARTBEAT)
        feed->counters.value[COUNT_packets_heartbeat]++;
    if (span->flags & SPAN_END) {
        feed->counters.value[COUNT_packets_end_of_session]++;
        arbiter_ledger(feed->arbiter)->ended = 1;
        if (feed->end_at == 0)
            feed->end_at = span->sequence;
    } else if (feed->end_at != 0 && span->count > 0 && span->sequence >= feed->end_at) {
        feed->counters.value[COUNT_session_after_end]++;
    }
}

int feed_datagram(struct feed *feed, unsigned line, const struct datagram *datagram, uint64_t ts_recv, uint64_t now)
{
    struct span span;
    if (!allowed(feed, datagram))
        return COUNT_drop_unexpected_src;
    const struct protocol *protocol = feed->protocol;
    int reason = protocol->framing->parse(datagram, protocol->variant, arbiter_lines(feed->arbiter)[line].next, &span);
    if (reason == 0)
        reason = session_of(feed, line, &span, ts_recv, now);
    if (reason != 0)
        return reason;
    reason = arbiter_span(feed->arbiter, line, &span, ts_recv, now);
    if (reason == 0 && line != LINE_RECOVERY)
        note_heard(feed, line, now);
    if (reason == 0 && (span.count == 0 || feed->end_at != 0)) {
        note_kind(feed, &span);
        tell_end(feed, ts_recv);
    }
    return reason;
}

void feed_clock(struct feed *feed, uint64_t now)
{
    arbiter_clock(feed->arbiter, now);
    tell_silence(feed, silence_check(&feed->silence, lines_of(feed), &feed->config.arbiter, now / 1000), LINE_STALE, now);
    tell_end(feed, now);
}

uint64_t feed_deadline_us(const struct feed *feed)
{
    uint64_t gap = arbiter_deadline_us(feed->arbiter);
    uint64_t silence = silence_due_us(&feed->silence, arbiter_lines(feed->arbiter), &feed->config.arbiter);
    return gap < silence ? gap : silence;
}

uint64_t feed_wake_us(const struct feed *feed)
{
    uint64_t gap = arbiter_deadline_us(feed->arbiter);
    return gap < feed->silence.check_us ? gap : feed->silence.check_us;
}

void feed_midnight(struct feed *feed, uint64_t midnight_ns)
{
    atomic_store_explicit(&feed->midnight_next, midnight_ns, memory_order_relaxed);
}

uint64_t feed_load(const struct feed *feed)
{
    return EVENTS_PER_MESSAGE * (feed->total.delivered + arbiter_ledger(feed->arbiter)->delivered) + feed->breaks;
}

void feed_flush(struct feed *feed) { arbiter_flush(feed->arbiter); }

void feed_finish(struct feed *feed, uint64_t ts_recv)
{
    if (feed->sessions == 0)
        return;
    arbiter_finish(feed->arbiter, ts_recv);
    tell_end(feed, ts_recv);
}

void feed_sync(struct feed *feed)
{
    struct ledger total = feed->total;
    uint64_t *value = feed->counters.value;
    add_up(&total, arbiter_ledger(feed->arbiter));
    value[COUNT_messages_expected] = total.next;
    value[COUNT_messages_received] = total.received;
    value[COUNT_messages_delivered] = total.delivered;
    value[COUNT_messages_duplicate] = total.duplicate;
    value[COUNT_messages_late] = total.late;
    value[COUNT_messages_cut] = total.cut;
    value[COUNT_messages_untrusted] = total.untrusted;
}

uint64_t feed_decode_ticks(struct feed *feed, uint64_t *messages)
{
    uint64_t ticks = feed->decode_ticks;
    *messages = feed->decoded;
    feed->decode_ticks = feed->decoded = 0;
    return ticks;
}

void feed_sample(struct feed *feed, struct sample *sample) { feed->decoder.out.sample = sample; }
void feed_tap(struct feed *feed, struct tap *tap) { feed->tap = tap; }
void feed_instruments(struct feed *feed, struct instruments *instruments) { feed->decoder.instruments = instruments; }
uint64_t feed_expected(const struct feed *feed) { return arbiter_expected(feed->arbiter); }
const struct feed_config *feed_config(const struct feed *feed) { return &feed->config; }
struct books *feed_books(struct feed *feed) { return feed->decoder.books; }
const struct decoder *feed_decoder(const struct feed *feed) { return &feed->decoder; }
const struct counters *feed_counters(const struct feed *feed) { return &feed->counters; }
const struct line *feed_lines(const struct feed *feed) { return arbiter_lines(feed->arbiter); }
const struct protocol *feed_protocol(const struct feed *feed) { return feed->protocol; }
uint64_t feed_sessions(const struct feed *feed) { return feed->sessions; }

const struct ledger *feed_ledger(struct feed *feed, uint64_t session)
{
    if (session >= feed->sessions || feed->sessions - session > SESSIONS_KEPT)
        return NULL;
    if (session + 1 < feed->sessions)
        return &feed->closed[session % SESSIONS_KEPT];
    struct ledger *ledger = arbiter_ledger(feed->arbiter);
    describe_books(feed, ledger);
    return ledger;
}
