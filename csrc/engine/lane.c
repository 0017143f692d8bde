#include "engine/impl.h"
#include <errno.h>
#include <stddef.h>

/* The sources of the loop.
 *
 * A replay merges them by time stamp, so every lane needs a packet to compare before one is
 * taken. Live, a burst is stamped when it is taken from its port, later than all bursts before:
 * lanes are asked in turn, and a burst is handled whole before the next lane is asked. */

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
    engine_flush(engine);
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

struct lane *next_lane(struct engine *engine)
{
    return engine->config.clock != NULL ? lane_in_turn(engine) : oldest_lane(engine);
}

void tell_links(struct engine *engine)
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

void engine_link(struct engine *engine, int source, uint32_t state)
{
    if (source >= 0 && (unsigned)source < engine->lanes_count)
        atomic_store_explicit(&engine->lanes[source]->link, state, memory_order_relaxed);
}

void engine_keep(struct engine *engine, struct flight *flight) { engine->flight = flight; }

/* ---- what a port without a kernel has to say ---- */

int engine_answer(struct engine *engine, int source, struct answer *answer)
{
    if (source < 0 || (unsigned)source >= engine->lanes_count)
        return -EINVAL;
    if (engine->lanes[source]->source->send == NULL)
        return -EOPNOTSUPP;
    engine->lanes[source]->answer = answer;
    return 0;
}

void listen(struct engine *engine, struct lane *lane, const struct packet *packet)
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

void speak(struct engine *engine)
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
