#include "dpdk/eal.h"
#include "dpdk/impl.h"
#include <errno.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf_dyn.h>
#include <stdio.h>
#include <stdlib.h>

/* A port is brought up and taken down. rte_dev_probe() of a vdev may succeed without a port: the
 * port is looked up by name. The device goes when its last queue is closed, and the pools and
 * mbufs of all queues with it: the driver may hold some of them until it stops. */

enum {
    POOL_CACHE = 256,
    FRAME_MAX = 2 * 65536,      /* what a file driver may spread over mbufs: its 16-bit
                                 * length wraps at most once */
    MTU_MAX = 9000,
    NO_PORT = RTE_MAX_ETHPORTS,
};

static uint8_t taken[RTE_MAX_ETHPORTS];     /* under eal_lock() */

static int probe(struct device *device, const struct port_config *config)
{
    uint16_t id;
    if (rte_eth_dev_get_port_by_name(config->name, &id) != 0) {
        int rc = rte_dev_probe(config->devargs);
        if (rc < 0)
            return rc;
        if (rte_eth_dev_get_port_by_name(config->name, &id) != 0)
            return -ENODEV;
    }
    if (taken[id])
        return -EBUSY;
    taken[id] = 1;
    device->id = id;
    return 0;
}

/* Without hugepages memory has no IOVA runs longer than a page: a pool that asks for them
 * is spread one object to a page and slow, and no device here needs them. */
static int make_pool(const struct port *port, const char *use, unsigned mbufs, unsigned mbuf_size,
                     struct rte_mempool **out)
{
    char name[RTE_MEMPOOL_NAMESIZE];
    struct rte_pktmbuf_pool_private private = { .mbuf_data_room_size = (uint16_t)mbuf_size };
    unsigned flags = rte_eal_has_hugepages() ? 0 : RTE_MEMPOOL_F_NO_IOVA_CONTIG;
    snprintf(name, sizeof name, "pydpdk_%s%u_%u", use, port->id, port->queue);
    struct rte_mempool *pool = rte_mempool_create_empty(
        name, mbufs, sizeof(struct rte_mbuf) + mbuf_size, POOL_CACHE, sizeof private, SOCKET_ID_ANY, flags);
    if (pool == NULL)
        return -rte_errno;
    *out = pool;
    rte_pktmbuf_pool_init(pool, &private);
    int rc = rte_mempool_populate_default(pool);
    if (rc < 0)
        return rc;
    rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
    return 0;
}

/* Frames that a replay may ask for so that all of them find their mbufs. */
static uint16_t replay_burst(unsigned mbufs, unsigned mbuf_size)
{
    unsigned chain = FRAME_MAX / (mbuf_size - RTE_PKTMBUF_HEADROOM) + 1;
    return (uint16_t)RTE_MAX(1u, RTE_MIN((unsigned)BURST_MAX, mbufs / chain));
}

/* Hardware checksums and stamps, frames spread over mbufs, and over queues, where the device
 * has them. */
static void choose(struct device *device, const struct rte_eth_dev_info *info, uint32_t mtu,
                   struct rte_eth_conf *conf)
{
    device->wanted = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM
                   | RTE_ETH_RX_OFFLOAD_SCATTER | RTE_ETH_RX_OFFLOAD_TIMESTAMP;
    conf->rxmode.offloads = device->offloads = info->rx_offload_capa & device->wanted;
    if (mtu == 0 && device->offloads & RTE_ETH_RX_OFFLOAD_SCATTER)
        mtu = RTE_MIN(RTE_MIN((uint32_t)MTU_MAX, (uint32_t)info->max_mtu),
                      info->max_rx_pktlen - FRAME_OVERHEAD);
    conf->rxmode.mtu = mtu;
    conf->intr_conf.rmv = (*info->dev_flags & RTE_ETH_DEV_INTR_RMV) != 0;
    uint64_t spread = info->flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP);
    if (device->count > 1 && spread != 0) {
        conf->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf->rx_adv_conf.rss_conf.rss_hf = spread;
        device->rss = 1;
    }
}

static int take_stamps(struct port *port)
{
    int hardware = (port->device->offloads & RTE_ETH_RX_OFFLOAD_TIMESTAMP) != 0;
    if (!hardware && !(port->flags & PORT_STAMPS))
        return 0;
    port->stamp_ns = hardware ? 1 : 1000;
    return rte_mbuf_dyn_rx_timestamp_register(&port->stamp_offset, &port->stamp_mask) == 0
         ? 0 : -rte_errno;
}

/* The queue's own, the burst held and the one asked for, and what a cache keeps. */
static unsigned receive_mbufs(const struct port_config *config, unsigned descriptors)
{
    return RTE_MAX(config->mbufs, descriptors + 2u * BURST_MAX + 2u * POOL_CACHE);
}

