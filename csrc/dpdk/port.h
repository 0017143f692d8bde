#pragma once
#include "address.h"
#include "event.h"
#include "base/utc.h"
#include "source/source.h"

/* DPDK ports. Only port*.c and eal.c know DPDK; without it every call here returns -ENOSYS
 * and port_dpdk_version() is "". */

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

const char *port_dpdk_version(void);        /* of the library loaded, "" without */
/* rte_eal_init() with these arguments (argv[0] included), once per process. The caller's
 * CPU affinity is kept. 0 or negative errno; -EALREADY when it already ran. */
int port_eal_init(int argc, char **argv);
/* Probes the device if no port has its name yet, and gives one source a queue: its own rx and
 * tx queue and pools, for one thread. The port closes with its last source. A frame without a
 * device time stamp has its burst's: one for all frames of a burst, and later than any before.
 * Returns how many `sources` (room for config->queues) were filled, or a negative errno with
 * reason (at least 160 bytes) filled. */
int port_open(const struct port_config *config, struct source **sources, char *reason);
int port_stats(struct source *source, struct source_stats *stats);
int port_known(struct source *source, struct source_told *known);
/* Mbufs of this queue's pool that are with driver, device or our burst now; from any thread. */
int port_mbufs(struct source *source);

/* ---- one control thread, while others take bursts; these make system calls ---- */

/* enum link_state: of the interface where there is one, by its index, else of the device. */
int port_link(struct source *source);
/* Samples the device's clock, ten times a second where source_told.clock is HARDWARE. */
int port_tick(struct source *source);
/* Frames for this address and port go to the queue of this source, by rte_flow. 0, or a negative
 * errno with the driver's reason (at least 160 bytes). Tried: net_tap takes rules when the kernel
 * has tc's flower; e1000, e1000e, virtio, vmxnet3, net_af_packet, net_af_xdp, net_ring, net_memif,
 * net_null and net_pcap refuse. What no rule steers goes by RSS (source_told.rss), or to queue 0. */
int port_steer(struct source *source, const struct address *address, char *reason);
/* Frames to these `count` multicast MACs (6 bytes each) are let in: by list, else by all-multicast,
 * else by promiscuous mode; replaces the list before. How, or a negative errno with the driver's
 * reason. Tried:
 *   e1000, e1000e           list
 *   virtio, vmxnet3         all-multicast
 *   net_af_packet, _af_xdp  list, by a socket of ours: it ends with the port, and is added to
 *   net_memif, net_ring, net_null   nothing is filtered, whatever they answer */
int port_groups(struct source *source, const uint8_t *macs, uint32_t count, char *reason);
/* Takes that many mbufs from the pool of a source and keeps them, 0 gives them back: a fault to
 * test with. From the thread that takes bursts. Returns how many are kept, or -ENOMEM. */
int port_hold(struct source *source, uint32_t count);
/* From here to port_thread_end() the calling thread has a cache of its own on every mbuf pool, as
 * DPDK's own threads do; without one each burst goes to the pool's shared ring, and a driver costs
 * several times as much (net_null: six). Needs nothing where EAL does not run. 0, or a negative
 * errno: it goes on without. */
int port_thread_begin(void);
void port_thread_end(void);
/* One burst taken and freed: what the driver alone costs, for the benchmark. Not while a burst of
 * the source is looked at. */
int port_poll(struct source *source, int max);
