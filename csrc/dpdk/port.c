#include "dpdk/impl.h"
#include <errno.h>
#include <rte_mbuf_dyn.h>
#include <string.h>
#include <time.h>

/* A DPDK port as a source: the packet path. Drivers differ in what they tell, so nothing is
 * taken from them on trust:
 * - The mbufs of a burst stay ours until the next one, so views need no copy. Only chained
 *   mbufs are copied, into a slot of `scratch` per frame of the burst.
 * - pkt_len may exceed the bytes in the chain: caplen is what is there, wirelen what is claimed.
 * - net_af_packet tells of a frame that its ring cut only that it is as long as fits there
 *   (`cut_at`), more than the interface's MTU allows: it is shown one byte longer on the wire.
 * - A file driver takes the record from the file before it asks for an mbuf, and loses the
 *   record when there is none. So the pool holds a whole burst of the largest frames, or the
 *   burst is made smaller (open.c), and a replay that lost a record all the same
 *   ends in an error instead of a clean end.
 *
 * Frames to send are copied into mbufs of a pool of their own, which receiving cannot empty. */

enum { IDLE = 64 };

/* --- receiving --- */

static uint64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A clock that stands still or goes back between two bursts does not make them one. */
static uint64_t burst_stamp(struct port *port)
{
    uint64_t now = port->clock != NULL ? utc_now(port->clock) : wall_ns();
    return port->stamped = RTE_MAX(now, port->stamped + 1);
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
static uint64_t stamp(struct port *port, const struct rte_mbuf *mbuf, uint64_t *now)
{
    if (mbuf->ol_flags & port->stamp_mask) {
        uint64_t told = *RTE_MBUF_DYNFIELD(mbuf, port->stamp_offset, const rte_mbuf_timestamp_t *);
        return port->device_clock != NULL ? utc_at(port->device_clock, told) : told * port->stamp_ns;
    }
    if (*now == 0)
        *now = burst_stamp(port);
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
    uint32_t wirelen = RTE_MAX(mbuf->pkt_len, len) + (len >= port->cut_at);
    port->counted.oversize += wirelen > len;
    *packet = (struct packet){
        .data = data,
        .ts_recv = stamp(port, mbuf, now),
        .caplen = len,
        .wirelen = wirelen,
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

/* Looks through the caches of all threads, so only at one in IDLE empty bursts, and the first. */
static void look_at_pool(struct port *port)
{
    if (port->idle++ % IDLE == 0)
        port->counted.starved += (unsigned)rte_mempool_empty(port->pool);
}

int port_burst(struct source *source, struct packet *packets, int max)
{
    struct port *port = (struct port *)source;
    if (port->ended != 0 || max <= 0)
        return port->ended;
    rte_pktmbuf_free_bulk(port->held, port->count);
    uint16_t room = (uint16_t)RTE_MIN(max, (int)port->burst_max);
    port->count = rte_eth_rx_burst(port->id, port->queue, port->held, room);
    if (port->count == 0 && port->flags & PORT_ENDS)
        return port->ended = replay_end(port);
    if (port->count == 0) {
        look_at_pool(port);
        return 0;
    }
    port->idle = 0;
    uint64_t now = 0;
    for (unsigned i = 0; i < port->count; i++)
        view(port, i, &now, &packets[i]);
    port->counted.received += port->count;
    return port->count;
}

/* --- sending --- */

/* Copies frames until one does not fit, or no mbuf is left; returns how many. */
static uint16_t copy(struct port *port, const struct outgoing *frames, int count,
                     struct rte_mbuf **mbufs)
{
    uint16_t n = 0;
    for (; n < count && frames[n].len >= RTE_ETHER_HDR_LEN && frames[n].len <= port->frame_max; n++) {
        mbufs[n] = rte_pktmbuf_alloc(port->send_pool);
        if (mbufs[n] == NULL)
            break;
        memcpy(rte_pktmbuf_append(mbufs[n], (uint16_t)frames[n].len), frames[n].data, frames[n].len);
    }
    return n;
}

/* At most BURST_MAX frames; what the device does not take is freed, and asked for again. */
static int send_some(struct port *port, const struct outgoing *frames, int count)
{
    struct rte_mbuf *mbufs[BURST_MAX];
    uint16_t ready = copy(port, frames, count, mbufs);
    uint16_t taken = rte_eth_tx_burst(port->id, port->queue, mbufs, ready);
    rte_pktmbuf_free_bulk(mbufs + taken, (unsigned)(ready - taken));
    return taken;
}

static int fits(const struct port *port, const struct outgoing *frame)
{
    return frame->len > port->frame_max ? -EMSGSIZE
         : frame->len < RTE_ETHER_HDR_LEN ? -EINVAL : 0;
}

/* A frame that is refused stops the call: the frames before it are told as taken, and it is
 * told when it comes first. */
int port_send(struct source *source, const struct outgoing *frames, int count)
{
    struct port *port = (struct port *)source;
    int done = 0, some = 0, rc = 0;
    if (count > 0 && (rc = fits(port, frames)) < 0) {
        port->counted.send_refused++;
        return rc;
    }
    while (done < count) {
        int most = RTE_MIN(count - done, (int)BURST_MAX);
        done += some = send_some(port, frames + done, most);
        if (some < most)
            break;
    }
    port->counted.sent += (uint64_t)done;
    port->counted.send_full += done < count && fits(port, &frames[done]) == 0;
    return done;
}
