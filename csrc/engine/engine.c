#include "engine/engine.h"
#include "base/clock.h"
#include "base/sample.h"
#include "counter_id.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Reads like the pipeline: next_lane() takes bursts from the sources, handle() carries one packet
 * through frame, session and arbiter to its feed, feed_flush() decodes what the arbiter passed
 * on into books and ring. The bytes of a burst live until the next one, so every feed is
 * flushed before a source is asked again.
 *
 * A time-out is an event of its own, at its own time on the record clock: before the packet that
 * is later, in a step of its own. So it does not matter whether a packet or, live, an idle look
 * at the clock made it known, and the replay of what was recorded live gives the same batches. */

static const uint64_t CLOCK_JUMP_NS = 10000000000;

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
    uint64_t windows;       /* of all feeds */
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
    struct engine_times *times;     /* the configuration's, or counted_times */
    struct sample sample;
    bool sampled;           /* this step is looked at closely */
    uint32_t random;
    struct engine_times counted_times;
};

/* ---- made ---- */

static bool same(const struct address *address, const uint8_t *dst, unsigned len)
{
    return address->len == len && (len == 4 ? memcmp(address->bytes, dst, 4) : memcmp(address->bytes, dst, len)) == 0;
}

static const struct route *route_of(const struct engine *engine, const uint8_t *dst, unsigned len, uint16_t port)
{
    for (unsigned i = 0; i < engine->routes_count; i++) {
        const struct address *address = &engine->routes[i].address;
        if (address->port == port && same(address, dst, len))
            return &engine->routes[i];
    }
    return NULL;
}

_Static_assert(ROUTES_MAX == FEEDS_MAX * LINES_ALL, "a route for each line");

uint64_t engine_reserve(uint64_t windows)
{
    return EVENTS_PER_STEP + EVENTS_PER_PACKET + EVENTS_PER_MESSAGE * windows;
}

int engine_create(const struct engine_config *config, struct ring *out, struct engine **engine)
{
    if (config->packets_max < 1 || config->packets_max > INT32_MAX || config->burst < 1 || config->burst > BURST_MAX
        || config->checksum_policy < CHECKSUM_IGNORE || config->checksum_policy > CHECKSUM_VERIFY)
        return -EINVAL;
    struct engine *made = calloc(1, sizeof *made);
    if (made == NULL)
        return -ENOMEM;
    made->config = *config;
    made->out = out;
    made->deadline_us = UINT64_MAX;
    made->stall_ticks = (uint64_t)(1e6 * STALL_NS / (double)ticks_ns(1000000));
    made->times = config->times != NULL ? config->times : &made->counted_times;
    made->random = 1;
    ticks_cost();           /* measured now, not on the packet path */
    made->outlet = (struct outlet){ .ring = out, .counters = &made->counters };
    *engine = made;
    return 0;
}

void engine_destroy(struct engine *engine)
{
    if (engine == NULL)
        return;
    for (unsigned i = 0; i < engine->feeds_count; i++)
        feed_destroy(engine->feeds[i]);
    for (unsigned i = 0; i < engine->lanes_count; i++)
        free(engine->lanes[i]);
    free(engine);
}

int engine_add_source(struct engine *engine, struct source *source)
{
    if (engine->lanes_count == SOURCES_MAX)
        return -ENOSPC;
    struct lane *lane = calloc(1, sizeof *lane);
    if (lane == NULL)
        return -ENOMEM;
    lane->source = source;
    lane->index = (uint16_t)engine->lanes_count;
    engine->lanes[engine->lanes_count] = lane;
    return (int)engine->lanes_count++;
}

static int add_routes(struct engine *engine, const struct feed_config *config)
{
    for (unsigned i = 0; i < LINES_ALL; i++) {
        const struct address *address = &config->lines[i];
        if (i >= config->arbiter.lines && (i != LINE_RECOVERY || address->len == 0))
            continue;
        if (route_of(engine, address->bytes, address->len, address->port) != NULL)
            return -EEXIST;
        engine->routes[engine->routes_count++] = (struct route){ *address, engine->feeds[engine->feeds_count], i };
    }
    return 0;
}

