#include "arbiter/arbiter.h"
#include "arbiter/hold.h"
#include "base/crc32c.h"
#include "counter_id.h"
#include "session/message.h"
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Arbitration
 * -----------
 * `expected` is the sequence to deliver next. Every message of every packet, whichever line it
 * came by, is one of:
 *   its sequence == expected    delivered, and after it all held ones that follow on
 *   its sequence >  expected    held (copied), once; the hole before it is a gap
 *   its sequence <  expected    a copy of what was delivered, or late for its gap
 * so lines that cut their packets at different messages need no special case.
 *
 * A gap opens when a sequence above `expected` is known to exist: from a held message or from
 * a heartbeat. It is healed when its messages come, by either line, and declared (lost) when
 * the record clock has moved gap_timeout_us past its discovery, when the window is full, or
 * when the session ends. Decisions compare whole microseconds, so a source that stamps in
 * microseconds and one that stamps in nanoseconds decide alike.
 *
 * A span that lies further than the window beyond all that is known is not believed at once:
 * one wrong number would cost the session. It is a suspect, and the packet is dropped, until another packet from near there
 * comes by the other line, or by the same line when gap_timeout_us has passed.
 *
 * The account of a session closes by construction:
 *   next - first = delivered + lost
 *   received = delivered + duplicate + late + cut + untrusted
 * where a held message is counted when it is delivered, and all held ones are in the end.
 *
 * The seam for recovery: a re-request or a snapshot is one more origin of spans for
 * arbiter_span(); nothing here asks where a span came from. It needs a gap time-out that covers
 * its round trip, a line of its own in the statistics, and a book's epoch set when it is rebuilt. */

struct gap { uint64_t first, count; };

enum { PAST_LINE = 3, PAST_SET = 4, PAST_MARKS = 7 };
_Static_assert(LINES_ALL <= PAST_LINE + 1, "a line fits its bits");

struct past {               /* what is remembered of a delivered sequence */
    uint32_t crc;           /* its lowest bits: PAST_*, the rest: of the CRC32C of the message */
    uint32_t ts;            /* low half of ts_recv */
};

enum { WHOLES = 1 << 10 };

struct whole {              /* and of a packet, all of whose messages were delivered in a run */
    uint64_t sequence;      /* 0: nothing */
    uint32_t len;
    uint32_t crc;           /* span_crc() */
};

struct arbiter {
    struct arbiter_config config;
    struct counters *counters;
    struct arbiter_sink sink;
    uint64_t expected;
    uint64_t highest;       /* one past the highest sequence known to exist */
    bool gap_open;          /* the hole at `expected` was noticed, at gap_us */
    bool borrowed;          /* the batch points into the hold */
    uint64_t now_us;        /* record clock */
    uint64_t gap_us;
    struct { bool active; unsigned line; uint64_t first, next, since_us; } suspect;
    struct hold hold;
    unsigned batched;
    struct message batch[BATCH_MAX];
    struct line lines[LINES_ALL];
    struct ledger ledger;
    struct gap gaps[GAPS_REMEMBERED];
    uint64_t gaps_seen;
    struct past *history;   /* by sequence modulo HISTORY; NULL with one line */
    struct whole wholes[WHOLES];    /* by sequence modulo WHOLES */
};

#define ADD(arbiter, name, n) ((arbiter)->counters->value[COUNT_##name] += (n))

/* Of all blocks of a span, by four chains at once: one waits three cycles for each of its steps. */
static uint32_t span_crc(const struct span *span)
{
    const uint8_t *data = span->blocks;
    uint32_t left = span->len;
    uint64_t crc[4] = { span->count, 1, 2, 3 };
    for (; left >= 32; left -= 32, data += 32)
        for (int i = 0; i < 4; i++)
            crc[i] = _mm_crc32_u64(crc[i], load64(data + 8 * i));
    crc[0] = _mm_crc32_u64(crc[0], crc[1] << 32 | crc[2]);
    return (uint32_t)_mm_crc32_u64(crc[0], crc[3] << 32 | crc32c(data, left));
}

static const struct past *recall(const struct arbiter *arbiter, uint64_t sequence)
{
    if (arbiter->history == NULL || arbiter->expected - sequence > HISTORY)
        return NULL;
    const struct past *past = &arbiter->history[sequence & (HISTORY - 1)];
    return past->crc & PAST_SET ? past : NULL;
}

