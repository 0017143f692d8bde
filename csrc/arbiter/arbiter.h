#pragma once
#include "count.h"
#include "session/session.h"

/* Merges the lines of a feed: each sequence once, in order, and knows every gap.
 * Theory in arbiter.c. */

enum { BATCH_MAX = 128, GAPS_REMEMBERED = 64, HISTORY = 1 << 15 };

/* Where spans come from. A recovery line brings what was asked for again: its numbers follow no
 * order of their own, so it skips nothing, is never ahead or silent, and is no witness to a jump. */
enum { LINE_A = 0, LINE_B = 1, LINES_MAX = 2, LINE_RECOVERY = 2, LINES_ALL = 3 };

struct arbiter_config {
    uint32_t lines;             /* 1 or 2, beside the recovery line */
    uint32_t window;            /* messages held at most; a power of two */
    uint64_t window_bytes;      /* and their bytes */
    uint64_t gap_timeout_us;    /* of the record clock, before a gap is given up */
    uint64_t stale_line_us;     /* silence of one line while another speaks */
    uint64_t stale_feed_us;     /* silence of all lines */
    uint32_t compare;           /* 1: compare copies of a message byte for byte by CRC */
    uint32_t pad;
};

struct line {                   /* one line's record; also what Python shows of it */
    uint64_t packets;
    uint64_t messages;          /* declared by its packets */
    uint64_t wins;              /* messages it delivered first */
    uint64_t losses;            /* messages its own sequence skipped */
    uint64_t healed;            /* of these, delivered by another line */
    uint64_t leads;             /* packets of the other line that this one was ahead of */
    uint64_t lead_ns_sum;
    uint64_t lead_ns_max;
    uint64_t stale;             /* times it was silent too long */
    uint64_t next;              /* sequence it should send next; 0 before its first packet */
    uint64_t next_offset;       /* stream offset that goes with it */
    uint64_t last_us;           /* record clock of its last packet */
    uint64_t last_send;         /* newest send time */
    uint64_t is_stale;
};

struct ledger {                 /* the account of one session: closes when
                                 * next - first = delivered + lost */
    char session[16];
    uint64_t first, next;       /* sequences [first, next) were expected */
    uint64_t received;          /* messages, over all lines = delivered + duplicate + late + cut + untrusted */
    uint64_t delivered, duplicate, late, cut, untrusted, lost;
    uint64_t gaps_detected, gaps_healed, gaps_declared;
    uint64_t mismatched;
    uint64_t ts_first, ts_last; /* ts_recv of its packets */
    uint64_t ended;             /* 1: the venue said so */
    /* the books as the session left them; of the running session: as of the last flush */
    uint64_t books_hash, instruments, orders, levels;
};

struct arbiter;

/* Where in-order messages go, a batch at a time, and where breaks are told. */
struct arbiter_sink {
    void *context;
    void (*messages)(void *context, const struct message *messages, unsigned count);
    /* `count` messages from `sequence` on are lost; count 0: its bytes are in doubt. */
    void (*gap)(void *context, uint64_t sequence, uint64_t count, uint64_t ts_recv);
};

/* In use are the first `config.lines` lines and LINE_RECOVERY. */
int arbiter_create(const struct arbiter_config *config, struct counters *counters,
                   struct arbiter_sink sink, struct arbiter **arbiter);
void arbiter_destroy(struct arbiter *arbiter);
/* A session begins: what was held is delivered or declared, then the ledger is new. `first`
 * is the sequence to expect. */
void arbiter_begin(struct arbiter *arbiter, const char *session, uint64_t first, uint64_t ts_recv);
/* One packet of the current session at record time `now` (what time-outs count by; `ts_recv` is
 * only written into records). 0, or the counter of the reason why it was dropped. */
int arbiter_span(struct arbiter *arbiter, unsigned line, const struct span *span, uint64_t ts_recv,
                 uint64_t now);
/* The record clock moved: gaps that are too old are declared. */
void arbiter_clock(struct arbiter *arbiter, uint64_t now);
/* Record clock, in us, at which arbiter_clock() has something to do; UINT64_MAX: nothing. */
uint64_t arbiter_deadline_us(const struct arbiter *arbiter);
/* Nothing more comes: declares open gaps and delivers all that is held. */
void arbiter_finish(struct arbiter *arbiter, uint64_t ts_recv);
/* Passes the collected batch on. The source's bytes may go away after this. */
void arbiter_flush(struct arbiter *arbiter);
const struct line *arbiter_lines(const struct arbiter *arbiter);
struct ledger *arbiter_ledger(struct arbiter *arbiter);
uint64_t arbiter_expected(const struct arbiter *arbiter);   /* 0 before the first session */
uint64_t arbiter_newest_send(const struct arbiter *arbiter);
/* 1 when the first message of the span was delivered with just these bytes. */
int arbiter_seen(const struct arbiter *arbiter, const struct span *span);