int engine_add_feed(struct engine *engine, const struct feed_config *config, struct feed **feed)
{
    if (engine->feeds_count == FEEDS_MAX)
        return -ENOSPC;
    int rc = feed_create(config, engine->feeds_count, engine->out, &engine->feeds[engine->feeds_count]);
    if (rc < 0)
        return rc;
    feed_instruments(engine->feeds[engine->feeds_count], engine->config.instruments);
    unsigned routes_count = engine->routes_count;
    rc = add_routes(engine, config);
    if (rc < 0) {
        feed_destroy(engine->feeds[engine->feeds_count]);
        engine->routes_count = routes_count;
        return rc;
    }
    engine->windows += config->arbiter.window;
    *feed = engine->feeds[engine->feeds_count];
    return (int)engine->feeds_count++;
}

int engine_answer(struct engine *engine, int source, struct answer *answer)
{
    if (source < 0 || (unsigned)source >= engine->lanes_count)
        return -EINVAL;
    if (engine->lanes[source]->source->send == NULL)
        return -EOPNOTSUPP;
    engine->lanes[source]->answer = answer;
    return 0;
}

void engine_link(struct engine *engine, int source, uint32_t state)
{
    if (source >= 0 && (unsigned)source < engine->lanes_count)
        atomic_store_explicit(&engine->lanes[source]->link, state, memory_order_relaxed);
}

void engine_keep(struct engine *engine, struct flight *flight) { engine->flight = flight; }

/* ---- the sources of the loop ----
 *
 * A replay merges them by time stamp, so every lane needs a packet to compare before one is
 * taken. Live, a burst is stamped when it is taken from its port, later than all bursts before:
 * lanes are asked in turn, and a burst is handled whole before the next lane is asked. */

static void flush(struct engine *engine)
{
    for (unsigned i = 0; i < engine->feeds_count; i++)
        feed_flush(engine->feeds[i]);
}

static void keep(struct engine *engine, struct lane *lane, int count)
{
    for (int i = 0; i < count; i++)
        lane->packets[i].port = lane->index;
    flight_put(engine->flight, lane->packets, count);
}

/* Once it is stopped nothing more is taken from a source; what was taken is handled. */
static void refill(struct engine *engine, struct lane *lane)
{
    if (atomic_load_explicit(&engine->stop, memory_order_relaxed))
        return;
    flush(engine);
    uint64_t begun = ticks_now();
    int rc = lane->source->burst(lane->source, lane->packets, (int)engine->config.burst);
    uint64_t ticks = ticks_now() - begun;
    lane->at = 0;
    lane->count = rc > 0 ? rc : 0;
    lane->error = rc < 0 ? rc : 0;
    if (rc > 0 || engine->config.clock == NULL)     /* an idle poll costs no packet anything */
        engine->receive_ticks += ticks;
    if (rc > 0)
        hist_add(&engine->times->receive, ticks_ns(ticks) / (uint64_t)rc, (uint64_t)rc);
    for (int i = 0; i < rc; i++)
        if (lane->packets[i].ts_recv > engine->config.until_ns) {
            lane->count = rc = i;
            lane->error = -ENODATA;
        }
    if (engine->flight != NULL && rc > 0)
        keep(engine, lane, rc);
}

static struct lane *oldest_lane(struct engine *engine)
{
    struct lane *oldest = NULL;
    for (unsigned i = 0; i < engine->lanes_count; i++) {
        struct lane *lane = engine->lanes[i];
        if (lane->at == lane->count && lane->error == 0)
            refill(engine, lane);
        if (lane->at < lane->count
            && (oldest == NULL || lane->packets[lane->at].ts_recv < oldest->packets[oldest->at].ts_recv))
            oldest = lane;
    }
    return oldest;
}