static bool same_bytes(const struct past *past, const uint8_t *data, uint32_t len)
{
    return ((past->crc ^ crc32c(data, len)) & ~(uint32_t)PAST_MARKS) == 0;
}

int arbiter_create(const struct arbiter_config *config, struct counters *counters,
                   struct arbiter_sink sink, struct arbiter **out)
{
    if (config->lines < 1 || config->lines > LINES_MAX || __builtin_popcount(config->window) != 1
        || __builtin_popcountll(config->window_bytes) != 1 || config->window_bytes < 1 << 17)
        return -EINVAL;
    struct arbiter *arbiter = calloc(1, sizeof *arbiter);
    if (arbiter == NULL)
        return -ENOMEM;
    arbiter->config = *config;
    arbiter->counters = counters;
    arbiter->sink = sink;
    int rc = hold_create(&arbiter->hold, config->window, config->window_bytes);
    if (config->lines > 1) {
        arbiter->history = calloc(HISTORY, sizeof *arbiter->history);
        rc = rc < 0 || arbiter->history == NULL ? -ENOMEM : 0;
    }
    if (rc < 0)
        arbiter_destroy(arbiter);
    else
        *out = arbiter;
    return rc;
}

void arbiter_destroy(struct arbiter *arbiter)
{
    if (arbiter == NULL)
        return;
    hold_destroy(&arbiter->hold);
    free(arbiter->history);
    free(arbiter);
}

void arbiter_begin(struct arbiter *arbiter, const char *session, uint64_t first, uint64_t ts_recv)
{
    arbiter->ledger = (struct ledger){ .first = first, .next = first, .ts_first = ts_recv, .ts_last = ts_recv };
    memcpy(arbiter->ledger.session, session, SESSION_ID);
    arbiter->expected = arbiter->highest = first;
    arbiter->gap_open = arbiter->suspect.active = false;
    arbiter->gaps_seen = 0;
    memset(arbiter->gaps, 0, sizeof arbiter->gaps);
    if (arbiter->history != NULL)
        memset(arbiter->history, 0, HISTORY * sizeof *arbiter->history);
    memset(arbiter->wholes, 0, sizeof arbiter->wholes);
    for (unsigned i = 0; i < LINES_ALL; i++)
        arbiter->lines[i].next = arbiter->lines[i].next_offset = 0;
}

/* ---- delivering ---- */

/* `line` brought these sequences first: heals what other lines skipped of them, cancels what its own
 * skip counted as lost. */
static inline void first_copies(struct arbiter *arbiter, unsigned line, uint64_t first, uint64_t count)
{
    for (unsigned i = 0; i < arbiter->config.lines; i++) {
        struct line *other = &arbiter->lines[i];
        uint64_t skipped = other->next > first ? other->next - first : 0;
        if (skipped > count)
            skipped = count;
        if (i == line)
            other->losses -= skipped < other->losses ? skipped : other->losses;
        else
            other->healed += skipped;
    }
}

void arbiter_flush(struct arbiter *arbiter)
{
    if (arbiter->batched > 0)
        arbiter->sink.messages(arbiter->sink.context, arbiter->batch, arbiter->batched);
    arbiter->batched = 0;
    arbiter->borrowed = false;
}

static void remember(struct arbiter *arbiter, unsigned line, const uint8_t *data, uint32_t len, uint64_t ts_recv)
{
    uint32_t crc = arbiter->config.compare ? (crc32c(data, len) & ~(uint32_t)PAST_MARKS) : 0;
    arbiter->history[arbiter->expected & (HISTORY - 1)] = (struct past){ crc | PAST_SET | line, (uint32_t)ts_recv };
}

static inline void place(struct arbiter *arbiter, unsigned line, const uint8_t *data, uint32_t len, uint64_t ts_recv)
{
    if (arbiter->batched == BATCH_MAX)
        arbiter_flush(arbiter);
    arbiter->batch[arbiter->batched++] = (struct message){
        .data = data, .sequence = arbiter->expected, .ts_recv = ts_recv, .len = len };
    if (arbiter->history != NULL)
        remember(arbiter, line, data, len, ts_recv);
    arbiter->expected++;
}

static void deliver(struct arbiter *arbiter, unsigned line, const uint8_t *data, uint32_t len, uint64_t ts_recv)
{
    place(arbiter, line, data, len, ts_recv);
    arbiter->lines[line].wins++;
    arbiter->ledger.delivered++;
}

