#pragma once
#include "base/hist.h"
#include "base/utc.h"
#include "engine/feed.h"
#include "net/answer.h"
#include "source/source.h"
#include "tape/flight.h"

/* The loop: sources -> frames -> feeds, on one core. */

enum { SOURCES_MAX = 8, ROUTES_MAX = 192, STALL_NS = 1000000 };

/* Records per packet: a 64 KiB datagram of the shortest messages that change a book (ITCH
 * delete: 2 + 19 bytes) writes a delete and a quote each; breaks and session records besides. */
enum { EVENTS_PER_PACKET = 8192, EVENTS_PER_STEP = 8192 };

struct engine_config {
    int32_t checksum_policy;    /* enum checksum_policy */
    uint32_t burst;             /* packets asked for at once, 1..BURST_MAX */
    /* A step ends at a packet boundary that depends on the input alone: where the record clock
     * enters another interval of batch_ns (0: never), after packets_max packets, or when the
     * messages it delivered may write EVENTS_PER_STEP records (see feed_load). */
    uint64_t batch_ns;
    uint32_t packets_max;
    /* 1: a step does not begin before the ring has room for all it may write, so that no
     * record is lost to a slow reader. 0: the loop never waits, losses are counted. */
    uint32_t lockstep;
    uint64_t until_ns;          /* packets stamped later are not handled: an end like the source's */
    /* Live: the clock that the sources stamp with; NULL: a replay, whose clock is its input.
     * Sources are asked in turn instead of merged by stamp, time-outs happen without packets
     * (idle_ns after their time, for sources whose stamps are that old when they come), and
     * stalls of the loop are counted. */
    const struct utc *clock;
    uint64_t idle_ns;
    uint32_t trust;             /* 1: believe a jump over 10 s at once, without a second stamp (a live clock's) */
    uint32_t marks;             /* 1: an EVENT_MARK tells readers where each batch ends */
    uint64_t incarnation;       /* told in an EVENT_ENGINE before all else; 0: not told */
    struct instruments *instruments;    /* where its feeds name what they are of; NULL: nowhere */
    struct engine_times *times; /* shared memory that outlives the engine; NULL: its own */
    uint32_t sample_every;      /* one step in so many, at random, is looked at closely; 0: none */
    uint32_t pad;
};

/* ns by the TSC. A burst or step is one interval, counted once for each packet or message that it
 * handled. Those marked so are of one step in `sample_every`, and what looking at the counter
 * costs is taken off them; arbitrate, decode and step are of the steps that do not pay for it.
 * pydpdk/process/times.py tells readers which events each lies between. */
struct engine_times {
    struct hist receive;        /* per packet: source burst */
    struct hist parse;          /* per packet, sampled: frame to datagram */
    struct hist arbitrate;      /* per packet: parse, session, arbiter */
    struct hist decode;         /* per message: decoder with books and ring */
    struct hist book;           /* per change of a book, sampled */
    struct hist ring;           /* per record, sampled: into its slot */
    struct hist step;           /* per packet: from asking the source to the publication of its records */
    struct hist stall;          /* live: each time the loop did not run for STALL_NS */
};

/* Records that one step may write at most, by the sum of the feeds' windows: EVENTS_PER_STEP, then its
 * last packet and all that was held. A lockstep ring needs twice as many slots (see ring_room). */
uint64_t engine_reserve(uint64_t windows);

struct engine;
int engine_create(const struct engine_config *config, struct ring *out, struct engine **engine);
void engine_destroy(struct engine *engine);     /* and its feeds; not the sources, not the ring */
int engine_add_source(struct engine *engine, struct source *source);    /* index, or -ENOSPC */
int engine_add_feed(struct engine *engine, const struct feed_config *config, struct feed **feed);
/* One batch. > 0: packets handled, or 1 for a time-out. 0: nothing came. -EAGAIN: no room in the ring (lockstep).
 * -ENODATA: every source ended; what was open is declared and written. Other: a source broke,
 * said once all others ended; engine_source_error() tells which. Several sources are merged
 * by time stamp: the oldest head goes first. */
int engine_step(struct engine *engine);
/* Steps until engine_stop() or the end; idle polls spin. Returns as engine_step, 0 if stopped. */
int engine_run(struct engine *engine);
/* Before it runs: the raw frames of all sources are kept there too, in the order they are handled. */
void engine_keep(struct engine *engine, struct flight *flight);
/* Before it runs: ARP, ICMP and IGMP replies of this source are made by `answer`. */
int engine_answer(struct engine *engine, int source, struct answer *answer);
/* Once it ran: says what is still to be said (that groups were left). */
void engine_farewell(struct engine *engine);
/* From any thread, for source `source`: enum link_state, told in a record by the next step. */
void engine_link(struct engine *engine, int source, uint32_t state);
/* From any thread or signal handler. What was taken from the sources is handled, then a
 * later step ends the run as if every source had ended. */
void engine_stop(struct engine *engine);
int engine_source_error(const struct engine *engine, int source);
uint64_t engine_now(const struct engine *engine);   /* record clock: ts_recv of the newest packet */
const struct counters *engine_counters(const struct engine *engine);
const struct engine_times *engine_times(const struct engine *engine);
struct feed *engine_feed(const struct engine *engine, unsigned index);  /* NULL when out of range */
