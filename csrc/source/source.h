#pragma once
#include "packet.h"

/* Where frames come from: a capture file (capture.c) or a DPDK port (port.c). */

enum { BURST_MAX = 256 };

struct outgoing {               /* a whole Ethernet frame, without its FCS */
    const uint8_t *data;
    uint32_t len;
    uint32_t pad;
};

struct source_stats {         /* a path that cannot know a figure says UINT64_MAX */
    uint64_t received;      /* frames handed to the core, of this queue */
    uint64_t missed;        /* dropped by device or socket for want of room, all queues */
    uint64_t no_mbuf;       /* times the driver found no mbuf: frames lost or left waiting, all queues */
    uint64_t starved;       /* empty bursts (one in 64 is looked at) that found this queue's
                             * pool empty */
    uint64_t errors;        /* all queues */
    uint64_t oversize;      /* frames delivered cut, of this queue */
    uint64_t sent;          /* taken by the device, of this queue */
    uint64_t send_full;     /* times that send() took less than it was given for want of room */
    uint64_t send_refused;  /* frames refused as too long or too short */
    uint64_t send_errors;   /* taken but not sent, as far as the driver tells, all queues */
};

enum { SOURCE_CLOCK_HOST = 0, SOURCE_CLOCK_TSC = 1, SOURCE_CLOCK_HARDWARE = 2, SOURCE_CLOCK_CAPTURE = 3,
       SOURCE_CLOCK_KERNEL = 4 };
enum { SOURCE_LOSSES_UNKNOWN = 0, SOURCE_LOSSES_DEVICE = 1, SOURCE_LOSSES_SOCKET = 2 };

struct source_told {         /* what was asked of a port and what it granted */
    char driver[32];        /* DPDK's name of it */
    char offloads_wanted[160], offloads[160];   /* for receiving, by name, a space between */
    uint8_t mac[6];
    uint8_t pad[2];
    uint32_t queues_wanted, queues, rx_descriptors, tx_descriptors, mtu;
    int32_t promiscuous, all_multicast, multicast_list; /* 1 accepted, 0 not asked for, or why not */
    int32_t rss;            /* 1: the device spreads over its queues what no rule steers */
    int32_t zero_copy;      /* of an AF_XDP socket: 1, 0; -1 where there is none */
    uint32_t clock;         /* SOURCE_CLOCK_*: of ts_recv */
    uint32_t losses;        /* SOURCE_LOSSES_*: who counts `missed` */
};

enum { SOURCE_GROUPS_LIST = 1, SOURCE_GROUPS_ALL = 2, SOURCE_GROUPS_PROMISCUOUS = 3 };

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
