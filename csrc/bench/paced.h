#pragma once
#include "source/source.h"

/* The generator of `pydpdk bench`: one frame again and again, each when it is due. Theory in
 * paced.c. Times are CLOCK_MONOTONIC in ns, written big endian. */

enum {
    PACED_BATCH = 32,
    PACED_BEHIND_NS = 1000000,  /* a frame sent later than that finds the generator behind */
};

/* Frames that come back: each has, at `at`, 8 bytes of `base` and the number of the frame it answers. */
struct bench_answers {
    struct source *in;
    uint64_t *seen;             /* of each frame, when its first answer was seen; 0: not yet */
    uint64_t base;
    uint32_t at;
    uint32_t port;              /* destination port of their UDP datagrams: others are not looked at */
    uint64_t linger_ns;         /* how long to wait for more of them when all was sent */
    uint64_t count;             /* answered */
};

struct bench_paced {
    struct source *out;
    struct bench_answers *answers;  /* NULL: none are awaited */
    uint8_t *frames;            /* PACED_BATCH copies of the frame */
    uint64_t *stamps;           /* of each frame sent, when; NULL: nobody asks */
    uint32_t len;               /* of one */
    uint32_t messages;          /* in one: what the sequence counts */
    uint32_t sequence_at;       /* 8 bytes: `sequence` and on from there */
    uint32_t sent_at;           /* 8 bytes: when it was sent, at least 1 more than in the frame before */
    uint32_t again_at;          /* the same once more; 0: nowhere */
    uint32_t late_at;           /* 4 bytes: how long after it was due that was, plus 1; at most UINT32_MAX */
    uint32_t number_at;         /* 4 bytes: `number` and on from there; 0: nowhere */
    uint32_t number;
    uint64_t sequence;
    uint64_t count;
    uint64_t rate;              /* frames a second */
    uint64_t nap_ns;            /* it sleeps while none is due, at most so long; 0: it spins */
    uint64_t rest_ns;           /* and at least so long: others on its core get their turn */
    uint64_t give_up_ns;        /* no frame was taken for so long */
    uint64_t stall_at, stall_ns;    /* a fault to test with: sleep so long before that frame */

    uint64_t begun_ns, ended_ns;    /* when the first was due; when the last was taken */
    uint64_t sent;
    uint64_t full;              /* times that `out` took less than it was given */
    uint64_t behind;            /* times that it fell behind */
    uint64_t behind_ns;         /* in all: time with a frame overdue by more than PACED_BEHIND_NS */
    uint64_t behind_max_ns;     /* the latest frame */
};

/* 0, or the negative errno of a source that broke. */
int bench_paced(struct bench_paced *paced);
