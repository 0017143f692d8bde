#include "dpdk/eal.h"
#include "dpdk/impl.h"
#include "event.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a port tells of itself: figures, what it granted, its link. Drivers for kernel interfaces
 * count no drops and say link up for ever; there the kernel is asked, by the driver's own sockets
 * and by the interface's index. */

static const struct device *device_of(struct source *source)
{
    return ((const struct port *)source)->device;
}

static uint64_t missed(struct device *device, uint64_t counted)
{
    uint64_t total;
    if (device->sockets.count == 0)
        return device->flags & PORT_BLIND ? UINT64_MAX : counted;
    return sockets_dropped(&device->sockets, &device->dropped, &total) == 0 ? total : UINT64_MAX;
}

int port_stats(struct source *source, struct source_stats *stats)
{
    const struct port *port = (const struct port *)source;
    struct rte_eth_stats device;
    int rc = rte_eth_stats_get(port->id, &device);
    if (rc < 0)
        return rc;
    *stats = port->counted;
    stats->missed = missed(port->device, device.imissed);
    stats->no_mbuf = device.rx_nombuf;
    stats->errors = device.ierrors;
    stats->send_errors = device.oerrors;
    return 0;
}

int port_mbufs(struct source *source)
{
    return (int)rte_mempool_in_use_count(((const struct port *)source)->pool);
}

static void names(uint64_t offloads, char *out, size_t room)
{
    size_t used = 0;
    out[0] = '\0';
    for (; offloads != 0 && used < room; offloads &= offloads - 1) {
        const char *name = rte_eth_dev_rx_offload_name(offloads & -offloads);
        used += (size_t)snprintf(out + used, room - used, "%s%s", used > 0 ? " " : "", name);
    }
}

static uint32_t clock_of(const struct port *port)
{
    return port->device_clock != NULL ? SOURCE_CLOCK_HARDWARE
         : port->stamp_mask != 0 ? SOURCE_CLOCK_CAPTURE
         : port->clock != NULL ? SOURCE_CLOCK_TSC : SOURCE_CLOCK_HOST;
}

static uint32_t losses_of(const struct device *device)
{
    return device->sockets.count > 0 ? SOURCE_LOSSES_SOCKET
         : device->flags & PORT_BLIND ? SOURCE_LOSSES_UNKNOWN : SOURCE_LOSSES_DEVICE;
}

int port_told(struct source *source, struct source_told *told)
{
    const struct device *device = device_of(source);
    struct rte_eth_dev_info info;
    struct rte_ether_addr mac = { 0 };
    int rc = rte_eth_dev_info_get(device->id, &info);
    if (rc < 0)
        return rc;
    *told = (struct source_told){
        .queues_wanted = device->queues_wanted, .queues = device->count, .device = 1,
        .rx_descriptors = device->rx_descriptors, .tx_descriptors = device->tx_descriptors,
        .mtu = device->mtu, .promiscuous = device->promiscuous,
        .all_multicast = device->all_multicast, .multicast_list = device->multicast_list,
        .rss = device->rss, .zero_copy = sockets_zero_copy(&device->sockets),
        .clock = clock_of((struct port *)source), .losses = losses_of(device),
    };
    rte_eth_macaddr_get(device->id, &mac);
    memcpy(told->mac, mac.addr_bytes, sizeof told->mac);
    snprintf(told->driver, sizeof told->driver, "%s", info.driver_name);
    names(device->wanted, told->offloads_wanted, sizeof told->offloads_wanted);
    names(device->offloads, told->offloads, sizeof told->offloads);
    return 0;
}

int port_link(struct source *source)
{
    const struct device *device = device_of(source);
    struct rte_eth_link link;
    if (device->interface.fd >= 0)
        return interface_link(&device->interface);
    if (__atomic_load_n(&device->gone, __ATOMIC_RELAXED) || rte_eth_dev_is_removed(device->id))
        return LINK_STATE_GONE;
    if (rte_eth_link_get_nowait(device->id, &link) < 0)
        return LINK_STATE_UNKNOWN;
    return link.link_status == RTE_ETH_LINK_UP ? LINK_STATE_UP : LINK_STATE_DOWN;
}

/* --- a fault to test with --- */

void port_give_back(struct port *port)
{
    rte_pktmbuf_free_bulk(port->withheld, port->withheld_count);
    free(port->withheld);
    port->withheld = NULL;
    port->withheld_count = 0;
}

int port_hold(struct source *source, uint32_t count)
{
    struct port *port = (struct port *)source;
    port_give_back(port);
    if (count == 0)
        return 0;
    port->withheld = calloc(count, sizeof *port->withheld);
    if (port->withheld == NULL)
        return -ENOMEM;
    while (port->withheld_count < count
           && (port->withheld[port->withheld_count] = rte_pktmbuf_alloc(port->pool)) != NULL)
        port->withheld_count++;
    return (int)port->withheld_count;
}