static unsigned send_mbufs(unsigned descriptors) { return descriptors + BURST_MAX + 2u * POOL_CACHE; }

static uint32_t longest_frame(uint32_t mtu) { return mtu + RTE_ETHER_HDR_LEN + TAGS; }

static uint64_t pool_bytes(unsigned mbufs, unsigned mbuf_size)
{
    struct rte_mempool *pool = NULL;
    uint32_t object = rte_mempool_calc_obj_size((uint32_t)sizeof(struct rte_mbuf) + mbuf_size, 0, NULL);
    return RTE_MEMPOOL_HEADER_SIZE(pool, POOL_CACHE) + (uint64_t)mbufs * object
        + (uint64_t)rte_ring_get_memsize(rte_align32pow2(mbufs + 1));
}

uint64_t port_queue_bytes(const struct port_config *config)
{
    return pool_bytes(receive_mbufs(config, config->rx_descriptors), config->mbuf_size)
        + pool_bytes(send_mbufs(config->tx_descriptors), longest_frame(config->mtu) + RTE_PKTMBUF_HEADROOM);
}

static int set_up_queue(struct port *port, const struct port_config *config, uint16_t rx, uint16_t tx)
{
    unsigned socket = (unsigned)rte_eth_dev_socket_id(port->id);
    unsigned mbufs = receive_mbufs(config, rx);
    port->burst_max = config->flags & PORT_ENDS ? replay_burst(mbufs - 2 * POOL_CACHE, config->mbuf_size)
                                                : BURST_MAX;
    port->cut_at = config->cut_at != 0 ? config->cut_at : UINT32_MAX;
    port->frame_max = longest_frame(port->device->mtu);
    int rc = make_pool(port, "rx", mbufs, config->mbuf_size, &port->pool);
    if (rc < 0
        || (rc = make_pool(port, "tx", send_mbufs(tx),
                           port->frame_max + RTE_PKTMBUF_HEADROOM, &port->send_pool)) < 0
        || (rc = rte_eth_rx_queue_setup(port->id, port->queue, rx, socket, NULL, port->pool)) < 0
        || (rc = rte_eth_tx_queue_setup(port->id, port->queue, tx, socket, NULL)) < 0)
        return rc;
    return take_stamps(port);
}

static int set_up_queues(struct device *device, const struct port_config *config)
{
    uint16_t rx = (uint16_t)config->rx_descriptors, tx = (uint16_t)config->tx_descriptors, mtu;
    int rc = rte_eth_dev_adjust_nb_rx_tx_desc(device->id, &rx, &tx);
    if (rc < 0 || (rc = rte_eth_dev_get_mtu(device->id, &mtu)) < 0)
        return rc;
    device->rx_descriptors = rx;
    device->tx_descriptors = tx;
    device->mtu = config->interface[0] != '\0' ? config->mtu : mtu;
    for (unsigned i = 0; i < device->count; i++) {
        device->queues[i]->id = device->id;
        if ((rc = set_up_queue(device->queues[i], config, rx, tx)) < 0)
            return rc;
    }
    return 0;
}

static void free_queue(struct port *port)
{
    rte_mempool_free(port->pool);
    rte_mempool_free(port->send_pool);
    free(port->scratch);
    free(port);
}

static int removed(uint16_t id, enum rte_eth_event_type event, void *device, void *ret)
{
    (void)id, (void)event, (void)ret;
    __atomic_store_n(&((struct device *)device)->gone, 1, __ATOMIC_RELAXED);
    return 0;
}

static int start(struct device *device, const struct port_config *config)
{
    struct rte_eth_dev_info info;
    struct rte_eth_conf conf = { 0 };
    int rc = rte_eth_dev_info_get(device->id, &info);
    if (rc < 0)
        return rc;
    uint32_t most = RTE_MIN(info.max_rx_queues, info.max_tx_queues);
    while (device->count > RTE_MAX(1u, most))
        free_queue(device->queues[--device->count]);
    device->open = device->count;
    /* These drivers have an MTU of their own, which means nothing. */
    choose(device, &info, config->interface[0] != '\0' ? 0 : config->mtu, &conf);
    uint16_t count = (uint16_t)device->count;
    if ((rc = rte_eth_dev_configure(device->id, count, count, &conf)) < 0
        || (rc = set_up_queues(device, config)) < 0
        || (rc = rte_eth_dev_start(device->id)) < 0)
        return rc;
    rte_eth_dev_callback_register(device->id, RTE_ETH_EVENT_INTR_RMV, removed, device);
    device_clock_open(device);
    if (device->flags & PORT_PROMISCUOUS)
        device_promiscuous(device);
    return 0;
}

