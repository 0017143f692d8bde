#include "feed.h"
#include "clock.h"
#include "counter_id.h"
#include "emit.h"
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Sessions
 * --------
 * A feed has one current session. Another session id begins a new one: what the old one still
 * owed is declared, books are cleared. Session ids that were left are remembered, so that the
 * slower line's packets, or an interleaved old session, do not switch back and forth.
 *
 * IEX-TP restarts at sequence 1 under the same session id. A packet below the expected
 * sequence is such a restart, not a copy, when it was sent later than everything before it and
 * either begins the stream or comes more than a second later. The other line's packets of the
 * old stream are known by their send time. */

enum { RESTART_NS = 1000000000 };

struct feed {
    struct feed_config config;
    const struct protocol *protocol;
    struct decoder decoder;
    struct counters counters;
    struct arbiter *arbiter;
    struct tap *tap;
    uint64_t sessions;                  /* ever begun */
    uint64_t restart_send;              /* send time of the packet that restarted the stream */
    uint64_t last_us;                   /* record clock of the newest packet */
    uint64_t breaks;                    /* records of sessions and gaps */
    uint64_t decode_ticks, decoded;     /* spent in the decoder, and on how many messages */
    struct ledger closed[SESSIONS_KEPT];
    struct ledger total;                /* of closed sessions: only its counts are used */
    char current[SESSION_ID];
    char left[SESSIONS_LEFT][SESSION_ID];
    unsigned left_next;
};

static void emit_break(struct feed *feed, int kind, uint64_t sequence, uint64_t number, uint64_t ts_recv, int flags)
{
    struct event event = { .kind = (uint8_t)kind, .flags = (uint16_t)(FLAG_LAST | flags), .sequence = sequence,
                           .ts_recv = ts_recv, .price = INT64_MAX, .order_id = number };
    emit(&feed->decoder, &event);
    feed->breaks++;
}

static void tap_messages(struct tap *tap, const struct message *messages, unsigned count, uint64_t session)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t size = (sizeof(struct tap_record) + messages[i].len + 7) & ~7ull;
        if (tap->room - tap->used < size)
            return;
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

static int feed_init(struct feed *feed, const struct feed_config *config, struct ring *out)
{
    feed->protocol = protocol_find(config->protocol);
    if (feed->protocol == NULL)
        return -EPROTONOSUPPORT;
    feed->config = *config;
    feed->decoder.counters = &feed->counters;
    feed->decoder.out = out;
    feed->decoder.midnight_ns = config->midnight_ns;
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
    made->decoder.feed = index;
    int rc = feed_init(made, config, out);
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
    if (feed->decoder.own != NULL)
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
    total->received += ledger->received;
    total->delivered += ledger->delivered;
    total->duplicate += ledger->duplicate;
    total->late += ledger->late;
    total->cut += ledger->cut;
    total->untrusted += ledger->untrusted;
}

static void close_session(struct feed *feed, uint64_t ts_recv)
{
    if (feed->sessions == 0)
        return;
    arbiter_finish(feed->arbiter, ts_recv);
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
    memcpy(feed->current, span->session, SESSION_ID);
    books_clear(feed->decoder.books);
    feed->protocol->reset(&feed->decoder);
    /* A late join: what was sent before may have changed any book. */
    feed->decoder.gaps = span->sequence > 1;
    arbiter_begin(feed->arbiter, span->session, span->sequence, ts_recv);
    emit_break(feed, EVENT_SESSION, span->sequence, span->sequence, ts_recv,
               span->sequence > 1 ? FLAG_SUSPECT : 0);
}

static bool was_left(const struct feed *feed, const char *session)
{
    for (unsigned i = 0; i < SESSIONS_LEFT && i < feed->left_next; i++)
        if (memcmp(feed->left[i], session, SESSION_ID) == 0)
            return true;
    return false;
}

static bool restarts(const struct feed *feed, const struct span *span)
{
    uint64_t newest = arbiter_newest_send(feed->arbiter);
    if (span->send_time <= newest || span->sequence >= arbiter_expected(feed->arbiter))
        return false;
    bool begins = span->sequence == 1 && !arbiter_seen(feed->arbiter, span);
    return begins || span->send_time - newest > RESTART_NS;
}

