#include "dpdk/impl.h"

int port_poll(struct source *source, int max)
{
    const struct port *port = (const struct port *)source;
    struct rte_mbuf *mbufs[BURST_MAX];
    uint16_t n = rte_eth_rx_burst(port->id, port->queue, mbufs, (uint16_t)RTE_MIN(max, (int)port->burst_max));
    rte_pktmbuf_free_bulk(mbufs, n);
    return n;
}
