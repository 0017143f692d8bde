#include "net/ipv6.h"
#include "wire/inet.h"
#include "wire/read.h"

enum { EXTENSIONS_MAX = 8 };

_Static_assert(sizeof(struct ipv6) == 40 && sizeof(struct ipv6_extension) == 8, "RFC 8200 3, 4");

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

int ipv6_layer(struct cursor *c, struct datagram *out, unsigned *protocol)
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
    out->src = ip->src;
    out->dst = ip->dst;
    out->addr_len = 16;
    *protocol = ip->next;
    reason = extensions(c, protocol);
    return reason == 0 && *protocol == PROTO_ICMPV6 ? icmpv6_reason(c) : reason;
}