/* Delivers what is held and follows on. True when something was. */
static bool drain(struct arbiter *arbiter)
{
    const struct held *held;
    bool any = false;
    while (arbiter->hold.count > 0 && (held = hold_get(&arbiter->hold, arbiter->expected)) != NULL) {
        uint64_t sequence = held->sequence;
        deliver(arbiter, held->line, hold_bytes(&arbiter->hold, held), held->len, held->ts_recv);
        hold_drop(&arbiter->hold, sequence);
        arbiter->borrowed = any = true;
    }
    return any;
}

/* Opens the gap at `expected` if something above is known to exist. Between two messages a gap
 * is open exactly when highest > expected, so nothing held is ever passed by. */
static void notice(struct arbiter *arbiter)
{
    if (arbiter->gap_open || arbiter->highest <= arbiter->expected)
        return;
    const struct held *above = hold_lowest(&arbiter->hold, arbiter->expected);
    arbiter->gap_open = true;
    arbiter->gap_us = above != NULL ? above->since_us : arbiter->now_us;
    arbiter->ledger.gaps_detected++;
    ADD(arbiter, gaps_detected, 1);
}

/* After a delivery while a gap is open: is the hole filled, and is there another behind it? A
 * hole that is being filled is not given up: time counts from its last message. */
static void settle(struct arbiter *arbiter)
{
    if (drain(arbiter) || arbiter->expected >= arbiter->highest) {
        arbiter->gap_open = false;
        arbiter->ledger.gaps_healed++;
        ADD(arbiter, gaps_healed, 1);
        notice(arbiter);
    } else {
        arbiter->gap_us = arbiter->now_us;
    }
}

static void forget(struct arbiter *arbiter, uint64_t first, uint64_t count)
{
    arbiter->gaps[arbiter->gaps_seen++ % GAPS_REMEMBERED] = (struct gap){ first, count };
    uint64_t n = count < HISTORY ? count : HISTORY;
    for (uint64_t i = 0; arbiter->history != NULL && i < n; i++)
        arbiter->history[(first + count - 1 - i) & (HISTORY - 1)].crc = 0;
}

/* Gives the hole at `expected` up: to the lowest held message or the highest known, but not
 * beyond `limit`. */
static void declare(struct arbiter *arbiter, uint64_t limit, uint64_t ts_recv)
{
    const struct held *above = hold_lowest(&arbiter->hold, arbiter->expected);
    uint64_t end = above != NULL ? above->sequence : arbiter->highest;
    if (end > limit)
        end = limit;
    uint64_t lost = end - arbiter->expected;
    notice(arbiter);
    arbiter_flush(arbiter);
    arbiter->sink.gap(arbiter->sink.context, arbiter->expected, lost, ts_recv);
    forget(arbiter, arbiter->expected, lost);
    arbiter->ledger.lost += lost;
    arbiter->ledger.gaps_declared++;
    ADD(arbiter, messages_lost, lost);
    ADD(arbiter, gaps_declared, 1);
    arbiter->expected = end;
    arbiter->gap_open = false;
    drain(arbiter);
    notice(arbiter);
}

static bool was_lost(const struct arbiter *arbiter, uint64_t sequence)
{
    if (sequence < arbiter->ledger.first)
        return true;
    for (unsigned i = 0; i < GAPS_REMEMBERED; i++)
        if (sequence - arbiter->gaps[i].first < arbiter->gaps[i].count)
            return true;
    return false;
}

/* Two copies of a message differ: the first stays, and who reads it is told. */
static void mismatch(struct arbiter *arbiter, uint64_t sequence, uint64_t ts_recv)
{
    ADD(arbiter, ab_mismatch, 1);
    arbiter->ledger.mismatched++;
    arbiter_flush(arbiter);
    arbiter->sink.gap(arbiter->sink.context, sequence, 0, ts_recv);
}

/* A message below `expected`: a copy, or one that came after its gap was declared. */
static void old(struct arbiter *arbiter, uint64_t sequence, const uint8_t *data, uint32_t len, uint64_t ts_recv)
{
    const struct past *past = recall(arbiter, sequence);
    if (past == NULL && was_lost(arbiter, sequence)) {
        arbiter->ledger.late++;
        return;
    }
    arbiter->ledger.duplicate++;
    if (past == NULL || !arbiter->config.compare || same_bytes(past, data, len))
        return;
    mismatch(arbiter, sequence, ts_recv);
}

