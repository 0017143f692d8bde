/* An open loop: frame i is due at begun + i / rate whatever became of those before it. Who falls
 * behind sends what is overdue at once, each with the time it was due: the schedule is never
 * skipped nor moved, and a frame that finds no room is offered again. So the time since a frame
 * was due holds what a sender at that rate would have waited (Tene's coordinated omission), and
 * the time since it was sent what the system took once it had it. */

#define _GNU_SOURCE
#include "bench/paced.h"
#include "base/clock.h"
#include "wire/inet.h"
#include "wire/read.h"
#include <endian.h>
#include <errno.h>
#include <time.h>
#include <x86intrin.h>

enum { SECOND_NS = 1000000000, UDP_AT = sizeof(struct ethernet) + sizeof(struct ipv4) };

struct schedule {
    struct outgoing batch[PACED_BATCH];
    uint64_t stamp;             /* in the last frame taken */
    uint64_t behind_until;
    uint64_t refused_since;     /* 0: the last were taken */
};

static void sleep_until(uint64_t ns)
{
    struct timespec due = { .tv_sec = (time_t)(ns / SECOND_NS), .tv_nsec = (long)(ns % SECOND_NS) };
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR) {}
}

static void put64(uint8_t *at, uint64_t value)
{
    value = htobe64(value);
    memcpy(at, &value, sizeof value);
}

static void put32(uint8_t *at, uint64_t value)
{
    uint32_t word = htobe32(value < UINT32_MAX ? (uint32_t)value : UINT32_MAX);
    memcpy(at, &word, sizeof word);
}

/* ---- answers ---- */

static void look_at(struct bench_answers *answers, const struct packet *packet, uint64_t sent, uint64_t now)
{
    struct udp udp;
    be64 word;
    if (packet->caplen < UDP_AT + sizeof udp || packet->caplen < answers->at + sizeof word)
        return;
    memcpy(&udp, packet->data + UDP_AT, sizeof udp);
    memcpy(&word, packet->data + answers->at, sizeof word);
    uint64_t number = rd_be64(word) - answers->base;
    if (rd_be16(udp.dport) != answers->port || number >= sent || answers->seen[number] != 0)
        return;
    answers->seen[number] = now;
    answers->count++;
}

static int listen(struct bench_paced *p)
{
    struct packet packets[BURST_MAX];
    int n = p->answers->in->burst(p->answers->in, packets, BURST_MAX);
    uint64_t now = n > 0 ? monotonic_now() : 0;
    for (int i = 0; i < n; i++)
        look_at(p->answers, &packets[i], p->sent, now);
    return n;
}

/* ---- the schedule ---- */

static uint64_t due_of(const struct bench_paced *p, uint64_t i)
{
    return p->begun_ns + i / p->rate * SECOND_NS + i % p->rate * SECOND_NS / p->rate;
}

static int due_by(const struct bench_paced *p, uint64_t now)
{
    int n = 0;
    while (n < PACED_BATCH && p->sent + (uint64_t)n < p->count && due_of(p, p->sent + (uint64_t)n) <= now)
        n++;
    return n;
}

static int wait_for(struct bench_paced *p, uint64_t due, uint64_t now)
{
    int rc = p->answers != NULL ? listen(p) : 0;
    if (rc < 0)
        return rc;
    uint64_t wait = due - now < p->nap_ns ? due - now : p->nap_ns;
    if (p->nap_ns == 0)
        _mm_pause();
    else
        sleep_until(now + (wait > p->rest_ns ? wait : p->rest_ns));
    return 0;
}

static uint64_t stamp_of(const struct schedule *s, int i, uint64_t now)
{
    uint64_t least = s->stamp + 1 + (uint64_t)i;
    return now > least ? now + (uint64_t)i : least;
}

static void prepare(struct bench_paced *p, const struct schedule *s, int n, uint64_t now)
{
    for (int i = 0; i < n; i++) {
        uint8_t *frame = p->frames + (uint64_t)i * p->len;
        uint64_t number = p->sent + (uint64_t)i, stamp = stamp_of(s, i, now);
        put64(frame + p->sequence_at, p->sequence + number * p->messages);
        put64(frame + p->sent_at, stamp);
        if (p->again_at != 0)
            put64(frame + p->again_at, stamp);
        put32(frame + p->late_at, stamp - due_of(p, number) + 1);
        if (p->number_at != 0)
            put32(frame + p->number_at, p->number + number);
    }
}

static void note_late(struct bench_paced *p, struct schedule *s, uint64_t due, uint64_t now)
{
    if (now - due > p->behind_max_ns)
        p->behind_max_ns = now - due;
    if (now - due <= PACED_BEHIND_NS)
        return;
    p->behind += due > s->behind_until;
    p->behind_ns += now - (due > s->behind_until ? due : s->behind_until);
    s->behind_until = now;
}

static void taken(struct bench_paced *p, struct schedule *s, int n, uint64_t now)
{
    for (int i = 0; i < n; i++) {
        if (p->stamps != NULL)
            p->stamps[p->sent + (uint64_t)i] = stamp_of(s, i, now);
        note_late(p, s, due_of(p, p->sent + (uint64_t)i), now);
    }
    s->stamp = stamp_of(s, n - 1, now);
    s->refused_since = 0;
    p->sent += (uint64_t)n;
    p->ended_ns = now;
}

static int given_up(const struct bench_paced *p, struct schedule *s, uint64_t now)
{
    if (s->refused_since == 0)
        s->refused_since = now;
    return now - s->refused_since > p->give_up_ns;
}

static void stall(struct bench_paced *p)
{
    sleep_until(monotonic_now() + p->stall_ns);
    p->stall_ns = 0;
}

static int linger(struct bench_paced *p)
{
    uint64_t last = monotonic_now(), before = p->answers->count;
    for (uint64_t now = last; p->answers->count < p->sent && now - last < p->answers->linger_ns;) {
        int rc = wait_for(p, now + p->answers->linger_ns, now);
        if (rc < 0)
            return rc;
        now = monotonic_now();
        if (p->answers->count > before)
            last = now;
        before = p->answers->count;
    }
    return 0;
}

int bench_paced(struct bench_paced *p)
{
    struct schedule s = { .stamp = 0 };
    for (int i = 0; i < PACED_BATCH; i++)
        s.batch[i] = (struct outgoing){ .data = p->frames + (uint64_t)i * p->len, .len = p->len };
    p->begun_ns = p->ended_ns = monotonic_now() + SECOND_NS / p->rate;
    while (p->sent < p->count) {
        if (p->stall_ns != 0 && p->sent >= p->stall_at)
            stall(p);
        uint64_t now = monotonic_now();
        int rc = 0, n = due_by(p, now);
        if (n == 0) {
            rc = wait_for(p, due_of(p, p->sent), now);
        } else {
            prepare(p, &s, n, now);
            rc = p->out->send(p->out, s.batch, n);
            p->full += rc < n;
            if (rc > 0)
                taken(p, &s, rc, now);
            else if (rc == 0 && given_up(p, &s, now))
                break;
            if (rc >= 0 && p->answers != NULL)  /* a late sender must not make answers late */
                rc = listen(p);
        }
        if (rc < 0)
            return rc;
    }
    return p->answers != NULL ? linger(p) : 0;
}
