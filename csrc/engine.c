#include "engine.h"
#include "clock.h"
#include "counter_id.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Reads like the pipeline: refill() takes bursts from the sources, handle() carries one packet
 * through frame, session and arbiter to its feed, feed_flush() decodes what the arbiter passed
 * on into books and ring. The bytes of a burst live until the next one, so every feed is
 * flushed before a source is asked again. */

static const uint64_t CLOCK_JUMP_NS = 10000000000;

struct lane {               /* one source and the part of its burst not yet handled */
    struct source *source;
    int at, count;
    int error;              /* 0, -ENODATA at its end, or what broke it */
    uint64_t ts_last;
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
    struct lane *lanes[SOURCES_MAX];
    struct route routes[ROUTES_MAX];
    struct feed *feeds[FEEDS_MAX];
    unsigned lanes_count, routes_count, feeds_count;
    uint64_t reserve;
    uint64_t now;           /* record clock */
    uint64_t ahead;         /* a stamp too far ahead of it to be believed alone */
    struct feed *busy;      /* the feed that may have messages not yet decoded */
    uint64_t deadline_us;   /* earliest of the feeds' */
    uint64_t receive_ticks;
    bool finished;
    atomic_bool stop;
    struct counters counters;
    struct engine_times times;
};

_Static_assert(ROUTES_MAX == FEEDS_MAX * LINES_MAX, "a route for each line");

int engine_create(const struct engine_config *config, struct ring *out, struct engine **engine)
{
    if (config->packets_max < 1 || config->packets_max > INT32_MAX || config->burst < 1 || config->burst > BURST_MAX || config->checksum_policy < CHECKSUM_IGNORE
        || config->checksum_policy > CHECKSUM_VERIFY)
        return -EINVAL;
    struct engine *made = calloc(1, sizeof *made);
    if (made == NULL)
        return -ENOMEM;
    made->config = *config;
    made->out = out;
    made->reserve = EVENTS_PER_STEP + EVENTS_PER_PACKET;
    made->deadline_us = UINT64_MAX;
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
    engine->lanes[engine->lanes_count] = lane;
    return (int)engine->lanes_count++;
}

static const struct route *route_of(const struct engine *engine, const uint8_t *dst, unsigned len, uint16_t port)
{
    for (unsigned i = 0; i < engine->routes_count; i++) {
        const struct address *address = &engine->routes[i].address;
        if (address->port == port && address->len == len && memcmp(address->bytes, dst, len) == 0)
            return &engine->routes[i];
    }
    return NULL;
}

