#include "frame.h"
#include "checksum.h"
#include "counter_id.h"
#include "wire/inet.h"
#include "wire/read.h"

/* A frame is walked once with a cursor that knows two lengths: how many bytes were captured
 * and how many there were. What the capture cut off is told apart from what the packet lies
 * about by comparing a need with both (lacks). Each header narrows the cursor to what its own
 * length field allows, so trailing padding and frame check sequences fall away at the IP
 * header, and a read is safe when it is within `have`.
 *
 * The reason is the first thing wrong from the outside in: lengths and structure, then
 * fragments and protocol, then UDP. Checksums come last, so policy VERIFY only refuses
 * datagrams that the others accept. */

#define HOT(x) __builtin_expect(!!(x), 1)
#define INLINE static inline __attribute__((always_inline))

enum { TAGS_MAX = 2, EXTENSIONS_MAX = 8, PORT_VXLAN = 4789 };

_Static_assert(sizeof(struct ethernet) == 14 && sizeof(struct vlan_tag) == 4, "IEEE 802.3, 802.1Q");
_Static_assert(sizeof(struct sll) == 16 && sizeof(struct sll2) == 20, "LINKTYPE_LINUX_SLL, SLL2");
_Static_assert(sizeof(struct ipv4) == 20 && sizeof(struct ipv6) == 40, "RFC 791, RFC 8200");
_Static_assert(sizeof(struct ipv6_extension) == 8 && sizeof(struct udp) == 8, "RFC 8200, RFC 768");

struct cursor {
    const uint8_t *at;
    uint32_t have;      /* bytes captured from here on */
    uint32_t wire;      /* bytes there were, or that the IP length allows; >= have */
};

/* 0 when `need` bytes are here; else whose fault it is. */
INLINE int lacks(const struct cursor *c, uint32_t need, int reason)
{
    if (HOT(need <= c->have))
        return 0;
    return need <= c->wire ? COUNT_drop_capture_truncated : reason;
}

/* Past bytes that lacks() found to be here. */
INLINE const void *take(struct cursor *c, uint32_t len)
{
    const uint8_t *header = c->at;
    c->at += len;
    c->have -= len;
    c->wire -= len;
    return header;
}

/* To the length that the IP header states, which lacks() found to be on the wire. */
INLINE void narrow(struct cursor *c, uint32_t len)
{
    c->wire = len;
    if (c->have > len)
        c->have = len;
}

/* ---- link layer ---- */

static int is_tag(unsigned type)
{
    return type == TYPE_8021Q || type == TYPE_8021AD || type == TYPE_QINQ;
}

static int ethertype_reason(unsigned type)
{
    if (type <= TYPE_LENGTH_MAX)
        return COUNT_drop_llc;
    switch (type) {
    case TYPE_ARP: return COUNT_drop_arp;
    case TYPE_LLDP: return COUNT_drop_lldp;
    case TYPE_MAC_CONTROL: return COUNT_drop_pause;
    case TYPE_MPLS:
    case TYPE_MPLS_UPSTREAM:
    case TYPE_PPPOE_DISCOVERY:
    case TYPE_PPPOE_SESSION: return COUNT_drop_encap;
    default: return COUNT_drop_ethertype;
    }
}

/* IEEE 802.1Q tags; the id of the outermost one is kept. */
static int tags(struct cursor *c, unsigned *type, uint16_t *vlan)
{
    for (int i = 0; is_tag(*type); i++) {
        int reason = i < TAGS_MAX ? lacks(c, sizeof(struct vlan_tag), COUNT_drop_vlan) : COUNT_drop_vlan;
        if (reason)
            return reason;
        const struct vlan_tag *tag = take(c, sizeof *tag);
        if (i == 0)
            *vlan = rd_be16(tag->tci) & 0xfff;
        *type = rd_be16(tag->type);
    }
    return 0;
}

/* Link types without an ethertype: the IP version stands for it. */
static int raw_type(const struct cursor *c, int link, unsigned *type)
{
    int reason = lacks(c, 1, COUNT_drop_frame_short);
    if (reason)
        return reason;
    int version = link == LINK_RAW ? *c->at >> 4 : link == LINK_IPV4 ? 4 : 6;
    *type = version == 4 ? TYPE_IPV4 : TYPE_IPV6;
    return version == 4 || version == 6 ? 0 : COUNT_drop_ip_version;
}

static int cooked_type(struct cursor *c, int link, unsigned *type)
{
    uint32_t len = link == LINK_SLL ? sizeof(struct sll) : sizeof(struct sll2);
    int reason = lacks(c, len, COUNT_drop_frame_short);
    if (reason)
        return reason;
    const void *header = take(c, len);
    *type = rd_be16(link == LINK_SLL ? ((const struct sll *)header)->type : ((const struct sll2 *)header)->type);
    return 0;
}

INLINE int ethernet_type(struct cursor *c, unsigned *type)
{
    int reason = lacks(c, sizeof(struct ethernet), COUNT_drop_frame_short);
    if (reason)
        return reason;
    const struct ethernet *header = take(c, sizeof *header);
    *type = rd_be16(header->type);
    return 0;
}

static int other_link(struct cursor *c, int link, unsigned *type)
{
    switch (link) {
    case LINK_SLL:
    case LINK_SLL2: return cooked_type(c, link, type);
    case LINK_RAW:
    case LINK_IPV4:
    case LINK_IPV6: return raw_type(c, link, type);
    default: return COUNT_drop_link_unknown;
    }
}

/* ---- network layer ---- */

static int protocol_reason(unsigned protocol)
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
static int ipv4_options_reason(const uint8_t *at, const uint8_t *end)
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

/* RFC 8200 4.2: Pad1 (0), else type, length of the data, data. Types whose upper two bits are
 * set must be understood or the packet discarded; the jumbo payload (RFC 2675) is one. */
