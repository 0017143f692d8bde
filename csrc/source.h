#pragma once
#include "packet.h"

/* Where frames come from: a capture file (capture.c) or a DPDK port (port.c). */

enum { BURST_MAX = 256 };

struct source {
    /* Fills at most `max` (<= BURST_MAX) views and returns how many. 0 means nothing right
     * now. -ENODATA is the clean end. Any other negative errno is a broken source, reported
     * only after every whole frame before the break was delivered. Never blocks. */
    int (*burst)(struct source *source, struct packet *packets, int max);
    void (*close)(struct source *source);
};

void source_close(struct source *source);