/* A copy of a message that waits for its turn. */
static void again(struct arbiter *arbiter, uint64_t sequence, const uint8_t *data, uint32_t len, uint64_t ts_recv)
{
    const struct held *held = hold_get(&arbiter->hold, sequence);
    arbiter->ledger.duplicate++;
    if (arbiter->config.compare && (held->len != len || memcmp(hold_bytes(&arbiter->hold, held), data, len) != 0))
        mismatch(arbiter, sequence, ts_recv);
}

static void early(struct arbiter *arbiter, unsigned line, uint64_t sequence, const uint8_t *data, uint32_t len,
                  uint64_t ts_recv);

static void one(struct arbiter *arbiter, unsigned line, uint64_t sequence, const uint8_t *data, uint32_t len,
                uint64_t ts_recv)
{
    if (sequence < arbiter->expected) {
        old(arbiter, sequence, data, len, ts_recv);
        return;
    }
    if (sequence > arbiter->expected) {
        early(arbiter, line, sequence, data, len, ts_recv);
        return;
    }
    first_copies(arbiter, line, sequence, 1);
    deliver(arbiter, line, data, len, ts_recv);
    if (arbiter->gap_open)
        settle(arbiter);
}

/* Holds a message. What the batch still points to in the hold must be passed on before. */
static int put(struct arbiter *arbiter, unsigned line, uint64_t sequence, const uint8_t *data, uint32_t len,
               uint64_t ts_recv)
{
    if (arbiter->borrowed)
        arbiter_flush(arbiter);
    return hold_put(&arbiter->hold, arbiter->expected, sequence, data, len, ts_recv, arbiter->now_us, line);
}

static void early(struct arbiter *arbiter, unsigned line, uint64_t sequence, const uint8_t *data, uint32_t len,
                  uint64_t ts_recv)
{
    int rc;
    while ((rc = put(arbiter, line, sequence, data, len, ts_recv)) == -ENOSPC) {
        if (arbiter->highest < sequence)    /* the window is full: its oldest hole is given up */
            arbiter->highest = sequence;
        declare(arbiter, sequence, ts_recv);
        if (sequence <= arbiter->expected) {
            one(arbiter, line, sequence, data, len, ts_recv);
            return;
        }
    }
    if (rc == -EEXIST) {
        again(arbiter, sequence, data, len, ts_recv);
        return;
    }
    first_copies(arbiter, line, sequence, 1);
    if (arbiter->highest <= sequence)
        arbiter->highest = sequence + 1;
    notice(arbiter);
}

/* A place in a span: block `i`, at byte `at`. */
struct block { unsigned i; uint32_t at; };

static inline const uint8_t *next_block(const struct span *span, struct block *block, int64_t len)
{
    const uint8_t *data = span->blocks + block->at + span->prefix.len;
    block->at += span->prefix.len + (uint32_t)len;
    block->i++;
    return data;
}

static bool comparable(const struct arbiter *arbiter, const struct span *span)
{
    return arbiter->config.compare && arbiter->history != NULL && span->count > 1;
}

/* Fast path of the line that is ahead: the span begins at `expected` and no gap is open, and
 * nothing in it can change that. */
static struct block deliver_run(struct arbiter *arbiter, unsigned line, const struct span *span, struct block block,
                                uint64_t ts_recv)
{
    const struct span walked = *span;   /* of our own: nothing that is stored can change it */
    uint64_t first = arbiter->expected;
    for (int64_t len; block.i < walked.count && (len = message_len(&walked, block.at)) >= 0;)
        place(arbiter, line, next_block(&walked, &block, len), (uint32_t)len, ts_recv);
    uint64_t count = arbiter->expected - first;
    arbiter->lines[line].wins += count;
    arbiter->ledger.delivered += count;
    first_copies(arbiter, line, first, count);
    if (comparable(arbiter, span) && count == span->count && block.at == span->len)
        arbiter->wholes[first & (WHOLES - 1)] = (struct whole){ first, span->len, span_crc(span) };
    return block;
}

/* Is this packet, byte for byte, one whose messages were all delivered? Lines that cut their packets
 * alike need not compare message by message. */
static bool is_copy(const struct arbiter *arbiter, const struct span *span)
{
    const struct whole *whole = &arbiter->wholes[span->sequence & (WHOLES - 1)];
    return comparable(arbiter, span) && whole->sequence == span->sequence && whole->len == span->len
        && whole->crc == span_crc(span);
}

