#define _GNU_SOURCE     /* sendmmsg */
#include "source/tpacket.h"
#include "event.h"
#include "source/interface.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* A ring of slots, one frame each, mapped from the kernel (Documentation/networking/
 * packet_mmap.rst). The kernel fills a slot and stores its status; we show a view of the frame
 * where it lies, and store TP_STATUS_KERNEL when the next burst is asked for.
 *
 * TPACKET_V2, not V3: V3 packs frames into blocks and hands a block over when it is full or a
 * timer of at least a millisecond has run out. Measured over a veth, one frame at a time, from
 * send() to seen: V2 1.5 us at the median and 8 us at p99, V3 0.5 ms and 1.0 ms. What V3 is
 * better at is room (16 MB hold 8,192 slots, or 70,000 frames of 100 bytes): ask for a larger ring.
 *
 * The kernel's stamp is CLOCK_REALTIME when it put the frame into the ring, or earlier, when it
 * took it from the device, if some socket on the host asked for such stamps. Stamps of the
 * device's own clock are not asked for: their epoch is the device's affair.
 *
 * A VLAN tag was taken out of the frame (of two the outer one): there is room before the frame
 * to put it back. A frame whose checksum was left to a device that it never met (a sender on
 * this host) counts as checked, as the kernel has it. Fragments stay as they are. */

enum {
    TAG = 4,
    /* TPACKET2_HDRLEN with the address, padding up to the network header, the Ethernet header */
    SLOT_OVERHEAD = 128, SLOT_MIN = 2048, BLOCK_MIN = 65536,
    FRAME_TAGS = 2 * TAG,
};

struct tpacket {
    struct source source;       /* first: a source of this kind is a tpacket */
    struct netdev interface;
    struct sockets socket;      /* the one whose ring this is */
    const struct utc *clock;
    uint8_t *ring;
    size_t size;
    uint32_t slot_size, slots;
    uint32_t next;              /* slot to look at */
    uint32_t held;              /* slots before it that the last burst looked at */
    uint32_t burst_max;
    uint32_t mtu;
    int promiscuous, multicast_list;    /* as in struct source_told */
    int gone;                   /* stored by tpacket_link(), on another thread */
    uint64_t stamped, dropped;
    struct source_stats own;
};

/* --- the packet path --- */

static struct tpacket2_hdr *slot_at(const struct tpacket *t, uint32_t slot)
{
    return (struct tpacket2_hdr *)(void *)(t->ring + (size_t)slot * t->slot_size);
}

