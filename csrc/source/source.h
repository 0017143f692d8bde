#pragma once
#include "address.h"
#include "packet.h"

/* Where frames come from: a capture file, a kernel interface, a DPDK port. A kind of source is a
 * struct that begins with struct source, a table of operations, and a row in kinds.py. */

enum { BURST_MAX = 256, REASON_SIZE = 160 };

struct outgoing {               /* a whole Ethernet frame, without its FCS */
    const uint8_t *data;
    uint32_t len;
    uint32_t pad;
};

struct source_stats {       /* a path that cannot know a figure says UINT64_MAX */
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
enum { SOURCE_LOSSES_UNKNOWN = 0, SOURCE_LOSSES_DEVICE = 1, SOURCE_LOSSES_SOCKET = 2,
       SOURCE_LOSSES_FILE = 3 };    /* a file has none */

struct source_told {        /* what was asked of a source and what it granted */
    char driver[32];        /* DPDK's name of it */
    char offloads_wanted[160], offloads[160];   /* for receiving, by name, a space between */
    uint32_t queues_wanted, queues;
    uint32_t clock;         /* SOURCE_CLOCK_*: of ts_recv */
    uint32_t losses;        /* SOURCE_LOSSES_*: who counts `missed` */
    int32_t zero_copy;      /* of an AF_XDP socket: 1, 0; -1 where there is none */
    int32_t device;         /* 1: there is one; 0: what follows means nothing */
    uint32_t rx_descriptors, tx_descriptors, mtu;
    int32_t promiscuous, all_multicast, multicast_list; /* 1 accepted, 0 not asked for, or why not */
    int32_t rss;            /* 1: the device spreads over its queues what no rule steers */
    uint8_t mac[6];
    uint8_t pad[2];
};

enum { SOURCE_GROUPS_LIST = 1, SOURCE_GROUPS_ALL = 2, SOURCE_GROUPS_PROMISCUOUS = 3 };

struct source;

/* What a kind of source answers besides: an operation that it lacks is NULL, and source_x() below
 * answers for it. `reason`: REASON_SIZE bytes, filled by who refuses. */
struct source_ops {
    void (*close)(struct source *source);
    int (*stats)(struct source *source, struct source_stats *stats);
    int (*told)(struct source *source, struct source_told *told);
    const char *(*problem)(struct source *source);
    int (*link)(struct source *source);
    int (*tick)(struct source *source);
    int (*steer)(struct source *source, const struct address *address, char *reason);
    int (*groups)(struct source *source, const uint8_t *macs, uint32_t count, char *reason);
    int (*mbufs)(struct source *source);
    int (*poll)(struct source *source, int max);
};

struct source {
    /* Fills at most `max` (<= BURST_MAX) views and returns how many. 0 means nothing right
     * now. -ENODATA is the clean end. Any other negative errno is a broken source, reported
     * only after every whole frame before the break was delivered. Never blocks. */
    int (*burst)(struct source *source, struct packet *packets, int max);
    /* Sends copies of whole frames, from the thread that calls burst. Returns how many of them
     * were taken, 0 when there is no room now, or a negative errno. NULL: it cannot send. */
    int (*send)(struct source *source, const struct outgoing *frames, int count);
    const struct source_ops *ops;
};

void source_close(struct source *source);       /* NULL: nothing */
int source_stats(struct source *source, struct source_stats *stats);
/* A kind that tells nothing is one queue without a device, stamps by CLOCK_REALTIME, and does not
 * know its losses. */
int source_told(struct source *source, struct source_told *told);
const char *source_problem(struct source *source);  /* what broke it, and where; "": nothing did */
/* Buffers of this queue's pool that are with driver, device or our burst now; from any thread.
 * -EOPNOTSUPP: there is no pool. */
int source_mbufs(struct source *source);
/* One burst taken and freed: what the driver alone costs, for the benchmark. Not while a burst of
 * the source is looked at. -EOPNOTSUPP: nothing is known below burst(). */
int source_poll(struct source *source, int max);

/* ---- one control thread, while others take bursts; these make system calls ---- */

int source_link(struct source *source);         /* enum link_state */
/* Samples the device's clock, ten times a second where source_told.clock is HARDWARE. */
int source_tick(struct source *source);
/* Frames for this address and port go to the queue of this source. 0, or a negative errno. */
int source_steer(struct source *source, const struct address *address, char *reason);
/* Frames to these `count` multicast MACs (6 bytes each) are let in: SOURCE_GROUPS_* tells how, or a
 * negative errno. */
int source_groups(struct source *source, const uint8_t *macs, uint32_t count, char *reason);
