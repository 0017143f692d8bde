#include "net/frame.h"
#include "base/checksum.h"
#include "net/ethernet.h"
#include "net/ipv6.h"
#include "wire/inet.h"
#include "wire/read.h"

/* A frame is walked once with a cursor. Each header narrows it to what its own length field
 * allows, so trailing padding and frame check sequences fall away at the IP header.
 *
 * The reason is the first thing wrong from the outside in: lengths and structure, then
 * fragments and protocol, then UDP. Checksums come last, so policy VERIFY only refuses
 * datagrams that the others accept. */

#define HOT(x) __builtin_expect(!!(x), 1)
#define INLINE static inline __attribute__((always_inline))
#define APART static __attribute__((noinline))

enum { PORT_VXLAN = 4789 };

_Static_assert(sizeof(struct ipv4) == 20 && sizeof(struct udp) == 8, "RFC 791, RFC 768");

/* Fast path: IPv4 directly in Ethernet, which nearly every frame is. */
INLINE int is_plain(const struct packet *packet)
{
    const struct ethernet *header = (const void *)packet->data;
    return packet->link == LINK_ETHERNET && packet->caplen >= sizeof *header
        && rd_be16(header->type) == TYPE_IPV4;
}

APART int protocol_reason(unsigned protocol)
{
    switch (protocol) {
    case PROTO_TCP: return COUNT_drop_tcp;
    case PROTO_ICMP:
    case PROTO_ICMPV6: return COUNT_drop_icmp;
    case PROTO_IGMP: return COUNT_drop_igmp;
    case PROTO_IPV4:
    case PROTO_IPV6:
    case PROTO_GRE: return COUNT_drop_encap;
    default: return COUNT_drop_ip_protocol;
    }
}

/* RFC 791 3.1: a one-byte end (0) or no-operation (1), else type, length of the whole, data. */
APART int ipv4_options_reason(const uint8_t *at, const uint8_t *end)
{
    while (at < end && *at != 0) {
        if (*at != 1 && (end - at < 2 || at[1] < 2 || at[1] > end - at))
            return COUNT_drop_ip_header;
        at += *at == 1 ? 1 : at[1];
    }
    return 0;
}

INLINE int ipv4(struct cursor *c, struct datagram *out)
{
    int reason = lacks(c, sizeof(struct ipv4), COUNT_drop_ip_header);
    if (reason)
        return reason;
    const struct ipv4 *ip = (const void *)c->at;
    uint32_t header = (ip->version_ihl & 15) * 4u, total = rd_be16(ip->total);
    if (ip->version_ihl >> 4 != 4)
        return COUNT_drop_ip_version;
    if (header < sizeof *ip || header > c->wire)
        return COUNT_drop_ip_header;
    if (total < header || total > c->wire)
        return COUNT_drop_ip_length;
    narrow(c, total);
    if (!HOT(header == sizeof *ip)) {
        if (header > c->have)
            return COUNT_drop_capture_truncated;
        reason = ipv4_options_reason(c->at + sizeof *ip, c->at + header);
        if (reason)
            return reason;
    }
    take(c, header);
    if (rd_be16(ip->fragment) & 0x3fff)     /* offset, or more fragments */
        return COUNT_drop_ip_fragment;
    out->src = ip->src;
    out->dst = ip->dst;
    out->addr_len = 4;
    return HOT(ip->protocol == PROTO_UDP) ? 0 : protocol_reason(ip->protocol);
}

INLINE int udp(struct cursor *c, struct datagram *out)
{
    int reason = lacks(c, sizeof(struct udp), COUNT_drop_udp_length);
    if (reason)
        return reason;
    const struct udp *udp = (const void *)c->at;
    uint32_t len = rd_be16(udp->length);
    if (len < sizeof *udp)
        return COUNT_drop_udp_length;
    reason = lacks(c, len, COUNT_drop_udp_length);
    if (reason)
        return reason;
    out->sport = rd_be16(udp->sport);
    out->dport = rd_be16(udp->dport);
    out->payload = c->at + sizeof *udp;
    out->len = len - (uint32_t)sizeof *udp;
    return HOT(out->dport != PORT_VXLAN) ? 0 : COUNT_drop_encap;
}

