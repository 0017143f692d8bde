#include "eal.h"
#include "port.h"
#include <errno.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A DPDK port as a source.
 *
 * Drivers differ in what they tell, so nothing is taken from them on trust:
 * - rte_dev_probe() of a vdev may succeed without a port: the port is looked up by name.
 * - The mbufs of a burst stay ours until the next one, so views need no copy. Only chained
 *   mbufs are copied, into a slot of `scratch` per frame of the burst.
 * - pkt_len may exceed the bytes in the chain: caplen is what is there, wirelen what is claimed.
 * - A file driver takes the record from the file before it asks for an mbuf, and loses the
 *   record when there is none. So the pool holds a whole burst of the largest frames, or the
 *   burst is made smaller (replay_burst), and a replay that lost a record all the same
 *   ends in an error instead of a clean end. */

enum {
    POOL_CACHE = 256,
    TX_DESCRIPTORS = 64,        /* the queue must exist; it is not used */
    SLOT_SIZE = 65536,          /* of one linearised frame */
    FRAME_MAX = 2 * 65536,      /* what a file driver may spread over mbufs: its 16-bit
                                 * length wraps at most once */
    MTU_MAX = 9000,
    FRAME_OVERHEAD = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN,
    NO_PORT = RTE_MAX_ETHPORTS,
};
_Static_assert(BURST_MAX <= UINT16_MAX, "rte_eth_rx_burst takes 16 bits");

struct port {
    struct source source;       /* first: a source is its port */
    struct rte_mbuf *held[BURST_MAX];   /* of the burst that the views point into */
    struct rte_mempool *pool;
    uint8_t *scratch;           /* BURST_MAX slots, touched by chained frames only */
    uint64_t received, oversize;
    uint64_t stamp_mask;        /* ol_flags bit of a stamped frame, 0 when stamps are not used */
    uint64_t stamp_ns;          /* unit of the stamps */
    int stamp_offset;
    int flags;                  /* PORT_* */
    int ended;                  /* 0, or what every further burst returns */
    uint16_t count;             /* of held */
    uint16_t burst_max;
    uint16_t id;
};

static uint8_t taken[RTE_MAX_ETHPORTS];     /* under eal_lock() */

/* --- the packet path --- */

static uint64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Copies a chain into one slot; returns the bytes copied. */
static uint32_t linearise(const struct rte_mbuf *mbuf, uint8_t *slot)
{
    uint32_t len = 0;
    for (; mbuf != NULL && len < SLOT_SIZE; mbuf = mbuf->next) {
        uint32_t part = RTE_MIN((uint32_t)mbuf->data_len, SLOT_SIZE - len);
        memcpy(slot + len, rte_pktmbuf_mtod(mbuf, const uint8_t *), part);
        len += part;
    }
    return len;
}

/* The hardware's two bits per checksum: NONE is both of them, UNKNOWN neither. */
static uint16_t checksums(uint64_t ol_flags)
{
    uint64_t ip = ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
    uint64_t l4 = ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
    return (ip == RTE_MBUF_F_RX_IP_CKSUM_GOOD ? PACKET_IP_GOOD : 0)
         | (ip == RTE_MBUF_F_RX_IP_CKSUM_BAD ? PACKET_IP_BAD : 0)
         | (l4 == RTE_MBUF_F_RX_L4_CKSUM_GOOD ? PACKET_L4_GOOD : 0)
         | (l4 == RTE_MBUF_F_RX_L4_CKSUM_BAD ? PACKET_L4_BAD : 0);
}

/* The device's stamp, or the burst's clock, which is read when the first frame needs it. */
static uint64_t stamp(const struct port *port, const struct rte_mbuf *mbuf, uint64_t *now)
{
    if (mbuf->ol_flags & port->stamp_mask)
        return port->stamp_ns
             * *RTE_MBUF_DYNFIELD(mbuf, port->stamp_offset, const rte_mbuf_timestamp_t *);
    if (*now == 0)
        *now = wall_ns();
    return *now;
}

static void view(struct port *port, unsigned i, uint64_t *now, struct packet *packet)
{
    const struct rte_mbuf *mbuf = port->held[i];
    const uint8_t *data = rte_pktmbuf_mtod(mbuf, const uint8_t *);
    uint32_t len = mbuf->data_len;
    if (mbuf->next != NULL) {
        uint8_t *slot = port->scratch + (size_t)i * SLOT_SIZE;
        len = linearise(mbuf, slot);
        data = slot;
    }
    port->oversize += mbuf->pkt_len > len;
    *packet = (struct packet){
        .data = data,
        .ts_recv = stamp(port, mbuf, now),
        .caplen = len,
        .wirelen = RTE_MAX(mbuf->pkt_len, len),
        .link = LINK_ETHERNET,
        .flags = checksums(mbuf->ol_flags),
    };
}

