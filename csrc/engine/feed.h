#pragma once
#include "address.h"
#include "arbiter/arbiter.h"
#include "decode/decode.h"

/* One feed: the lines, session, arbiter, decoder and books of one sequence of messages. */

enum { SESSIONS_KEPT = 64, SOURCES_ALLOWED = 4 };
enum { EVENTS_PER_MESSAGE = 3 };    /* at most: a replace that moves the best prices */

struct feed_config {
    char protocol[16];
    struct address lines[LINES_ALL];     /* where each is sent to; of the recovery line: or unused */
    struct address allowed[SOURCES_ALLOWED];    /* none: any sender */
    struct arbiter_config arbiter;
    struct books_config books;
    uint64_t midnight_ns;   /* of the session's day at the venue, ns since the Unix epoch */
};

struct tap {                /* delivered messages as they are, for export; optional */
    uint8_t *buffer;
    uint64_t room, used;    /* each: struct tap_record, then its bytes, padded to 8 */
    uint64_t lost;          /* messages that found no room */
};
struct tap_record { uint64_t sequence, ts_recv; uint32_t len; uint32_t session; };

/* Offsets of the records in `len` tapped bytes, at most `max` of them into starts (which may be
 * NULL); returns how many there are. */
uint64_t tap_starts(const uint8_t *tapped, uint64_t len, uint64_t *starts, uint64_t max);

struct feed;
int feed_create(const struct feed_config *config, uint32_t index, struct ring *out, struct feed **feed);
void feed_instruments(struct feed *feed, struct instruments *instruments);  /* before its first datagram; NULL: none */
void feed_destroy(struct feed *feed);
/* One datagram for `line`, at record time `now`. 0, or the counter of why it was dropped. */
int feed_datagram(struct feed *feed, unsigned line, const struct datagram *datagram, uint64_t ts_recv,
                  uint64_t now);
void feed_clock(struct feed *feed, uint64_t now);
void feed_midnight(struct feed *feed, uint64_t midnight_ns);    /* of later sessions; any thread */
uint64_t feed_deadline_us(const struct feed *feed);
uint64_t feed_wake_us(const struct feed *feed);      /* cheap lower bound of feed_deadline_us() */
void feed_flush(struct feed *feed);     /* before the source's bytes go away */
/* Records that the messages and breaks so far may write at most, in every session. It grows when
 * a packet is taken, flushed or not, so it is a function of the input alone. */
uint64_t feed_load(const struct feed *feed);
void feed_finish(struct feed *feed, uint64_t ts_recv);
void feed_sync(struct feed *feed);      /* brings counters and the running ledger up to date */
/* Adds decoder ticks to `sample`; NULL stops. */
void feed_sample(struct feed *feed, struct sample *sample);
/* Ticks spent in the decoder since the last call, and the messages that took them. */
uint64_t feed_decode_ticks(struct feed *feed, uint64_t *messages);
void feed_tap(struct feed *feed, struct tap *tap);      /* NULL: none */

uint64_t feed_expected(const struct feed *feed);    /* the sequence to deliver next; 0 before a session */
const struct feed_config *feed_config(const struct feed *feed);
struct books *feed_books(struct feed *feed);
const struct decoder *feed_decoder(const struct feed *feed);
const struct counters *feed_counters(const struct feed *feed);
const struct line *feed_lines(const struct feed *feed);
const struct protocol *feed_protocol(const struct feed *feed);
/* Accounts of the last SESSIONS_KEPT sessions, oldest first, the running one last. */
uint64_t feed_sessions(const struct feed *feed);    /* how many there were */
const struct ledger *feed_ledger(struct feed *feed, uint64_t session);  /* NULL: not kept */
