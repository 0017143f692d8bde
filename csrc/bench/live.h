#pragma once
#include "engine/engine.h"
#include "trade/encode.h"

/* Loops of `pydpdk bench` over open sources: one thread receives, another process sends. */

/* What is polled: the engine's steps (parsed, decoded, in the ring), or the driver alone (bursts
 * taken and freed, as testpmd's rxonly does), or, where both are NULL, the source's bursts. The
 * calls are the core's own: see csrc/meson.build. */
struct bench_receive {
    struct source *source;
    struct engine *engine;
    const struct counters *counters;            /* the engine's */
    int (*step)(struct engine *engine);         /* engine_step */
    int (*poll)(struct source *source, int max);    /* source_poll */
    struct source *looped;      /* this thread also sends, a burst before each poll; NULL: another process does */
    const struct packet *frames;    /* that it sends, `wanted` of them */
    uint64_t wanted;            /* packets; ends without them idle_ns after the last */
    uint64_t idle_ns;
    int64_t burst;
    uint64_t packets, polls;    /* received; polls that received something */
    uint64_t ticks;             /* in those, and in the poll after each, where a source lets its frames go */
};

/* 0, or the negative errno that ended it. */
int bench_receive(struct bench_receive *receive);
/* Ticks that so many polls of a DPDK port take; *empty: how many of them found nothing. */
uint64_t bench_idle(struct source *source, int (*poll)(struct source *source, int max), uint64_t polls,
                    uint64_t *empty);
/* Sends them as fast as they are taken in bursts of `burst`, one each `every_ns`; returns how many
 * were taken. Gives up when none is for `give_up_ns`. */
uint64_t bench_send(struct source *out, const struct packet *frames, uint64_t count, uint64_t burst,
                    uint64_t every_ns, uint64_t give_up_ns);

/* Approved orders on their way out: encoded, then offered to `out` until they are taken. */
struct bench_orders {
    struct source *out;
    struct encoder *encoder;
    uint64_t give_up_ns;
    uint64_t encode_ns, send_ns;    /* of the last call */
    uint64_t refused;           /* orders that OUCH cannot say; in all */
    uint64_t unsent;            /* that the wire did not take; in all */
};
enum { BENCH_ORDERS_MAX = 32 };
/* At most BENCH_ORDERS_MAX of them. How many were sent. */
uint64_t bench_orders(struct bench_orders *work, const struct event *orders, uint64_t count);