/* The end of a replay: clean only when the driver lost and refused nothing. */
static int replay_end(const struct port *port)
{
    struct rte_eth_stats stats;
    if (rte_eth_stats_get(port->id, &stats) != 0)
        return -EIO;
    if (stats.rx_nombuf != 0)
        return -ENOBUFS;
    return stats.ierrors != 0 ? -EBADMSG : -ENODATA;
}

static int port_burst(struct source *source, struct packet *packets, int max)
{
    struct port *port = (struct port *)source;
    if (port->ended != 0 || max <= 0)
        return port->ended;
    rte_pktmbuf_free_bulk(port->held, port->count);
    uint16_t room = (uint16_t)RTE_MIN(max, (int)port->burst_max);
    port->count = rte_eth_rx_burst(port->id, 0, port->held, room);
    if (port->count == 0 && port->flags & PORT_ENDS)
        return port->ended = replay_end(port);
    uint64_t now = 0;
    for (unsigned i = 0; i < port->count; i++)
        view(port, i, &now, &packets[i]);
    port->received += port->count;
    return port->count;
}

/* --- opening and closing --- */

static int probe(struct port *port, const char *devargs, const char *name)
{
    uint16_t id;
    if (rte_eth_dev_get_port_by_name(name, &id) != 0) {
        int rc = rte_dev_probe(devargs);
        if (rc < 0)
            return rc;
        if (rte_eth_dev_get_port_by_name(name, &id) != 0)
            return -ENODEV;
    }
    if (taken[id])
        return -EBUSY;
    taken[id] = 1;
    port->id = id;
    return 0;
}

/* Without hugepages memory has no IOVA runs longer than a page: a pool that asks for them
 * is spread one object to a page and slow, and no device here needs them. */
static int make_pool(struct port *port, unsigned mbufs, unsigned mbuf_size)
{
    char name[RTE_MEMPOOL_NAMESIZE];
    struct rte_pktmbuf_pool_private private = { .mbuf_data_room_size = (uint16_t)mbuf_size };
    unsigned flags = rte_eal_has_hugepages() ? 0 : RTE_MEMPOOL_F_NO_IOVA_CONTIG;
    snprintf(name, sizeof name, "pydpdk_port%u", port->id);
    port->pool = rte_mempool_create_empty(name, mbufs, sizeof(struct rte_mbuf) + mbuf_size,
                                          POOL_CACHE, sizeof private, SOCKET_ID_ANY, flags);
    if (port->pool == NULL)
        return -rte_errno;
    rte_pktmbuf_pool_init(port->pool, &private);
    int rc = rte_mempool_populate_default(port->pool);
    if (rc < 0)
        return rc;
    rte_mempool_obj_iter(port->pool, rte_pktmbuf_init, NULL);
    return 0;
}

/* Frames that a replay may ask for so that all of them find their mbufs. */
static uint16_t replay_burst(unsigned mbufs, unsigned mbuf_size)
{
    unsigned chain = FRAME_MAX / (mbuf_size - RTE_PKTMBUF_HEADROOM) + 1;
    return (uint16_t)RTE_MAX(1u, RTE_MIN((unsigned)BURST_MAX, mbufs / chain));
}

/* Jumbo frames and hardware checksums where the device has them. */
static void choose(const struct rte_eth_dev_info *info, int flags, struct rte_eth_conf *conf)
{
    uint64_t wanted = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM
                    | RTE_ETH_RX_OFFLOAD_SCATTER;
    if (flags & PORT_STAMPS)
        wanted |= RTE_ETH_RX_OFFLOAD_TIMESTAMP;
    conf->rxmode.offloads = info->rx_offload_capa & wanted;
    if (conf->rxmode.offloads & RTE_ETH_RX_OFFLOAD_SCATTER)
        conf->rxmode.mtu = RTE_MIN(RTE_MIN((uint32_t)MTU_MAX, (uint32_t)info->max_mtu),
                                   info->max_rx_pktlen - FRAME_OVERHEAD);
}

static int take_stamps(struct port *port, uint64_t offloads)
{
    if (!(port->flags & PORT_STAMPS))
        return 0;
    port->stamp_ns = offloads & RTE_ETH_RX_OFFLOAD_TIMESTAMP ? 1 : 1000;
    return rte_mbuf_dyn_rx_timestamp_register(&port->stamp_offset, &port->stamp_mask) == 0
         ? 0 : -rte_errno;
}

