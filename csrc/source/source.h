#pragma once
#include "packet.h"

/* Where frames come from: a capture file (capture.c) or a DPDK port (port.c). */

enum { BURST_MAX = 256 };

struct outgoing {               /* a whole Ethernet frame, without its FCS */
    const uint8_t *data;
    uint32_t len;
    uint32_t pad;
};

struct source {
    /* Fills at most `max` (<= BURST_MAX) views and returns how many. 0 means nothing right
     * now. -ENODATA is the clean end. Any other negative errno is a broken source, reported
     * only after every whole frame before the break was delivered. Never blocks. */
    int (*burst)(struct source *source, struct packet *packets, int max);
    void (*close)(struct source *source);
    /* Sends copies of whole frames, from the thread that calls burst. Returns how many of them
     * were taken, 0 when there is no room now, or a negative errno. NULL: it cannot send. */
    int (*send)(struct source *source, const struct outgoing *frames, int count);
};

void source_close(struct source *source);
