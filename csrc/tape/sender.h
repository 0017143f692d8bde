#pragma once
#include "base/hist.h"
#include "source/source.h"

/* A capture's frames out of a source that can send, each when it is due. Times are ns since the
 * first frame was due, by the cycle counter. */

enum sender_rate {
    SENDER_RECORDED = 1,        /* as the frames are stamped, `speed` times as fast */
    SENDER_PPS = 2,             /* `pps` frames a second */
    SENDER_LINE = 3,            /* as fast as they are taken: nothing is ever due later */
};

struct sender_scan {
    uint64_t frames, bytes;     /* that can be sent */
    uint64_t truncated;         /* not whole in the capture */
    uint64_t foreign;           /* not Ethernet */
};

struct sender {
    int32_t rate;               /* enum sender_rate */
    int32_t stop;               /* set by anyone: end soon */
    double speed;
    double pps;
    uint64_t frames_max;        /* 0: no limit */
    uint64_t retry_ns;          /* a frame is offered for so long, then given up */

    uint64_t begun;             /* ticks when the first frame was due; 0 before */
    uint64_t begun_ns;          /* CLOCK_MONOTONIC at that moment */
    uint64_t lap_due, lap_ts;   /* of the first frame of this pass over the capture */
    uint64_t lap_frames;
    uint64_t due;               /* of the last frame looked at */
    uint64_t scheduled;         /* frames that were due = taken + refused + unfit */
    uint64_t behind_until;

    uint64_t frames, bytes;     /* taken */
    uint64_t refused;           /* no room within retry_ns */
    uint64_t unfit;             /* longer or shorter than it can send */
    uint64_t truncated;         /* not whole in the capture: skipped */
    uint64_t foreign;           /* not Ethernet: skipped */
    uint64_t regress;           /* stamped before the frame ahead of them: due at once */
    uint64_t last, last_due;    /* when the last frame taken was taken, and was due */
    uint64_t behind;            /* time with a frame overdue by more than SENDER_BEHIND_NS */
    uint64_t counter_ns, clock_ns;      /* since `begun`, by the cycle counter and by CLOCK_MONOTONIC */
    int32_t out_error;          /* negative errno that `out` returned */
    int32_t pad;
    struct hist late;           /* ns from due to taken, a sample a frame; none at SENDER_LINE */
};

enum { SENDER_BEHIND_NS = 1000000 };

/* Counts what is in a capture, some frames a call: 1 while there is more, 0 at its end, negative
 * errno where it breaks. */
int sender_scan(struct source *capture, struct sender_scan *scan);
/* One pass over a capture; goes on with the schedule where the pass before ended. 0: its end;
 * 1: stopped, or frames_max were due; negative errno: the capture broke, or `out` (out_error). */
int sender_run(struct sender *sender, struct source *capture, struct source *out);
