#pragma once
#include "source.h"

/* DPDK ports. Only port.c knows DPDK; without it every call here returns -ENOSYS and
 * port_dpdk_version() is "". */

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
 * then sets up one rx and one tx queue. `name` is the port's name in DPDK. clock_ns: when
 * the device gives no time stamp, packets carry the host's CLOCK_REALTIME of the burst.
 * ends: the device is a file replay, so an empty burst is its end (-ENODATA).
 * 0 or negative errno with reason (at least 160 bytes) filled. */
int port_open(const char *devargs, const char *name, unsigned mbufs, unsigned mbuf_size,
              unsigned descriptors, int ends, struct source **source, char *reason);
int port_stats(struct source *source, struct port_stats *stats);