static struct lane *lane_in_turn(struct engine *engine)
{
    for (unsigned i = 0; i <= engine->lanes_count && engine->lanes_count > 0; i++) {
        struct lane *lane = engine->lanes[engine->turn];
        if (lane->at < lane->count)
            return lane;
        if (i == engine->lanes_count)
            break;
        engine->turn = (engine->turn + 1) % engine->lanes_count;
        lane = engine->lanes[engine->turn];
        if (lane->error == 0)
            refill(engine, lane);
    }
    return NULL;
}

static struct lane *next_lane(struct engine *engine)
{
    return engine->config.clock != NULL ? lane_in_turn(engine) : oldest_lane(engine);
}

/* ---- what a port without a kernel has to say ---- */

static void listen(struct engine *engine, struct lane *lane, const struct packet *packet)
{
    if (answer_frame(lane->answer, packet->data, packet->caplen, utc_now(engine->config.clock)) != ANSWER_NONE)
        lane->answer_due = 0;
}

/* Sends what is due of one lane. What the port does not take is lost and said again, as on any
 * wire: reports are repeated, whoever asked asks again. */
static void say(struct engine *engine, struct lane *lane, uint64_t now)
{
    uint8_t frame[ANSWER_FRAME];
    for (int i = 0; i < ANSWER_QUEUE; i++) {
        struct outgoing out = { .data = frame, .len = answer_next(lane->answer, now, frame, &lane->answer_due) };
        if (out.len == 0)
            return;
        if (lane->source->send(lane->source, &out, 1) == 1)
            engine->counters.value[COUNT_answers_sent]++;
        else
            engine->counters.value[COUNT_answers_lost]++;
    }
}

static void speak(struct engine *engine)
{
    for (unsigned i = 0; i < engine->lanes_count; i++) {
        struct lane *lane = engine->lanes[i];
        if (lane->answer == NULL || lane->answer_due == UINT64_MAX)
            continue;
        uint64_t now = utc_now(engine->config.clock);
        if (now >= lane->answer_due)
            say(engine, lane, now);
    }
}

void engine_farewell(struct engine *engine)
{
    for (unsigned i = 0; i < engine->lanes_count; i++)
        if (engine->lanes[i]->answer != NULL)
            say(engine, engine->lanes[i], utc_now(engine->config.clock));
}

/* ---- the record clock and its time-outs ---- */

static void update_deadline(struct engine *engine)
{
    engine->deadline_us = UINT64_MAX;
    for (unsigned i = 0; i < engine->feeds_count; i++)
        if (feed_deadline_us(engine->feeds[i]) < engine->deadline_us)
            engine->deadline_us = feed_deadline_us(engine->feeds[i]);
}

/* Handles the time-out that is due, at its time. */
static int deadline(struct engine *engine)
{
    if (engine->deadline_us * 1000 > engine->now)
        engine->now = engine->deadline_us * 1000;
    for (unsigned i = 0; i < engine->feeds_count; i++)
        feed_clock(engine->feeds[i], engine->now);
    update_deadline(engine);
    return 1;
}

/* The record clock once this stamp is seen. It never goes back, and one stamp far in the future
 * (a capture has such) does not move it alone: every open gap would be given up. */
static uint64_t clock_at(const struct engine *engine, uint64_t ts_recv)
{
    bool far = engine->now != 0 && ts_recv > engine->now && ts_recv - engine->now > CLOCK_JUMP_NS;
    bool again = engine->ahead != 0 && ts_recv + CLOCK_JUMP_NS > engine->ahead;
    return ts_recv > engine->now && (!far || again || engine->config.trust) ? ts_recv : engine->now;
}

/* Is a time-out due when the clock is there? What is noted may be too early: of a gap that was
 * healed, of a line that spoke meanwhile. */
static bool due(struct engine *engine, uint64_t now)
{
    if (now / 1000 < engine->deadline_us)
        return false;
    update_deadline(engine);
    return now / 1000 >= engine->deadline_us;
}

