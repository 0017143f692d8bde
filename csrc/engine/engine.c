#include "base/sample.h"
#include "engine/impl.h"
#include <errno.h>
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

static bool same(const struct address *address, const uint8_t *dst, unsigned len)
{
    return address->len == len && (len == 4 ? memcmp(address->bytes, dst, 4) : memcmp(address->bytes, dst, len)) == 0;
}

const struct route *route_of(const struct engine *engine, const uint8_t *dst, unsigned len, uint16_t port)
{
    for (unsigned i = 0; i < engine->routes_count; i++) {
        const struct address *address = &engine->routes[i].address;
        if (address->port == port && same(address, dst, len))
            return &engine->routes[i];
    }
    return NULL;
}

void engine_flush(struct engine *engine)
{
    for (unsigned i = 0; i < engine->feeds_count; i++)
        feed_flush(engine->feeds[i]);
}

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

/* What feeds were given to write: it grows with the packet, not when a burst is decoded. */
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
    if (engine->config.marks && written(engine) != before)
        outlet_put(&engine->outlet, &event);
}

int engine_step(struct engine *engine)
{
    if (engine->finished)
        return -ENODATA;
    if (engine->config.lockstep && engine->out != NULL && ring_room(engine->out) < engine->reserve)
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
    engine_flush(engine);
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