static int add_routes(struct engine *engine, const struct feed_config *config)
{
    for (unsigned i = 0; i < config->arbiter.lines && i < LINES_MAX; i++) {
        const struct address *address = &config->lines[i];
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
    unsigned routes_count = engine->routes_count;
    rc = add_routes(engine, config);
    if (rc < 0) {
        feed_destroy(engine->feeds[engine->feeds_count]);
        engine->routes_count = routes_count;
        return rc;
    }
    engine->reserve += (uint64_t)EVENTS_PER_MESSAGE * config->arbiter.window;
    *feed = engine->feeds[engine->feeds_count];
    return (int)engine->feeds_count++;
}

uint64_t engine_reserve(const struct engine *engine) { return engine->reserve; }

static void flush(struct engine *engine)
{
    for (unsigned i = 0; i < engine->feeds_count; i++)
        feed_flush(engine->feeds[i]);
}

static void refill(struct engine *engine, struct lane *lane)
{
    flush(engine);
    uint64_t begun = ticks_now();
    int rc = lane->source->burst(lane->source, lane->packets, (int)engine->config.burst);
    uint64_t ticks = ticks_now() - begun;
    engine->receive_ticks += ticks;
    if (rc > 0)
        hist_add(&engine->times.receive, ticks_ns(ticks) / (uint64_t)rc, (uint64_t)rc);
    lane->at = 0;
    lane->count = rc > 0 ? rc : 0;
    lane->error = rc < 0 ? rc : 0;
    for (int i = 0; i < rc; i++)
        if (lane->packets[i].ts_recv > engine->config.until_ns) {
            lane->count = rc = i;
            lane->error = -ENODATA;
        }
}

/* The lane whose next packet is the oldest; NULL when there is none now. */
static struct lane *next_lane(struct engine *engine)
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

static void update_deadline(struct engine *engine)
{
    engine->deadline_us = UINT64_MAX;
    for (unsigned i = 0; i < engine->feeds_count; i++)
        if (feed_deadline_us(engine->feeds[i]) < engine->deadline_us)
            engine->deadline_us = feed_deadline_us(engine->feeds[i]);
}

static void deadlines(struct engine *engine)
{
    flush(engine);
    for (unsigned i = 0; i < engine->feeds_count; i++)
        feed_clock(engine->feeds[i], engine->now);
    update_deadline(engine);
}

/* Moves the record clock. It never goes back, and one stamp far in the future (a capture has
 * such) does not move it alone: every open gap would be given up. */
static void clock_to(struct engine *engine, uint64_t ts_recv)
{
    bool far = engine->now != 0 && ts_recv > engine->now && ts_recv - engine->now > CLOCK_JUMP_NS;
    bool again = engine->ahead != 0 && ts_recv + CLOCK_JUMP_NS > engine->ahead;
    engine->ahead = far ? ts_recv : 0;
    if (ts_recv > engine->now && (!far || again))
        engine->now = ts_recv;
    if (engine->now / 1000 >= engine->deadline_us)
        deadlines(engine);
}

static void note_accepted(struct counters *counters, unsigned noted)
{
    counters->value[COUNT_note_ip_checksum] += (noted & NOTED_IP_CHECKSUM) != 0;
    counters->value[COUNT_note_udp_checksum] += (noted & NOTED_UDP_CHECKSUM) != 0;
    counters->value[COUNT_note_udp_no_checksum] += (noted & NOTED_UDP_NO_CHECKSUM) != 0;
}

/* Frame -> datagram -> feed. Returns the counter that tells the frame's fate. */
static int handle(struct engine *engine, const struct packet *packet)
{
    struct datagram datagram;
    int reason = frame_parse(packet, engine->config.checksum_policy, &datagram);
    if (reason != 0)
        return reason;
    const struct route *route = route_of(engine, datagram.dst, datagram.addr_len, datagram.dport);
    if (route == NULL)
        return COUNT_drop_no_feed;
    if (datagram.noted)
        note_accepted(&engine->counters, datagram.noted);
    if (engine->busy != route->feed && engine->busy != NULL)
        feed_flush(engine->busy);   /* records of several feeds stay in the order of their packets */
    engine->busy = route->feed;
    reason = feed_datagram(route->feed, route->line, &datagram, packet->ts_recv, engine->now);
    uint64_t deadline_us = feed_deadline_us(route->feed);
    if (deadline_us < engine->deadline_us)
        engine->deadline_us = deadline_us;
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
    engine->counters.value[handle(engine, packet)]++;
}

static uint64_t batch_of(const struct engine *engine, const struct lane *lane)
{
    return engine->config.batch_ns == 0 ? 0 : lane->packets[lane->at].ts_recv / engine->config.batch_ns;
}

/* What feeds were given to write: it grows with the packet, not when a burst is decoded. */
static uint64_t load(const struct engine *engine)
{
    uint64_t records = 0;
    for (unsigned i = 0; i < engine->feeds_count; i++)
        records += feed_load(engine->feeds[i]);
    return records;
}

/* Packets up to the end of the batch; returns how many. */
static int take_batch(struct engine *engine)
{
    struct lane *lane = next_lane(engine);
    uint64_t batch = lane != NULL ? batch_of(engine, lane) : 0, before = load(engine);
    uint32_t packets = 0;
    while (lane != NULL && batch_of(engine, lane) == batch && packets < engine->config.packets_max) {
        take(engine, lane);
        packets++;
        if (load(engine) - before >= EVENTS_PER_STEP)
            break;
        lane = next_lane(engine);
    }
    return (int)packets;
}

static void note_times(struct engine *engine, uint64_t ticks, int packets)
{
    uint64_t decode = 0, messages = 0, n;
    for (unsigned i = 0; i < engine->feeds_count; i++) {
        decode += feed_decode_ticks(engine->feeds[i], &n);
        messages += n;
    }
    if (packets > 0) {
        uint64_t rest = ticks - engine->receive_ticks > decode ? ticks - engine->receive_ticks - decode : 0;
        hist_add(&engine->times.arbitrate, ticks_ns(rest) / (uint64_t)packets, (uint64_t)packets);
    }
    if (messages > 0)
        hist_add(&engine->times.decode, ticks_ns(decode) / messages, messages);
    engine->receive_ticks = 0;
}

static bool ended(const struct engine *engine)
{
    for (unsigned i = 0; i < engine->lanes_count; i++)
        if (engine->lanes[i]->error == 0)
            return false;
    return true;
}

static int finish(struct engine *engine)
{
    int rc = -ENODATA;
    for (unsigned i = 0; i < engine->feeds_count; i++)
        feed_finish(engine->feeds[i], engine->now);
    for (unsigned i = 0; i < engine->lanes_count; i++)
        if (engine->lanes[i]->error != 0 && engine->lanes[i]->error != -ENODATA)
            rc = engine->lanes[i]->error;
    engine->finished = true;
    return rc;
}

int engine_step(struct engine *engine)
{
    if (engine->finished)
        return -ENODATA;
    if (engine->config.lockstep && engine->out != NULL && ring_room(engine->out) < engine->reserve)
        return -EAGAIN;
    bool stopped = atomic_load_explicit(&engine->stop, memory_order_relaxed);
    uint64_t begun = ticks_now();
    int rc = stopped ? 0 : take_batch(engine);
    flush(engine);
    note_times(engine, ticks_now() - begun, rc);
    if (rc == 0 && (stopped || ended(engine)))
        rc = finish(engine);
    for (unsigned i = 0; i < engine->feeds_count; i++)
        feed_sync(engine->feeds[i]);
    if (engine->out != NULL)
        ring_publish(engine->out);
    return rc;
}

int engine_run(struct engine *engine)
{
    int rc = 0;
    while (!atomic_load_explicit(&engine->stop, memory_order_relaxed)) {
        rc = engine_step(engine);
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
const struct engine_times *engine_times(const struct engine *engine) { return &engine->times; }

struct feed *engine_feed(const struct engine *engine, unsigned index)
{
    return index < engine->feeds_count ? engine->feeds[index] : NULL;
}