static void clock_to(struct engine *engine, uint64_t ts_recv)
{
    uint64_t now = clock_at(engine, ts_recv);
    engine->ahead = ts_recv > now ? ts_recv : 0;
    engine->now = now;
}

/* ---- packets ---- */

static void note_accepted(struct counters *counters, unsigned noted)
{
    counters->value[COUNT_note_ip_checksum] += (noted & NOTED_IP_CHECKSUM) != 0;
    counters->value[COUNT_note_udp_checksum] += (noted & NOTED_UDP_CHECKSUM) != 0;
    counters->value[COUNT_note_udp_no_checksum] += (noted & NOTED_UDP_NO_CHECKSUM) != 0;
}

/* Frame -> datagram -> feed. Returns the counter that tells the frame's fate. */
static int handle(struct engine *engine, struct lane *lane, const struct packet *packet)
{
    struct datagram datagram;
    uint64_t begun = engine->sampled ? ticks_now() : 0;
    int reason = frame_parse(packet, engine->config.checksum_policy, &datagram);
    if (engine->sampled)
        hist_add(&engine->times->parse, ticks_ns(sample_ticks(begun)), 1);
    if (reason != 0) {
        if (lane->answer != NULL)
            listen(engine, lane, packet);
        return reason;
    }
    const struct route *route = route_of(engine, datagram.dst, datagram.addr_len, datagram.dport);
    if (route == NULL)
        return COUNT_drop_no_feed;
    if (datagram.noted)
        note_accepted(&engine->counters, datagram.noted);
    if (engine->busy != route->feed && engine->busy != NULL)
        feed_flush(engine->busy);   /* records of several feeds stay in the order of their packets */
    engine->busy = route->feed;
    reason = feed_datagram(route->feed, route->line, &datagram, packet->ts_recv, engine->now);
    uint64_t wake_us = feed_wake_us(route->feed);
    if (wake_us < engine->deadline_us)
        engine->deadline_us = wake_us;
    return reason != 0 ? reason : COUNT_frames_parsed;
}

static void take(struct engine *engine, struct lane *lane)
{
    const struct packet *packet = &lane->packets[lane->at++];
    if (packet->ts_recv < lane->ts_last)
        engine->counters.value[COUNT_note_ts_regress]++;
    lane->ts_last = packet->ts_recv;
    clock_to(engine, packet->ts_recv);
    engine->counters.value[COUNT_frames_received]++;
    engine->counters.value[handle(engine, lane, packet)]++;
}

static uint64_t batch_of(const struct engine *engine, const struct lane *lane)
{
    return engine->config.batch_ns == 0 ? 0 : lane->packets[lane->at].ts_recv / engine->config.batch_ns;
}

/* Records that the packets so far may make the feeds write; it grows with the packet, not when a
 * burst is decoded. */
static uint64_t load(const struct engine *engine)
{
    uint64_t records = 0;
    for (unsigned i = 0; i < engine->feeds_count; i++)
        records += feed_load(engine->feeds[i]);
    return records;
}

/* Packets up to the end of the batch or to a time-out, or that alone; returns how many. */
static int take_batch(struct engine *engine, struct lane *lane)
{
    uint64_t batch = batch_of(engine, lane), before = load(engine);
    uint32_t packets = 0;
    while (lane != NULL && batch_of(engine, lane) == batch && packets < engine->config.packets_max
           && !due(engine, clock_at(engine, lane->packets[lane->at].ts_recv))) {
        take(engine, lane);
        packets++;
        if (load(engine) - before >= EVENTS_PER_STEP)
            break;
        lane = next_lane(engine);
    }
    if (packets == 0)
        return deadline(engine);
    return (int)packets;
}