static void release(struct tpacket *t)
{
    for (; t->held > 0; t->held--) {
        uint32_t slot = t->next >= t->held ? t->next - t->held : t->next + t->slots - t->held;
        /* Release: pairs with the kernel's look at the status before it fills the slot again. */
        __atomic_store_n(&slot_at(t, slot)->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    }
}

static uint8_t *put_tag_back(const struct tpacket2_hdr *slot, uint8_t *frame)
{
    uint16_t tpid = htons(slot->tp_status & TP_STATUS_VLAN_TPID_VALID ? slot->tp_vlan_tpid : ETH_P_8021Q);
    uint16_t tci = htons(slot->tp_vlan_tci);
    memmove(frame - TAG, frame, 2 * ETH_ALEN);
    memcpy(frame - TAG + 2 * ETH_ALEN, &tpid, sizeof tpid);
    memcpy(frame - TAG + 2 * ETH_ALEN + sizeof tpid, &tci, sizeof tci);
    return frame - TAG;
}

static uint64_t stamp(struct tpacket *t, const struct tpacket2_hdr *slot, uint64_t *now)
{
    if (t->clock == NULL)
        return slot->tp_sec * 1000000000ull + slot->tp_nsec;
    if (*now == 0) {
        *now = utc_now(t->clock);
        t->stamped = *now = *now > t->stamped ? *now : t->stamped + 1;
    }
    return *now;
}

/* 1 with a view of the slot's frame, 0 when it is none of ours. */
static int view(struct tpacket *t, struct tpacket2_hdr *slot, uint64_t *now, struct packet *packet)
{
    const struct sockaddr_ll *from = (const void *)((uint8_t *)slot + TPACKET_ALIGN(sizeof *slot));
    uint8_t *frame = (uint8_t *)slot + slot->tp_mac;
    uint32_t len = slot->tp_snaplen, wirelen = slot->tp_len;
    if (from->sll_pkttype == PACKET_OUTGOING || slot->tp_mac + len > t->slot_size)
        return 0;
    if (slot->tp_status & TP_STATUS_VLAN_VALID && len >= 2 * ETH_ALEN) {
        frame = put_tag_back(slot, frame);
        len += TAG;
        wirelen += TAG;
    }
    t->own.oversize += wirelen > len;
    *packet = (struct packet){
        .data = frame, .ts_recv = stamp(t, slot, now), .caplen = len, .wirelen = wirelen > len ? wirelen : len,
        .link = LINK_ETHERNET,
        .flags = slot->tp_status & (TP_STATUS_CSUM_VALID | TP_STATUS_CSUMNOTREADY) ? PACKET_L4_GOOD : 0,
    };
    return 1;
}

static int tpacket_burst(struct source *source, struct packet *packets, int max)
{
    struct tpacket *t = (struct tpacket *)source;
    uint64_t now = 0;
    int n = 0;
    if (max <= 0)
        return 0;
    release(t);
    while (n < max && t->held < t->burst_max) {
        struct tpacket2_hdr *slot = slot_at(t, t->next);
        /* Acquire: pairs with the kernel's barrier before it stores the status; the frame is whole. */
        if (!(__atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
            break;
        n += view(t, slot, &now, &packets[n]);
        t->next = t->next + 1 == t->slots ? 0 : t->next + 1;
        t->held++;
    }
    t->own.received += (uint64_t)n;
    return n == 0 && t->held == 0 && __atomic_load_n(&t->gone, __ATOMIC_RELAXED) ? -ENODEV : n;
}

/* --- sending: a system call for up to BURST_MAX frames --- */

static int send_some(struct tpacket *t, const struct outgoing *frames, int count)
{
    struct mmsghdr messages[BURST_MAX];
    struct iovec parts[BURST_MAX];
    for (int i = 0; i < count; i++) {
        parts[i] = (struct iovec){ (void *)(uintptr_t)frames[i].data, frames[i].len };
        messages[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &parts[i], .msg_iovlen = 1 } };
    }
    int rc = sendmmsg(t->socket.fd[0], messages, (unsigned)count, MSG_DONTWAIT);
    if (rc >= 0)
        return rc;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS ? 0 : -errno;
}

static int tpacket_send(struct source *source, const struct outgoing *frames, int count)
{
    struct tpacket *t = (struct tpacket *)source;
    int done = 0, rc = 0;
    while (done < count && rc >= 0) {
        int most = count - done < BURST_MAX ? count - done : BURST_MAX;
        rc = send_some(t, frames + done, most);
        done += rc > 0 ? rc : 0;
        if (rc < most)
            break;
    }
    t->own.sent += (uint64_t)done;
    t->own.send_full += done < count && rc >= 0;
    t->own.send_refused += done == 0 && (rc == -EMSGSIZE || rc == -EINVAL);
    return done > 0 || count == 0 ? done : rc;
}

/* --- what it tells of itself --- */

static int tpacket_stats(struct source *source, struct source_stats *stats)
{
    struct tpacket *t = (struct tpacket *)source;
    *stats = t->own;
    return sockets_dropped(&t->socket, &t->dropped, &stats->missed);
}

static int tpacket_told(struct source *source, struct source_told *told)
{
    const struct tpacket *t = (const struct tpacket *)source;
    struct sockaddr_ll at = { 0 };
    socklen_t len = sizeof at;
    *told = (struct source_told){
        .driver = "packet socket", .queues_wanted = 1, .queues = 1,
        .device = 1, .rx_descriptors = t->slots, .mtu = t->mtu,
        .promiscuous = t->promiscuous, .multicast_list = t->multicast_list, .zero_copy = -1,
        .clock = t->clock != NULL ? SOURCE_CLOCK_TSC : SOURCE_CLOCK_KERNEL, .losses = SOURCE_LOSSES_SOCKET,
    };
    if (getsockname(t->socket.fd[0], (struct sockaddr *)&at, &len) < 0)
        return -errno;
    memcpy(told->mac, at.sll_addr, sizeof told->mac);
    return 0;
}

static int tpacket_link(struct source *source)
{
    struct tpacket *t = (struct tpacket *)source;
    int state = interface_link(&t->interface);
    if (state == LINK_STATE_GONE)
        __atomic_store_n(&t->gone, 1, __ATOMIC_RELAXED);
    return state;
}

static int tpacket_groups(struct source *source, const uint8_t *macs, uint32_t count, char *reason)
{
    struct tpacket *t = (struct tpacket *)source;
    int rc = 0;
    for (uint32_t i = 0; i < count && rc == 0; i++)
        rc = interface_join(&t->interface, macs + 6 * i);
    t->multicast_list = rc == 0 ? 1 : rc;
    if (rc < 0)
        snprintf(reason, REASON_SIZE, "%.100s", strerror(-rc));
    return rc < 0 ? rc : SOURCE_GROUPS_LIST;
}

/* --- opening and closing --- */

static void tpacket_close(struct source *source)
{
    struct tpacket *t = (struct tpacket *)source;
    if (t->ring != NULL)
        munmap(t->ring, t->size);
    if (t->socket.count > 0)
        close(t->socket.fd[0]);
    interface_close(&t->interface);
    free(t);
}

static const struct source_ops ops = {
    .close = tpacket_close, .stats = tpacket_stats, .told = tpacket_told, .link = tpacket_link,
    .groups = tpacket_groups,
};

static int set(const struct tpacket *t, int option, int value)
{
    return setsockopt(t->socket.fd[0], SOL_PACKET, option, &value, sizeof value) < 0 ? -errno : 0;
}

/* Blocks of 64 kB, or one slot where that is larger: whole pages, and slots follow without a hole. */
static int map_ring(struct tpacket *t, const struct tpacket_config *config)
{
    uint32_t need = config->mtu + SLOT_OVERHEAD + FRAME_TAGS;
    for (t->slot_size = SLOT_MIN; t->slot_size < need; t->slot_size *= 2) {}
    uint32_t block = t->slot_size > BLOCK_MIN ? t->slot_size : BLOCK_MIN;
    struct tpacket_req ring = { .tp_block_size = block, .tp_frame_size = t->slot_size };
    ring.tp_block_nr = (unsigned)(((uint64_t)config->ring_mb << 20) / block);
    ring.tp_frame_nr = ring.tp_block_nr * (block / t->slot_size);
    if (setsockopt(t->socket.fd[0], SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring) < 0)
        return -errno;
    t->slots = ring.tp_frame_nr;
    t->burst_max = t->slots / 2 < BURST_MAX ? t->slots / 2 : BURST_MAX;
    size_t size = (size_t)ring.tp_block_nr * block;
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, t->socket.fd[0], 0);
    if (at == MAP_FAILED)
        return -errno;
    t->ring = at;
    t->size = size;
    return 0;
}

/* Nothing is received before the ring stands: the socket gets its protocol with bind(). */
static int set_up(struct tpacket *t, const struct tpacket_config *config, const char **step)
{
    struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
    *step = "interface";
    int rc = interface_open(&t->interface, config->interface);
    if (rc < 0)
        return rc;
    *step = "socket";
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    t->socket = (struct sockets){ .fd = { fd }, .domain = { AF_PACKET }, .count = 1 };
    sockets_ignore_outgoing(&t->socket);
    *step = "ring";
    if ((rc = set(t, PACKET_VERSION, TPACKET_V2)) < 0 || (rc = set(t, PACKET_RESERVE, TAG)) < 0
        || (rc = map_ring(t, config)) < 0)
        return rc;
    *step = "bind";
    address.sll_ifindex = t->interface.index;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    if (config->promiscuous)
        t->promiscuous = (rc = interface_accept(&t->interface, INTERFACE_PROMISCUOUS)) == 0 ? 1 : rc;
    return 0;
}

int tpacket_open(const struct tpacket_config *config, struct source **source, char *reason)
{
    enum { RING_MB_MAX = 2048, MTU_MAX = 1 << 20 };
    *source = NULL;
    if (config->ring_mb == 0 || config->ring_mb > RING_MB_MAX || config->mtu == 0 || config->mtu > MTU_MAX / 4) {
        snprintf(reason, REASON_SIZE, "ring_mb or mtu out of range");
        return -EINVAL;
    }
    struct tpacket *t = calloc(1, sizeof *t);
    if (t == NULL) {
        snprintf(reason, REASON_SIZE, "no memory");
        return -ENOMEM;
    }
    t->source = (struct source){ .burst = tpacket_burst, .send = tpacket_send, .ops = &ops };
    t->interface.fd = -1;
    t->clock = config->clock;
    t->mtu = config->mtu;
    const char *step;
    int rc = set_up(t, config, &step);
    if (rc < 0) {
        snprintf(reason, REASON_SIZE, "%s: %.100s", step, strerror(-rc));
        tpacket_close(&t->source);
        return rc;
    }
    *source = &t->source;
    return 0;
}