static void remove_device(struct device *owner)
{
    uint16_t id = owner->id;
    struct rte_eth_dev_info info;
    struct rte_device *device = rte_eth_dev_info_get(id, &info) == 0 ? info.device : NULL;
    rte_eth_dev_callback_unregister(id, RTE_ETH_EVENT_INTR_RMV, removed, owner);
    rte_eth_dev_stop(id);
    rte_eth_dev_close(id);
    if (device != NULL)
        rte_dev_remove(device);
    taken[id] = 0;
}

static void take_down(struct device *device)
{
    for (unsigned i = 0; i < device->count; i++) {      /* views end before their mbufs' pools */
        rte_pktmbuf_free_bulk(device->queues[i]->held, device->queues[i]->count);
        device->queues[i]->count = 0;
        port_give_back(device->queues[i]);
    }
    if (device->id != NO_PORT)
        remove_device(device);
    for (unsigned i = 0; i < device->count; i++)
        free_queue(device->queues[i]);
    interface_close(&device->interface);
    utc_destroy(device->clock);
    free(device);
}

static void port_close(struct source *source)
{
    struct device *device = ((struct port *)source)->device;
    eal_lock(NULL);
    if (--device->open == 0)
        take_down(device);
    eal_unlock();
}

static void take_sockets(struct device *device, const struct sockets *before)
{
    if (device->interface.fd < 0)
        return;
    sockets_since(&device->sockets, before, &device->interface);
    sockets_ignore_outgoing(&device->sockets);
}

/* Takes the control lock; on failure the device is gone and `step` names where it stopped. */
static int bring_up(struct device *device, const struct port_config *config, const char **step, char *log)
{
    struct sockets before;
    eal_lock(log);
    sockets_find(&before);
    *step = "interface";
    int rc = config->interface[0] != '\0' ? interface_open(&device->interface, config->interface) : 0;
    if (rc == 0) {
        *step = "probe";
        rc = probe(device, config);
    }
    if (rc == 0) {
        *step = "start";
        rc = start(device, config);
    }
    if (rc == 0)
        take_sockets(device, &before);
    else
        take_down(device);
    eal_unlock();
    return rc;
}

static const struct source_ops ops = {
    .close = port_close, .stats = port_stats, .told = port_told, .link = port_link, .tick = port_tick,
    .steer = port_steer, .groups = port_groups, .mbufs = port_mbufs, .poll = port_poll,
};

static struct port *new_queue(struct device *device, const struct port_config *config)
{
    struct port *port = malloc(sizeof *port);
    uint8_t *scratch = malloc((size_t)BURST_MAX * SLOT_SIZE);
    if (port == NULL || scratch == NULL) {
        free(port);
        free(scratch);
        return NULL;
    }
    *port = (struct port){
        .source = { .burst = port_burst, .send = port_send, .ops = &ops },
        .device = device,
        .scratch = scratch,
        .clock = config->clock,
        .flags = config->flags,
        .queue = (uint16_t)device->count,
    };
    return port;
}

static struct device *new_device(const struct port_config *config)
{
    struct device *device = calloc(1, sizeof *device);
    if (device == NULL)
        return NULL;
    device->id = NO_PORT;
    device->interface.fd = -1;
    device->flags = config->flags;
    device->queues_wanted = config->queues;
    for (; device->count < config->queues; device->count++)
        if ((device->queues[device->count] = new_queue(device, config)) == NULL) {
            take_down(device);
            return NULL;
        }
    return device;
}

static int in_range(const struct port_config *config)
{
    return config->mbuf_size > RTE_PKTMBUF_HEADROOM && config->mbuf_size <= UINT16_MAX
        && config->rx_descriptors > 0 && config->rx_descriptors <= UINT16_MAX
        && config->tx_descriptors > 0 && config->tx_descriptors <= UINT16_MAX
        && config->queues > 0 && config->queues <= PORT_QUEUES_MAX && config->mtu <= UINT16_MAX / 2;
}

int port_open(const struct port_config *config, struct source **sources, char *reason)
{
    if (!eal_running() || !in_range(config)) {
        snprintf(reason, REASON_SIZE, "EAL not started, or sizes out of range");
        return -EINVAL;
    }
    struct device *device = new_device(config);
    if (device == NULL) {
        snprintf(reason, REASON_SIZE, "no memory for the port");
        return -ENOMEM;
    }
    const char *step;
    char log[REASON_SIZE] = "";
    int rc = bring_up(device, config, &step, log);
    if (rc < 0) {
        snprintf(reason, REASON_SIZE, "%s: %.140s", step, log[0] != '\0' ? log : rte_strerror(-rc));
        return rc;
    }
    for (unsigned i = 0; i < device->count; i++)
        sources[i] = &device->queues[i]->source;
    return (int)device->count;
}
