/* The loop spins until a frame is due: to sleep would cost more lateness than most gaps are long.
 * Frames that are due by then go out in one call, at most BATCH; a frame is never sent early to
 * fill one. A frame's lateness is taken when the port has taken it, so that time in which the port
 * had no room counts too. */

#include "tape/sender.h"
#include "base/clock.h"
#include <errno.h>
#include <x86intrin.h>

enum { BATCH = 32, SCAN_BURSTS = 256 };

struct batch {
    struct outgoing frame[BATCH];
    uint64_t due[BATCH];
    int count;
};

static int stopped(const struct sender *sender)
{
    return __atomic_load_n(&sender->stop, __ATOMIC_RELAXED);
}

static uint64_t elapsed(const struct sender *sender) { return ticks_ns(ticks_now() - sender->begun); }

/* ---- what may be sent ---- */

static int sendable(const struct packet *packet, uint64_t *truncated, uint64_t *foreign)
{
    *foreign += packet->link != LINK_ETHERNET;
    *truncated += packet->link == LINK_ETHERNET && packet->caplen < packet->wirelen;
    return packet->link == LINK_ETHERNET && packet->caplen == packet->wirelen;
}

int sender_scan(struct source *capture, struct sender_scan *scan)
{
    struct packet packets[BURST_MAX];
    for (int burst = 0; burst < SCAN_BURSTS; burst++) {
        int n = capture->burst(capture, packets, BURST_MAX);
        if (n < 0)
            return n == -ENODATA ? 0 : n;
        for (int i = 0; i < n; i++)
            if (sendable(&packets[i], &scan->truncated, &scan->foreign)) {
                scan->frames++;
                scan->bytes += packets[i].caplen;
            }
    }
    return 1;
}

/* ---- the schedule ---- */

/* After the first pass the gap between two passes is the mean gap within the last one. */
static void begin_lap(struct sender *sender)
{
    uint64_t gaps = sender->lap_frames > 1 ? sender->lap_frames - 1 : 1;
    if (sender->scheduled != 0)
        sender->lap_due = sender->due + (sender->due - sender->lap_due) / gaps;
    sender->lap_frames = 0;
}

static uint64_t recorded_due(struct sender *sender, uint64_t ts)
{
    if (sender->lap_frames == 0)
        sender->lap_ts = ts;
    uint64_t due = sender->lap_due;
    if (ts > sender->lap_ts)
        due += (uint64_t)((double)(ts - sender->lap_ts) / sender->speed);
    sender->regress += due < sender->due;
    return due < sender->due ? sender->due : due;
}

static uint64_t due_of(struct sender *sender, const struct packet *packet)
{
    if (sender->rate == SENDER_RECORDED)
        return recorded_due(sender, packet->ts_recv);
    return sender->rate == SENDER_PPS ? (uint64_t)((double)sender->scheduled * 1e9 / sender->pps) : 0;
}

static void schedule(struct sender *sender, const struct packet *packets, int n, struct batch *batch)
{
    batch->count = 0;
    for (int i = 0; i < n; i++) {
        if (!sendable(&packets[i], &sender->truncated, &sender->foreign))
            continue;
        sender->due = due_of(sender, &packets[i]);
        sender->scheduled++;
        sender->lap_frames++;
        batch->frame[batch->count] = (struct outgoing){ .data = packets[i].data, .len = packets[i].caplen };
        batch->due[batch->count++] = sender->due;
    }
}

static void begin(struct sender *sender)
{
    if (sender->begun != 0)
        return;
    ticks_ns(0);                /* measures, before it matters */
    sender->begun_ns = monotonic_now();
    sender->begun = ticks_now();
}

/* Now, when that is due; 0 or later even if it is far behind. */
static uint64_t wait_for(const struct sender *sender, uint64_t due)
{
    uint64_t now;
    while ((now = elapsed(sender)) < due && !stopped(sender))
        _mm_pause();
    return now;
}

/* ---- sending ---- */

static void taken(struct sender *sender, const struct batch *batch, int at, int n, uint64_t now)
{
    for (int i = at; i < at + n; i++) {
        uint64_t due = batch->due[i], from = due > sender->behind_until ? due : sender->behind_until;
        sender->bytes += batch->frame[i].len;
        if (sender->rate == SENDER_LINE)
            continue;
        hist_add(&sender->late, now - due, 1);
        if (now - due <= SENDER_BEHIND_NS)
            continue;
        sender->behind += now - from;
        sender->behind_until = now;
    }
    __atomic_store_n(&sender->frames, sender->frames + (uint64_t)n, __ATOMIC_RELAXED);
    sender->last = now;
    sender->last_due = batch->due[at + n - 1];
}

/* Offers frames [at, at + n) until they are taken, do not fit, or time is over. */
static int offer(struct sender *sender, struct source *out, const struct batch *batch, int at, int n)
{
    uint64_t since = elapsed(sender);
    while (n > 0) {
        int rc = out->send(out, &batch->frame[at], n);
        uint64_t now = elapsed(sender);
        if (rc > 0) {
            taken(sender, batch, at, rc, now);
        } else if (rc == -EMSGSIZE || rc == -EINVAL) {
            sender->unfit++;
        } else if (rc < 0) {
            sender->refused += (uint64_t)n;
            return sender->out_error = rc;
        } else if (now - since >= sender->retry_ns || stopped(sender)) {
            sender->refused += (uint64_t)n;
            return 0;
        } else {
            _mm_pause();
            continue;
        }
        int done = rc > 0 ? rc : 1;
        at += done;
        n -= done;
        since = now;
    }
    return 0;
}

/* Each frame when it is due, with those that are due by then. Those not reached were not due. */
static int send_batch(struct sender *sender, struct source *out, const struct batch *batch)
{
    for (int at = 0, n, rc; at < batch->count; at += n) {
        uint64_t now = wait_for(sender, batch->due[at]);
        if (stopped(sender)) {
            sender->scheduled -= (uint64_t)(batch->count - at);
            return 0;
        }
        for (n = 1; at + n < batch->count && batch->due[at + n] <= now; n++)
            ;
        if ((rc = offer(sender, out, batch, at, n)) < 0) {
            sender->scheduled -= (uint64_t)(batch->count - at - n);
            return rc;
        }
    }
    return 0;
}

static int room(const struct sender *sender)
{
    uint64_t left = sender->frames_max - sender->scheduled;
    return sender->frames_max != 0 && left < BATCH ? (int)left : BATCH;
}

static int run(struct sender *sender, struct source *capture, struct source *out)
{
    struct packet packets[BATCH];
    struct batch batch;
    while (!stopped(sender) && room(sender) > 0) {
        int n = capture->burst(capture, packets, room(sender));
        if (n < 0)
            return n == -ENODATA ? 0 : n;
        schedule(sender, packets, n, &batch);
        begin(sender);
        int rc = send_batch(sender, out, &batch);
        if (rc < 0)
            return rc;
    }
    return 1;
}

int sender_run(struct sender *sender, struct source *capture, struct source *out)
{
    begin_lap(sender);
    int rc = run(sender, capture, out);
    if (sender->begun != 0) {
        sender->clock_ns = monotonic_now() - sender->begun_ns;
        sender->counter_ns = elapsed(sender);
    }
    return rc;
}