/* Fast path of the line that is behind: messages below `expected`, all of them copies. */
static struct block copies_run(struct arbiter *arbiter, const struct span *span, struct block block, uint64_t ts_recv)
{
    if (block.i == 0 && is_copy(arbiter, span)) {
        arbiter->ledger.duplicate += span->count;
        return (struct block){ span->count, span->len };
    }
    const struct span walked = *span;
    uint64_t end = arbiter->expected - walked.sequence;
    unsigned count = end < walked.count ? (unsigned)end : walked.count;
    for (int64_t len; block.i < count && (len = message_len(&walked, block.at)) >= 0;) {
        uint64_t sequence = walked.sequence + block.i;
        old(arbiter, sequence, next_block(&walked, &block, len), (uint32_t)len, ts_recv);
    }
    return block;
}

/* Hands every whole message on; returns how many there were, and their bytes in *used. */
static unsigned walk(struct arbiter *arbiter, unsigned line, const struct span *span, uint64_t ts_recv,
                     uint32_t *used)
{
    struct block block = { 0, 0 };
    for (int64_t len; block.i < span->count && (len = message_len(span, block.at)) >= 0;) {
        uint64_t sequence = span->sequence + block.i;
        if (sequence < arbiter->expected)
            block = copies_run(arbiter, span, block, ts_recv);
        else if (sequence == arbiter->expected && !arbiter->gap_open)
            block = deliver_run(arbiter, line, span, block, ts_recv);
        else
            one(arbiter, line, sequence, next_block(span, &block, len), (uint32_t)len, ts_recv);
    }
    unsigned i = block.i;
    uint32_t at = block.at;
    if (i < span->count) {
        ADD(arbiter, block_cut, 1);
        arbiter->ledger.cut += span->count - i;
        /* The others exist, unless there are more of them than one packet is believed. */
        uint64_t end = span->sequence + span->count;
        if (end > arbiter->highest && end - arbiter->expected <= arbiter->config.window)
            arbiter->highest = end;
    } else if (at < span->len || (span->flags & SPAN_TRAILING)) {
        ADD(arbiter, session_trailing, 1);
    }
    *used = at;
    return i;
}

/* ---- statistics of the lines: who was first and by how much, what a line skipped, and how much
 * of that the other one had ---- */

static void note_lead(struct arbiter *arbiter, unsigned line, uint64_t sequence, uint64_t ts_recv)
{
    const struct past *past = sequence < arbiter->expected ? recall(arbiter, sequence) : NULL;
    if (past == NULL || (past->crc & PAST_LINE) == line)
        return;
    uint32_t lead = (uint32_t)ts_recv - past->ts;
    struct line *winner = &arbiter->lines[past->crc & PAST_LINE];
    if (lead >= 1u << 31        /* beyond what half a timestamp can tell */
        || line == LINE_RECOVERY || winner == &arbiter->lines[LINE_RECOVERY])
        return;
    winner->leads++;
    winner->lead_ns_sum += lead;
    if (lead > winner->lead_ns_max)
        winner->lead_ns_max = lead;
}

/* How many of [first, end) were delivered or are held. */
static uint64_t known_of(const struct arbiter *arbiter, uint64_t first, uint64_t end)
{
    uint64_t below = end < arbiter->expected ? end : arbiter->expected;
    uint64_t count = below > first ? below - first : 0;
    for (unsigned i = 0; i < GAPS_REMEMBERED; i++) {
        uint64_t from = arbiter->gaps[i].first, to = from + arbiter->gaps[i].count;
        from = from > first ? from : first;
        to = to < below ? to : below;
        count -= to > from ? to - from : 0;
    }
    uint64_t above = first > arbiter->expected ? first : arbiter->expected;
    for (uint64_t i = 0; arbiter->hold.count > 0 && above + i < end && i < arbiter->config.window; i++)
        count += hold_get(&arbiter->hold, above + i) != NULL;
    return count;
}

static void note_line(struct arbiter *arbiter, unsigned index, const struct span *span, uint64_t ts_recv)
{
    struct line *line = &arbiter->lines[index];
    line->packets++;
    line->messages += span->count;
    line->last_us = arbiter->now_us;
    if (span->send_time > line->last_send)
        line->last_send = span->send_time;
    if (index == LINE_RECOVERY)
        return;
    if (line->next != 0 && span->sequence > line->next) {
        line->losses += span->sequence - line->next;
        line->healed += known_of(arbiter, line->next, span->sequence);
    }
    if (span->send_time != 0 && span->sequence == line->next && span->offset != line->next_offset) {
        ADD(arbiter, session_offset_mismatch, 1);     /* bytes are missing that no sequence tells of */
        arbiter_flush(arbiter);
        arbiter->sink.gap(arbiter->sink.context, span->sequence, 0, ts_recv);
    }
}

