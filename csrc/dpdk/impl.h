#pragma once
#include "dpdk/port.h"
#include "source/interface.h"
#include <rte_ethdev.h>
#include <rte_mbuf.h>

/* Types and calls that the files of a port share. For C only. */

struct port;

struct device {                 /* a DPDK port; what is not const changes under eal_lock() only */
    struct port *queues[PORT_QUEUES_MAX];
    uint32_t count;             /* of queues */
    uint32_t open;              /* sources not yet closed */
    uint16_t id;                /* RTE_MAX_ETHPORTS: none yet */
    int flags;                  /* PORT_* */
    uint64_t wanted, offloads;  /* RTE_ETH_RX_OFFLOAD_* */
    uint32_t queues_wanted, mtu;
    uint16_t rx_descriptors, tx_descriptors;
    int rss, promiscuous, all_multicast, multicast_list;    /* as in struct source_told */
    int gone;                   /* RTE_ETH_EVENT_INTR_RMV, set by EAL's interrupt thread */
    struct netdev interface; /* fd -1: none */
    struct sockets sockets;     /* that the driver opened */
    uint64_t dropped;           /* taken from them so far */
    struct utc *clock;          /* of its own, or NULL */
};

struct port {                   /* one queue of a device */
    struct source source;       /* first: a source is its port */
    struct rte_mbuf *held[BURST_MAX];   /* of the burst that the views point into */
    struct device *device;
    struct rte_mempool *pool, *send_pool;
    uint8_t *scratch;           /* BURST_MAX slots, touched by chained frames only */
    const struct utc *clock;    /* NULL: CLOCK_REALTIME */
    const struct utc *device_clock;     /* that the stamps are of; NULL: they are UTC already */
    uint64_t stamped;           /* the last burst's stamp */
    uint64_t stamp_mask;        /* ol_flags bit of a stamped frame, 0 when stamps are not used */
    uint64_t stamp_ns;          /* unit of the stamps */
    int stamp_offset;
    int flags;                  /* PORT_* */
    int ended;                  /* 0, or what every further burst returns */
    uint16_t count;             /* of held */
    uint16_t burst_max;
    uint16_t id, queue;
    uint32_t frame_max;         /* bytes of the longest frame that is sent */
    uint32_t idle;              /* empty bursts in a row */
    uint32_t cut_at;            /* UINT32_MAX: the driver cuts nothing */
    struct source_stats counted;     /* what this queue counts itself */
    struct rte_mbuf **withheld; /* by port_hold() */
    uint32_t withheld_count;
};

enum {
    SLOT_SIZE = 65536,          /* of one linearised frame */
    FRAME_OVERHEAD = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN,
    TAGS = 2 * RTE_VLAN_HLEN,   /* that a frame may carry above the MTU */
};
_Static_assert(BURST_MAX <= UINT16_MAX, "rte_eth_rx_burst takes 16 bits");

/* The operations of a port. */
int port_burst(struct source *source, struct packet *packets, int max);
int port_send(struct source *source, const struct outgoing *frames, int count);
int port_stats(struct source *source, struct source_stats *stats);
int port_told(struct source *source, struct source_told *told);
int port_link(struct source *source);
int port_tick(struct source *source);
int port_steer(struct source *source, const struct address *address, char *reason);
int port_groups(struct source *source, const uint8_t *macs, uint32_t count, char *reason);
int port_mbufs(struct source *source);
int port_poll(struct source *source, int max);
void port_give_back(struct port *port);
/* The clock of a device that stamps: after its start. Without one its stamps are not used. */
void device_clock_open(struct device *device);
/* Accepts every frame, as far as device or interface can. */
void device_promiscuous(struct device *device);