/* Live, without a packet: is a time-out due by the clock? */
static bool overdue(struct engine *engine)
{
    return engine->config.clock != NULL && engine->deadline_us != UINT64_MAX
        && due(engine, utc_now(engine->config.clock) - engine->config.idle_ns);
}

/* ---- a step ---- */

/* At random, so that no rhythm of the input hides from it. */
static void look_closely(struct engine *engine)
{
    engine->random = engine->random * 1664525 + 1013904223;
    bool now = engine->config.sample_every > 0
        && (uint64_t)engine->random * engine->config.sample_every >> 32 == 0;
    if (now == engine->sampled)
        return;
    engine->sampled = now;
    for (unsigned i = 0; i < engine->feeds_count; i++)
        feed_sample(engine->feeds[i], now ? &engine->sample : NULL);
}

static void note_sample(struct engine *engine)
{
    struct sample *sample = &engine->sample;
    if (sample->changes > 0)
        hist_add(&engine->times->book, ticks_ns(sample->book) / sample->changes, sample->changes);
    if (sample->records > 0)
        hist_add(&engine->times->ring, ticks_ns(sample->ring) / sample->records, sample->records);
    *sample = (struct sample){ 0 };
}

static void note_times(struct engine *engine, uint64_t ticks, int packets)
{
    uint64_t decode = 0, messages = 0, n;
    for (unsigned i = 0; i < engine->feeds_count; i++) {
        decode += feed_decode_ticks(engine->feeds[i], &n);
        messages += n;
    }
    if (packets > 0 && !engine->sampled) {
        hist_add(&engine->times->step, ticks_ns(ticks), (uint64_t)packets);
        uint64_t rest = ticks - engine->receive_ticks > decode ? ticks - engine->receive_ticks - decode : 0;
        hist_add(&engine->times->arbitrate, ticks_ns(rest) / (uint64_t)packets, (uint64_t)packets);
    }
    if (messages > 0 && !engine->sampled)
        hist_add(&engine->times->decode, ticks_ns(decode) / messages, messages);
    if (engine->sampled)
        note_sample(engine);
    engine->receive_ticks = 0;
}

/* Live, a device that went away is a state of its link, not the end of the run. */
static int error_of(const struct engine *engine, const struct lane *lane)
{
    return engine->config.clock != NULL && lane->error == -ENODEV ? 0 : lane->error;
}

static bool ended(const struct engine *engine)
{
    for (unsigned i = 0; i < engine->lanes_count; i++)
        if (error_of(engine, engine->lanes[i]) == 0)
            return false;
    return true;
}

static int finish(struct engine *engine)
{
    int rc = -ENODATA;
    for (unsigned i = 0; i < engine->feeds_count; i++)
        feed_finish(engine->feeds[i], engine->now);
    for (unsigned i = 0; i < engine->lanes_count; i++) {
        int error = error_of(engine, engine->lanes[i]);
        if (error != 0 && error != -ENODATA)
            rc = error;
    }
    engine->finished = true;
    return rc;
}

static uint64_t written(const struct engine *engine) { return engine->out != NULL ? ring_next(engine->out) : 0; }

static void tell_links(struct engine *engine)
{
    for (unsigned i = 0; i < engine->lanes_count; i++) {
        struct lane *lane = engine->lanes[i];
        uint32_t link = atomic_load_explicit(&lane->link, memory_order_relaxed);
        if (link == lane->link_told)
            continue;
        lane->link_told = link;
        engine->counters.value[COUNT_link_changes]++;
        struct event event = { .kind = EVENT_LINK, .flags = FLAG_LAST, .ts_recv = engine->now, .price = UNDEF_PRICE,
                               .order_id = i, .aux = link };
        outlet_put(&engine->outlet, &event);
    }
}

static void tell_engine(struct engine *engine)
{
    engine->begun = true;
    if (engine->config.clock != NULL)
        engine->now = utc_now(engine->config.clock);
    struct event event = { .kind = EVENT_ENGINE, .flags = FLAG_LAST | FLAG_SUSPECT, .ts_recv = engine->now,
                           .price = UNDEF_PRICE, .order_id = engine->config.incarnation };
    if (engine->config.incarnation != 0)
        outlet_put(&engine->outlet, &event);
}

