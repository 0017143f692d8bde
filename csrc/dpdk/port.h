#pragma once
#include "base/utc.h"
#include "source/source.h"

/* DPDK ports as sources. */

enum {                      /* port_config.flags: what is known of a driver, what is wanted of it */
    PORT_ENDS = 1,          /* file replay: an empty burst is its end (-ENODATA) */
    PORT_BLIND = 2,         /* its counters stay 0 when it drops: `missed` is what the kernel says of
                             * the sockets that the driver opened, or unknown when there are none */
    PORT_STAMPS = 4,        /* stamps frames in UTC: ns with the time stamp offload, else us */
    PORT_PROMISCUOUS = 8,   /* every frame on the wire, whomever it is for */
};
enum { PORT_QUEUES_MAX = 16 };

struct port_config {
    const char *devargs;    /* "net_pcap0,rx_pcap=f", "0000:3b:00.0" */
    const char *name;       /* of the port in DPDK: "net_pcap0", "0000:3b:00.0" */
    const char *interface;  /* the kernel's, which the driver reads from; "": there is none */
    const struct utc *clock;    /* of bursts; NULL: CLOCK_REALTIME */
    uint32_t queues;        /* 1 to PORT_QUEUES_MAX; fewer when the device has fewer */
    uint32_t mbufs;         /* of each queue, raised to what the queue and two bursts need */
    uint32_t mbuf_size;     /* RTE_PKTMBUF_HEADROOM included */
    uint32_t rx_descriptors, tx_descriptors;
    uint32_t mtu;           /* with an interface: its own. Else 0 is the largest up to 9000 where
                             * the device spreads frames over mbufs, or the device's own */
    uint32_t cut_at;        /* a frame this long or longer was cut by the driver; 0: none is */
    int32_t flags;          /* PORT_* */
};

/* Probes the device if no port has its name yet, and gives one source a queue: its own rx and
 * tx queue and pools, for one thread. The port closes with its last source. A frame without a
 * device time stamp has its burst's: one for all frames of a burst, and later than any before.
 * Returns how many `sources` (room for config->queues) were filled, or a negative errno with
 * reason (REASON_SIZE bytes) filled.
 *
 * source_link() is of the interface where there is one, by its index, else of the device.
 *
 * source_steer() is rte_flow. Tried: net_tap takes rules when the kernel has tc's flower; e1000,
 * e1000e, virtio, vmxnet3, net_af_packet, net_af_xdp, net_ring, net_memif, net_null and net_pcap
 * refuse. What no rule steers goes by RSS (source_told.rss), or to queue 0.
 *
 * source_groups() tries a list, then all-multicast, then promiscuous mode, and replaces the list
 * before. Tried:
 *   e1000, e1000e           list
 *   virtio, vmxnet3         all-multicast
 *   net_af_packet, _af_xdp  list, by a socket of ours: it ends with the port, and is added to
 *   net_memif, net_ring, net_null   nothing is filtered, whatever they answer */
int port_open(const struct port_config *config, struct source **sources, char *reason);
/* Of EAL's memory, that the pools of one queue take when it gets the mtu and the descriptors that
 * the config asks for. */
uint64_t port_queue_bytes(const struct port_config *config);
/* Takes that many mbufs from the pool of a source and keeps them, 0 gives them back: a fault to
 * test with. From the thread that takes bursts. Returns how many are kept, or -ENOMEM. */
int port_hold(struct source *source, uint32_t count);
