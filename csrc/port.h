#pragma once
#include "source.h"

/* DPDK ports. Only port.c and eal.c know DPDK; without it every call here returns -ENOSYS
 * and port_dpdk_version() is "". */

enum {                      /* what is known of a driver: flags of port_open() */
    PORT_ENDS = 1,          /* file replay: an empty burst is its end (-ENODATA) */
    PORT_BLIND = 2,         /* its counters stay 0 when it drops: `missed` is unknown */
    PORT_STAMPS = 4,        /* stamps frames in UTC: ns with the time stamp offload, else us */
};

struct port_stats {         /* a path that cannot know a figure says UINT64_MAX */
    uint64_t received;      /* frames handed to the core */
    uint64_t missed;        /* dropped by the device for want of descriptors */
    uint64_t no_mbuf;       /* dropped for want of mbufs */
    uint64_t errors;
    uint64_t oversize;      /* frames longer than the linearise buffer, delivered cut */
};

const char *port_dpdk_version(void);        /* of the library loaded, "" without */
/* rte_eal_init() with these arguments (argv[0] included), once per process. The caller's
 * CPU affinity is kept. 0 or negative errno; -EALREADY when it already ran. */
int port_eal_init(int argc, char **argv);
/* Probes `devargs` ("net_pcap0,rx_pcap=f", "0000:3b:00.0") if no port has that name yet,
 * then sets up one rx and one tx queue. `name` is the port's name in DPDK. flags: PORT_*.
 * Frames without a device time stamp carry the host's CLOCK_REALTIME of their burst.
 * 0 or negative errno with reason (at least 160 bytes) filled. */
int port_open(const char *devargs, const char *name, unsigned mbufs, unsigned mbuf_size,
              unsigned descriptors, int flags, struct source **source, char *reason);
int port_stats(struct source *source, struct port_stats *stats);