static int ipv4_checksum_wrong(const struct datagram *d)
{
    const uint8_t *ip = d->src - offsetof(struct ipv4, src);
    size_t len = (*ip & 15) * 4u;
    uint64_t sum = HOT(len == 20) ? checksum_add_header(0, ip, 20) : checksum_add(0, ip, len);
    return checksum_fold(sum) != 0xffff;
}

/* RFC 768, RFC 8200 8.1: pseudo header of addresses, protocol and length, then the datagram.
 * The two addresses are neighbours in both IP headers. */
static int udp_checksum_wrong(const struct datagram *d)
{
    uint32_t len = d->len + sizeof(struct udp);
    uint64_t sum = __builtin_bswap16(PROTO_UDP) + (uint64_t)__builtin_bswap16((uint16_t)len);
    sum = checksum_add_header(sum, d->src, d->addr_len == 4 ? 8 : 32);
    return checksum_fold(checksum_add(sum, d->payload - sizeof(struct udp), len)) != 0xffff;
}

static int udp_noted(const struct datagram *d, int flags)
{
    const struct udp *udp = (const void *)(d->payload - sizeof *udp);
    if (rd_be16(udp->checksum) == 0)
        return d->addr_len == 4 ? NOTED_UDP_NO_CHECKSUM : NOTED_UDP_CHECKSUM;
    if (flags & PACKET_L4_GOOD)
        return 0;
    return flags & PACKET_L4_BAD || udp_checksum_wrong(d) ? NOTED_UDP_CHECKSUM : 0;
}

static int ip_noted(const struct datagram *d, int flags)
{
    if (d->addr_len != 4 || flags & PACKET_IP_GOOD)
        return 0;
    return flags & PACKET_IP_BAD || ipv4_checksum_wrong(d) ? NOTED_IP_CHECKSUM : 0;
}

/* Policy AUTO takes the hardware's word, VERIFY only its own. Good and bad set together is the
 * driver saying that the field is not filled in but the packet is whole: good. */
APART int checksums(struct datagram *d, int policy, int flags)
{
    if (policy == CHECKSUM_VERIFY)
        flags = 0;
    d->noted = (uint8_t)(ip_noted(d, flags) | udp_noted(d, flags));
    if (policy != CHECKSUM_VERIFY)
        return 0;
    if (d->noted & NOTED_IP_CHECKSUM)
        return COUNT_drop_ip_checksum;
    return d->noted & NOTED_UDP_CHECKSUM ? COUNT_drop_udp_checksum : 0;
}

/* The copies that the rare paths work on keep the cursor of the common one in registers. */
int frame_parse(const struct packet *packet, int checksum_policy, struct datagram *datagram)
{
    uint32_t caplen = packet->caplen, wirelen = packet->wirelen;
    struct cursor c = { packet->data, caplen, wirelen > caplen ? wirelen : caplen };
    unsigned type = TYPE_IPV4, protocol;
    int reason = 0;
    datagram->vlan = 0;
    datagram->noted = 0;
    if (HOT(is_plain(packet))) {
        take(&c, sizeof(struct ethernet));
    } else {
        struct cursor rest = c;
        reason = link_layer(&rest, packet->link, &type, &datagram->vlan);
        if (reason)
            return reason;
        c = rest;
    }
    if (HOT(type == TYPE_IPV4)) {
        reason = ipv4(&c, datagram);
    } else {
        struct cursor rest = c;
        reason = ipv6_layer(&rest, datagram, &protocol);
        c = rest;
        if (reason == 0 && protocol != PROTO_UDP)
            reason = protocol_reason(protocol);
    }
    if (HOT(reason == 0))
        reason = udp(&c, datagram);
    if (HOT(reason == 0) && checksum_policy != CHECKSUM_IGNORE)
        reason = checksums(datagram, checksum_policy, packet->flags);
    return reason;
}