static int ipv6_options_reason(const uint8_t *at, const uint8_t *end)
{
    while (at < end) {
        if (*at != 0 && (*at >> 6 != 0 || end - at < 2 || at[1] > end - at - 2))
            return COUNT_drop_ipv6_extension;
        at += *at == 0 ? 1 : 2 + at[1];
    }
    return 0;
}

/* One extension header: RFC 8200 4.3 to 4.6, AH by RFC 4302 2.2. */
static int extension(struct cursor *c, unsigned kind, unsigned *next)
{
    int reason = lacks(c, sizeof(struct ipv6_extension), COUNT_drop_ipv6_extension);
    if (reason)
        return reason;
    const struct ipv6_extension *header = (const void *)c->at;
    uint32_t len = (header->length + 1) * 8u;
    if (kind == PROTO_FRAGMENT)
        len = sizeof *header;
    if (kind == PROTO_AH) {
        len = (header->length + 2) * 4u;
        if (len < 12)                       /* its fixed part */
            return COUNT_drop_ipv6_extension;
    }
    reason = lacks(c, len, COUNT_drop_ipv6_extension);
    if (reason)
        return reason;
    take(c, len);
    *next = header->next;
    switch (kind) {
    case PROTO_FRAGMENT:    /* an atomic one, offset 0 and no more, is a whole packet: RFC 6946 */
        return rd_be16(header->fragment) & 0xfff9 ? COUNT_drop_ip_fragment : 0;
    case PROTO_ROUTING:     /* segments left: not at its destination yet, 4.4 */
        return header->fragment.byte[1] ? COUNT_drop_ipv6_extension : 0;
    case PROTO_AH:
        return 0;
    default:
        return ipv6_options_reason((const uint8_t *)header + 2, (const uint8_t *)header + len);
    }
}

/* Headers up to the first that is not an extension, whose number comes out in `next`. */
static int extensions(struct cursor *c, unsigned *next)
{
    for (int i = 0; i <= EXTENSIONS_MAX; i++) {
        int reason;
        switch (*next) {
        case PROTO_HOPOPTS:                 /* only directly behind the IPv6 header, 4.1 */
            reason = i == 0 ? extension(c, *next, next) : COUNT_drop_ipv6_extension;
            break;
        case PROTO_ROUTING:
        case PROTO_FRAGMENT:
        case PROTO_AH:
        case PROTO_DSTOPTS:
            reason = extension(c, *next, next);
            break;
        case PROTO_NONE:
            return COUNT_drop_ipv6_extension;
        default:
            return 0;
        }
        if (reason)
            return reason;
    }
    return COUNT_drop_ipv6_extension;
}

/* Multicast listener discovery rides in ICMPv6: RFC 2710 and RFC 3810 (143). */
static int icmpv6_reason(const struct cursor *c)
{
    int type = c->have > 0 ? *c->at : 0;
    return (type >= 130 && type <= 132) || type == 143 ? COUNT_drop_igmp : COUNT_drop_icmp;
}

static int ipv6(struct cursor *c, struct datagram *out)
{
    int reason = lacks(c, sizeof(struct ipv6), COUNT_drop_ip_header);
    if (reason)
        return reason;
    const struct ipv6 *ip = take(c, sizeof *ip);
    if (ip->version.byte[0] >> 4 != 6)
        return COUNT_drop_ip_version;
    if (rd_be16(ip->length) > c->wire)
        return COUNT_drop_ip_length;
    narrow(c, rd_be16(ip->length));
    unsigned next = ip->next;
    if (next != PROTO_UDP) {
        reason = extensions(c, &next);
        if (reason)
            return reason;
        if (next != PROTO_UDP)
            return next == PROTO_ICMPV6 ? icmpv6_reason(c) : protocol_reason(next);
    }
    out->src = ip->src;
    out->dst = ip->dst;
    out->addr_len = 16;
    return 0;
}

/* ---- transport layer ---- */

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
    return checksum_fold(checksum_add_header(0, ip, (*ip & 15) * 4u)) != 0xffff;
}

/* RFC 768, RFC 8200 8.1: pseudo header of addresses, protocol and length, then the datagram.
 * The two addresses are neighbours in both IP headers. */
static int udp_checksum_wrong(const struct datagram *d)
{
    uint32_t len = d->len + sizeof(struct udp);
    uint64_t sum = __builtin_bswap16(PROTO_UDP) + (uint64_t)__builtin_bswap16((uint16_t)len);
    sum = checksum_add_header(sum, d->src, 2u * d->addr_len);
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
static int checksums(struct datagram *d, int policy, int flags)
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

int frame_parse(const struct packet *packet, int checksum_policy, struct datagram *datagram)
{
    uint32_t caplen = packet->caplen, wirelen = packet->wirelen;
    struct cursor c = { packet->data, caplen, wirelen > caplen ? wirelen : caplen };
    unsigned type = 0;
    datagram->vlan = 0;
    datagram->noted = 0;
    int reason = HOT(packet->link == LINK_ETHERNET) ? ethernet_type(&c, &type) : other_link(&c, packet->link, &type);
    if (reason == 0 && !HOT(type == TYPE_IPV4))
        reason = tags(&c, &type, &datagram->vlan);
    if (reason)
        return reason;
    if (HOT(type == TYPE_IPV4))
        reason = ipv4(&c, datagram);
    else
        reason = type == TYPE_IPV6 ? ipv6(&c, datagram) : ethertype_reason(type);
    if (reason == 0)
        reason = udp(&c, datagram);
    if (reason == 0 && checksum_policy != CHECKSUM_IGNORE)
        reason = checksums(datagram, checksum_policy, packet->flags);
    return reason;
}
