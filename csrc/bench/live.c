#include "bench/live.h"
#include "base/clock.h"
#include "counter_id.h"
#include <stddef.h>

enum { CHUNK = 32 };

/* ---- receiving ---- */

static uint64_t offer(struct source *out, const struct packet *frames, uint64_t count)
{
    struct outgoing batch[CHUNK];
    int n = count < CHUNK ? (int)count : CHUNK;
    for (int i = 0; i < n; i++)
        batch[i] = (struct outgoing){ .data = frames[i].data, .len = frames[i].caplen };
    int rc = out->send(out, batch, n);
    return rc > 0 ? (uint64_t)rc : 0;
}

static int poll_once(struct bench_receive *r)
{
    struct packet packets[BURST_MAX];
    if (r->poll != NULL)
        return r->poll(r->source, (int)r->burst);
    if (r->step == NULL)
        return r->source->burst(r->source, packets, (int)r->burst);
    const uint64_t *received = &r->counters->value[COUNT_frames_received];
    uint64_t before = *received;
    int rc = r->step(r->engine);
    return rc < 0 ? rc : (int)(*received - before);
}

int bench_receive(struct bench_receive *r)
{
    uint64_t sent = 0, last = ticks_now();
    int n = 0, before;
    r->packets = r->polls = r->ticks = 0;
    while (r->packets < r->wanted) {
        if (r->looped != NULL)
            sent += offer(r->looped, r->frames + sent, r->wanted - sent);
        before = n;
        uint64_t begun = ticks_now();
        n = poll_once(r);
        uint64_t now = ticks_now();
        if (n < 0)
            return n;
        if (n > 0 || (before > 0 && r->poll == NULL))
            r->ticks += now - begun;
        r->packets += (uint64_t)n;
        r->polls += n > 0;
        if (n > 0)
            last = now;
        else if (ticks_ns(now - last) > r->idle_ns)
            break;
    }
    return 0;
}

/* No time stamp of single polls: that takes as long as an empty poll. */
uint64_t bench_idle(struct source *source, int (*poll)(struct source *source, int max), uint64_t polls,
                    uint64_t *empty)
{
    uint64_t begun = ticks_now(), none = 0;
    for (uint64_t i = 0; i < polls; i++)
        none += poll(source, BURST_MAX) == 0;
    *empty = none;
    return ticks_now() - begun;
}

/* ---- sending ---- */

static uint64_t send_burst(struct source *out, const struct packet *frames, uint64_t count, uint64_t give_up_ns)
{
    uint64_t sent = 0;
    for (uint64_t last = ticks_now(); sent < count && ticks_ns(ticks_now() - last) < give_up_ns;) {
        uint64_t n = offer(out, frames + sent, count - sent);
        sent += n;
        if (n > 0)
            last = ticks_now();
    }
    return sent;
}

uint64_t bench_send(struct source *out, const struct packet *frames, uint64_t count, uint64_t burst,
                    uint64_t every_ns, uint64_t give_up_ns)
{
    uint64_t sent = 0;
    while (sent < count) {
        uint64_t begun = ticks_now(), some = count - sent < burst ? count - sent : burst;
        uint64_t n = send_burst(out, frames + sent, some, give_up_ns);
        sent += n;
        if (n < some)
            break;
        while (ticks_ns(ticks_now() - begun) < every_ns) {}
    }
    return sent;
}

/* ---- orders ---- */

uint64_t bench_orders(struct bench_orders *work, const struct event *orders, uint64_t count)
{
    uint8_t bytes[BENCH_ORDERS_MAX][ENCODE_LEN];
    struct packet frames[BENCH_ORDERS_MAX];
    uint64_t encoded = 0, begun = ticks_now();
    for (uint64_t i = 0; i < count && i < BENCH_ORDERS_MAX; i++) {
        frames[encoded] = (struct packet){ .data = bytes[encoded], .caplen = ENCODE_LEN };
        if (encode_order(work->encoder, &orders[i], bytes[encoded]) == 0)
            encoded++;
        else
            work->refused++;
    }
    uint64_t ready = ticks_now(), sent = send_burst(work->out, frames, encoded, work->give_up_ns);
    work->encode_ns = ticks_ns(ready - begun);
    work->send_ns = ticks_ns(ticks_now() - ready);
    work->unsent += encoded - sent;
    return sent;
}