static int start(struct port *port, uint16_t descriptors)
{
    struct rte_eth_dev_info info;
    struct rte_eth_conf conf = { 0 };
    uint16_t rx = descriptors, tx = TX_DESCRIPTORS;
    int rc = rte_eth_dev_info_get(port->id, &info);
    if (rc < 0)
        return rc;
    choose(&info, port->flags, &conf);
    int socket = rte_eth_dev_socket_id(port->id);
    if ((rc = rte_eth_dev_configure(port->id, 1, 1, &conf)) < 0
        || (rc = rte_eth_dev_adjust_nb_rx_tx_desc(port->id, &rx, &tx)) < 0
        || (rc = rte_eth_rx_queue_setup(port->id, 0, rx, (unsigned)socket, NULL, port->pool)) < 0
        || (rc = rte_eth_tx_queue_setup(port->id, 0, tx, (unsigned)socket, NULL)) < 0
        || (rc = take_stamps(port, conf.rxmode.offloads)) < 0
        || (rc = rte_eth_dev_start(port->id)) < 0)
        return rc;
    rte_eth_promiscuous_enable(port->id);   /* many drivers have neither; frames decide */
    rte_eth_allmulticast_enable(port->id);
    return 0;
}

static void remove_device(uint16_t id)
{
    struct rte_eth_dev_info info;
    struct rte_device *device = rte_eth_dev_info_get(id, &info) == 0 ? info.device : NULL;
    rte_eth_dev_stop(id);
    rte_eth_dev_close(id);
    if (device != NULL)
        rte_dev_remove(device);
    taken[id] = 0;
}

static void take_down(struct port *port)
{
    rte_pktmbuf_free_bulk(port->held, port->count);
    if (port->id != NO_PORT)
        remove_device(port->id);
    rte_mempool_free(port->pool);
    free(port->scratch);
    free(port);
}

static void port_close(struct source *source)
{
    eal_lock(NULL);
    take_down((struct port *)source);
    eal_unlock();
}

/* Takes the control lock; on failure the port is gone and `step` names where it stopped. */
static int bring_up(struct port *port, const char *devargs, const char *name, unsigned mbufs,
                    unsigned mbuf_size, unsigned descriptors, const char **step, char *log)
{
    eal_lock(log);
    *step = "probe";
    int rc = probe(port, devargs, name);
    if (rc == 0) {
        *step = "mempool";
        rc = make_pool(port, mbufs, mbuf_size);
    }
    if (rc == 0) {
        *step = "start";
        rc = start(port, (uint16_t)descriptors);
    }
    if (rc < 0)
        take_down(port);
    eal_unlock();
    return rc;
}

static struct port *new_port(int flags, uint16_t burst_max)
{
    struct port *port = malloc(sizeof *port);
    uint8_t *scratch = malloc((size_t)BURST_MAX * SLOT_SIZE);
    if (port == NULL || scratch == NULL) {
        free(port);
        free(scratch);
        return NULL;
    }
    *port = (struct port){
        .source = { .burst = port_burst, .close = port_close },
        .scratch = scratch,
        .flags = flags,
        .id = NO_PORT,
        .burst_max = burst_max,
    };
    return port;
}

int port_open(const char *devargs, const char *name, unsigned mbufs, unsigned mbuf_size,
              unsigned descriptors, int flags, struct source **source, char *reason)
{
    *source = NULL;
    if (!eal_running() || mbuf_size <= RTE_PKTMBUF_HEADROOM || mbuf_size > UINT16_MAX
        || descriptors == 0 || descriptors > UINT16_MAX) {
        snprintf(reason, REASON_SIZE, "EAL not started, or sizes out of range");
        return -EINVAL;
    }
    /* The queue's own mbufs, the burst held and the one asked for, and what a cache keeps. */
    mbufs = RTE_MAX(mbufs, descriptors + 2 * BURST_MAX + 2 * POOL_CACHE);
    uint16_t burst_max = flags & PORT_ENDS ? replay_burst(mbufs - 2 * POOL_CACHE, mbuf_size)
                                           : BURST_MAX;
    struct port *port = new_port(flags, burst_max);
    if (port == NULL) {
        snprintf(reason, REASON_SIZE, "no memory for the port");
        return -ENOMEM;
    }
    const char *step;
    char log[REASON_SIZE] = "";
    int rc = bring_up(port, devargs, name, mbufs, mbuf_size, descriptors, &step, log);
    if (rc < 0) {
        snprintf(reason, REASON_SIZE, "%s: %.140s", step, log[0] != '\0' ? log : rte_strerror(-rc));
        return rc;
    }
    *source = &port->source;
    return 0;
}

int port_stats(struct source *source, struct port_stats *stats)
{
    const struct port *port = (const struct port *)source;
    struct rte_eth_stats device;
    int rc = rte_eth_stats_get(port->id, &device);
    if (rc < 0)
        return rc;
    *stats = (struct port_stats){
        .received = port->received,
        .missed = port->flags & PORT_BLIND ? UINT64_MAX : device.imissed,
        .no_mbuf = device.rx_nombuf,
        .errors = device.ierrors,
        .oversize = port->oversize,
    };
    return 0;
}