/* ---- what comes in ---- */

/* Is this span's place in the sequence to be believed? */
static bool trusted(struct arbiter *arbiter, unsigned line, const struct span *span)
{
    uint64_t window = arbiter->config.window, sequence = span->sequence;
    uint64_t known = arbiter->highest > arbiter->expected ? arbiter->highest : arbiter->expected;
    if (sequence < known || sequence - known < window) {
        if (arbiter->suspect.line == line)
            arbiter->suspect.active = false;
        return true;
    }
    if (line == LINE_RECOVERY)
        return false;
    bool near = arbiter->suspect.active && sequence + window >= arbiter->suspect.first
        && sequence <= arbiter->suspect.next + window;
    if (near && (line != arbiter->suspect.line
                 || arbiter->now_us >= arbiter->suspect.since_us + arbiter->config.gap_timeout_us)) {
        arbiter->suspect.active = false;
        return true;
    }
    if (!near) {
        arbiter->suspect.first = sequence;
        arbiter->suspect.line = line;
        arbiter->suspect.since_us = arbiter->now_us;
        arbiter->suspect.active = true;
    }
    arbiter->suspect.next = sequence + span->count;
    return false;
}

int arbiter_span(struct arbiter *arbiter, unsigned line_index, const struct span *span, uint64_t ts_recv,
                 uint64_t now)
{
    if (now / 1000 > arbiter->now_us)
        arbiter->now_us = now / 1000;
    if (span->sequence == 0 || span->sequence + span->count < span->sequence)
        return COUNT_drop_sequence;
    arbiter->ledger.received += span->count;
    arbiter->ledger.ts_last = ts_recv;
    if (!trusted(arbiter, line_index, span)) {
        arbiter->ledger.untrusted += span->count;
        return COUNT_drop_untrusted_jump;
    }
    struct line *line = &arbiter->lines[line_index];
    note_line(arbiter, line_index, span, ts_recv);
    note_lead(arbiter, line_index, span->sequence, ts_recv);
    uint32_t used;
    uint64_t end = span->sequence + walk(arbiter, line_index, span, ts_recv, &used);
    if (end >= line->next && line_index != LINE_RECOVERY) {
        line->next = end;
        line->next_offset = span->offset + used;
    }
    if (span->count == 0 && span->sequence > arbiter->highest)
        arbiter->highest = span->sequence;
    notice(arbiter);
    return 0;
}

void arbiter_clock(struct arbiter *arbiter, uint64_t now)
{
    if (now / 1000 > arbiter->now_us)
        arbiter->now_us = now / 1000;
    while (arbiter->now_us >= arbiter_deadline_us(arbiter))
        declare(arbiter, UINT64_MAX, now);
}

void arbiter_finish(struct arbiter *arbiter, uint64_t ts_recv)
{
    while (arbiter->highest > arbiter->expected)
        declare(arbiter, UINT64_MAX, ts_recv);
    arbiter_flush(arbiter);
}

uint64_t arbiter_deadline_us(const struct arbiter *arbiter)
{
    return arbiter->gap_open ? arbiter->gap_us + arbiter->config.gap_timeout_us : UINT64_MAX;
}

const struct line *arbiter_lines(const struct arbiter *arbiter) { return arbiter->lines; }
uint64_t arbiter_expected(const struct arbiter *arbiter) { return arbiter->expected; }

struct ledger *arbiter_ledger(struct arbiter *arbiter)
{
    arbiter->ledger.next = arbiter->expected;
    return &arbiter->ledger;
}

uint64_t arbiter_newest_send(const struct arbiter *arbiter)
{
    uint64_t newest = 0;
    for (unsigned i = 0; i < arbiter->config.lines; i++)
        if (arbiter->lines[i].last_send > newest)
            newest = arbiter->lines[i].last_send;
    return newest;
}

int arbiter_seen(const struct arbiter *arbiter, const struct span *span)
{
    int64_t len = message_len(span, 0);
    const struct past *past = span->sequence < arbiter->expected ? recall(arbiter, span->sequence) : NULL;
    return span->count > 0 && len >= 0 && past != NULL && arbiter->config.compare
        && same_bytes(past, span->blocks + span->prefix.len, (uint32_t)len);
}
