#pragma once
#include "base/clock.h"
#include "counter_id.h"
#include "base/sample.h"
#include "engine/engine.h"
#include <stdatomic.h>
#include <stdbool.h>

/* What engine.c (the loop), engine_lane.c (its sources) and engine_life.c share. */

struct lane {               /* one source and the part of its burst not yet handled */
    struct source *source;
    uint16_t index;
    int at, count;
    int error;              /* 0, -ENODATA at its end, or what broke it */
    uint64_t ts_last;
    _Atomic uint32_t link;  /* as engine_link() said last */
    uint32_t link_told;
    struct answer *answer;  /* NULL: a kernel or nobody answers for it */
    uint64_t answer_due;
    struct packet packets[BURST_MAX];
};

struct route {              /* destination -> line of a feed */
    struct address address;
    struct feed *feed;
    unsigned line;
};

struct engine {
    struct engine_config config;
    struct ring *out;
    struct flight *flight;  /* NULL: raw frames are not kept */
    struct lane *lanes[SOURCES_MAX];
    struct route routes[ROUTES_MAX];
    struct feed *feeds[FEEDS_MAX];
    unsigned lanes_count, routes_count, feeds_count;
    unsigned turn;          /* live: the lane that was asked last */
    uint64_t reserve;
    uint64_t now;           /* record clock */
    uint64_t ahead;         /* a stamp too far ahead of it to be believed alone */
    struct feed *busy;      /* the feed that may have messages not yet decoded */
    uint64_t deadline_us;   /* earliest of the feeds' */
    uint64_t receive_ticks;
    uint64_t polled;        /* live: ticks when the loop last came round */
    uint64_t stall_ticks;   /* STALL_NS of them */
    int worked;             /* packets of the step before */
    bool begun, finished;
    atomic_bool stop;
    struct outlet outlet;   /* for LINK, MARK and ENGINE events */
    struct counters counters;
    struct engine_times *times;     /* the configuration's, or own_times */
    struct sample sample;
    bool sampled;           /* this step is looked at closely */
    uint32_t random;
    struct engine_times own_times;
};

/* engine_lane.c */
/* The lane whose packet is next, asking sources where needed; NULL when there is none now. */
struct lane *next_lane(struct engine *engine);
void speak(struct engine *engine);          /* sends what a source has to say by itself */
void listen(struct engine *engine, struct lane *lane, const struct packet *packet);
void tell_links(struct engine *engine);     /* writes what engine_link() was told */

/* engine.c */
void engine_flush(struct engine *engine);   /* before bytes of a burst go away */
const struct route *route_of(const struct engine *engine, const uint8_t *dst, unsigned len, uint16_t port);