/* Makes the span's session the current one if it is new. 0, or why the packet is dropped. */
static int session_of(struct feed *feed, const struct span *span, uint64_t ts_recv)
{
    if (span->sequence == 0 || span->sequence + span->count < span->sequence)
        return COUNT_drop_sequence;
    if (feed->sessions == 0) {
        begin_session(feed, span, ts_recv);
    } else if (memcmp(span->session, feed->current, SESSION_ID) != 0) {
        if (was_left(feed, span->session))
            return COUNT_drop_session_other;
        memcpy(feed->left[feed->left_next++ % SESSIONS_LEFT], feed->current, SESSION_ID);
        feed->restart_send = 0;
        begin_session(feed, span, ts_recv);
    } else if (span->send_time != 0) {
        if (span->send_time < feed->restart_send)
            return COUNT_drop_session_other;
        if (restarts(feed, span)) {
            feed->restart_send = span->send_time;
            begin_session(feed, span, ts_recv);
        }
    }
    return 0;
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

static void note_silence(struct feed *feed, unsigned line, uint64_t now_us)
{
    const struct arbiter_config *config = &feed->config.arbiter;
    struct line *lines = (struct line *)arbiter_lines(feed->arbiter);
    if (feed->last_us != 0 && now_us > feed->last_us && now_us - feed->last_us > config->stale_feed_us)
        feed->counters.value[COUNT_feed_stale]++;
    if (now_us > feed->last_us)
        feed->last_us = now_us;
    for (unsigned i = 0; i < config->lines; i++)
        if (lines[i].last_us != 0 && !lines[i].is_stale && now_us > lines[i].last_us
            && now_us - lines[i].last_us > config->stale_line_us) {
            lines[i].is_stale = 1;
            lines[i].stale++;
            feed->counters.value[COUNT_line_stale]++;
        }
    lines[line].is_stale = 0;
}

static void note_kind(struct feed *feed, const struct span *span, uint64_t ts_recv)
{
    struct ledger *ledger = arbiter_ledger(feed->arbiter);
    if (span->flags & SPAN_HEARTBEAT)
        feed->counters.value[COUNT_packets_heartbeat]++;
    if (span->flags & SPAN_END) {
        feed->counters.value[COUNT_packets_end_of_session]++;
        if (!ledger->ended) {
            feed_flush(feed);
            emit_break(feed, EVENT_SESSION_END, span->sequence, span->sequence, ts_recv, 0);
        }
        ledger->ended = 1;
    } else if (ledger->ended && span->count > 0 && span->sequence >= ledger->next) {
        feed->counters.value[COUNT_session_after_end]++;
    }
}

int feed_datagram(struct feed *feed, unsigned line, const struct datagram *datagram, uint64_t ts_recv)
{
    struct span span;
    if (!allowed(feed, datagram))
        return COUNT_drop_unexpected_src;
    int reason = feed->protocol->session == SESSION_MOLDUDP64
        ? moldudp64_parse(datagram, &span) : iextp_parse(datagram, (uint16_t)feed->protocol->iextp, &span);
    if (reason == 0)
        reason = session_of(feed, &span, ts_recv);
    if (reason != 0)
        return reason;
    note_silence(feed, line, ts_recv / 1000);
    if (span.count == 0 || arbiter_ledger(feed->arbiter)->ended)
        note_kind(feed, &span, ts_recv);
    return arbiter_span(feed->arbiter, line, &span, ts_recv);
}

void feed_clock(struct feed *feed, uint64_t ts_recv) { arbiter_clock(feed->arbiter, ts_recv); }
uint64_t feed_deadline_us(const struct feed *feed) { return arbiter_deadline_us(feed->arbiter); }
uint64_t feed_load(const struct feed *feed)
{
    return EVENTS_PER_MESSAGE * (feed->total.delivered + arbiter_ledger(feed->arbiter)->delivered) + feed->breaks;
}

void feed_flush(struct feed *feed) { arbiter_flush(feed->arbiter); }

void feed_finish(struct feed *feed, uint64_t ts_recv)
{
    if (feed->sessions > 0)
        arbiter_finish(feed->arbiter, ts_recv);
}

void feed_sync(struct feed *feed)
{
    struct ledger total = feed->total;
    uint64_t *value = feed->counters.value;
    add_up(&total, arbiter_ledger(feed->arbiter));
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

void feed_tap(struct feed *feed, struct tap *tap) { feed->tap = tap; }
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
