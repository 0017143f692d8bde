#pragma once
#include "feed.h"
#include "hist.h"
#include "source.h"

/* The loop: sources -> frames -> feeds, on one core. */

enum { SOURCES_MAX = 8, ROUTES_MAX = 16 };

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
};

struct engine_times {           /* ns; one sample a burst or step, weighted by what it handled */
    struct hist receive;        /* per packet: source burst */
    struct hist arbitrate;      /* per packet: frame, session, arbiter */
    struct hist decode;         /* per message: decoder, books, ring */
};

struct engine;
int engine_create(const struct engine_config *config, struct ring *out, struct engine **engine);
void engine_destroy(struct engine *engine);     /* and its feeds; not the sources, not the ring */
int engine_add_source(struct engine *engine, struct source *source);    /* index, or -ENOSPC */
int engine_add_feed(struct engine *engine, const struct feed_config *config, struct feed **feed);
/* Records that one step may write at most: EVENTS_PER_STEP, then its last packet and all that
 * was held. A lockstep ring needs twice as many slots (see ring_room). */
uint64_t engine_reserve(const struct engine *engine);

/* One batch. > 0: packets handled. 0: nothing came. -EAGAIN: no room in the ring (lockstep).
 * -ENODATA: every source ended; what was open is declared and written. Other: a source broke,
 * said once all others ended; engine_source_error() tells which. Several sources are merged
 * by time stamp: the oldest head goes first. */
int engine_step(struct engine *engine);
/* Steps until engine_stop() or the end; idle polls spin. Returns as engine_step, 0 if stopped. */
int engine_run(struct engine *engine);
/* From any thread or signal handler. A later step ends the run as if every source had ended. */
void engine_stop(struct engine *engine);
int engine_source_error(const struct engine *engine, int source);
uint64_t engine_now(const struct engine *engine);   /* record clock: ts_recv of the newest packet */
const struct counters *engine_counters(const struct engine *engine);
const struct engine_times *engine_times(const struct engine *engine);
struct feed *engine_feed(const struct engine *engine, unsigned index);  /* NULL when out of range */