/* Says where the batch ends, if it wrote anything. */
static void tell_batch(struct engine *engine, uint64_t before, int handled)
{
    struct event event = { .kind = EVENT_MARK, .flags = FLAG_LAST, .ts_recv = engine->now, .price = UNDEF_PRICE,
                           .order_id = handled > 0 ? (uint64_t)handled : 0 };
    if (engine->busy != NULL) {
        event.sequence = feed_expected(engine->busy);
        event.instrument_id = feed_decoder(engine->busy)->out.feed << 16;
    }
    if (engine->config.marks && written(engine) != before)
        outlet_put(&engine->outlet, &event);
}

int engine_step(struct engine *engine)
{
    if (engine->finished)
        return -ENODATA;
    if (engine->config.lockstep && engine->out != NULL && ring_room(engine->out) < engine_reserve(engine->windows))
        return -EAGAIN;
    bool stopped = atomic_load_explicit(&engine->stop, memory_order_relaxed);
    if (!engine->begun)
        tell_engine(engine);
    tell_links(engine);     /* no batch of its own: a replay of the frames has no links to tell of */
    speak(engine);
    uint64_t begun = ticks_now(), before = written(engine);
    struct lane *lane = next_lane(engine);
    int rc = 0;
    if (lane != NULL) {
        look_closely(engine);
        rc = take_batch(engine, lane);
    } else if (stopped || ended(engine))
        rc = finish(engine);
    else if (overdue(engine))
        rc = deadline(engine);
    else if (engine->config.clock != NULL && written(engine) == before)
        return 0;       /* an idle poll */
    flush(engine);
    tell_batch(engine, before, rc);
    for (unsigned i = 0; i < engine->feeds_count; i++)
        feed_sync(engine->feeds[i]);
    if (engine->out != NULL)
        ring_publish(engine->out);
    note_times(engine, ticks_now() - begun, rc);
    return rc;
}

/* The loop should come round every few hundred nanoseconds, or when its packets are handled: for
 * each 20 us are granted, ten times what the longest needs. More is a stall: the host had
 * something else to do. */
static void watch_stall(struct engine *engine)
{
    uint64_t now = ticks_now(), gap = now - engine->polled;
    bool stalled = engine->polled != 0 && gap > engine->stall_ticks * (1 + (uint64_t)engine->worked / 50);
    engine->polled = now;
    if (stalled) {
        uint64_t ns = ticks_ns(gap);
        engine->counters.value[COUNT_stalls]++;
        engine->counters.value[COUNT_stall_us] += ns / 1000;
        hist_add(&engine->times->stall, ns, 1);
    }
}

int engine_run(struct engine *engine)
{
    int rc = 0;
    engine->polled = 0;
    while (!atomic_load_explicit(&engine->stop, memory_order_relaxed)) {
        if (engine->config.clock != NULL)
            watch_stall(engine);
        rc = engine_step(engine);
        engine->worked = rc > 0 ? rc : 0;
        if (rc < 0 && rc != -EAGAIN)
            return rc;
    }
    return 0;
}

void engine_stop(struct engine *engine) { atomic_store_explicit(&engine->stop, true, memory_order_relaxed); }

int engine_source_error(const struct engine *engine, int source)
{
    return source >= 0 && (unsigned)source < engine->lanes_count ? engine->lanes[source]->error : -EINVAL;
}

uint64_t engine_now(const struct engine *engine) { return engine->now; }
const struct counters *engine_counters(const struct engine *engine) { return &engine->counters; }
const struct engine_times *engine_times(const struct engine *engine) { return engine->times; }

struct feed *engine_feed(const struct engine *engine, unsigned index)
{
    return index < engine->feeds_count ? engine->feeds[index] : NULL;
}
