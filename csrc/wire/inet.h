#pragma once
#include "scalar.h"

/* Headers below UDP: Ethernet II and IEEE 802.1Q, Linux cooked captures, IPv4 (RFC 791),
 * IPv6 (RFC 8200), UDP (RFC 768). */

enum ethertype {
    TYPE_LENGTH_MAX = 1500,     /* IEEE 802.3 3.2.6: up to here it is a length */
    TYPE_IPV4 = 0x0800,
    TYPE_ARP = 0x0806,
    TYPE_8021Q = 0x8100,
    TYPE_IPV6 = 0x86dd,
    TYPE_MAC_CONTROL = 0x8808,
    TYPE_MPLS = 0x8847,
    TYPE_MPLS_UPSTREAM = 0x8848,
    TYPE_PPPOE_DISCOVERY = 0x8863,
    TYPE_PPPOE_SESSION = 0x8864,
    TYPE_8021AD = 0x88a8,
    TYPE_LLDP = 0x88cc,
    TYPE_QINQ = 0x9100,         /* before 802.1ad */
};

enum ip_protocol {               /* IANA protocol numbers, shared by IPv4 and IPv6 */
    PROTO_HOPOPTS = 0,
    PROTO_ICMP = 1,
    PROTO_IGMP = 2,
    PROTO_IPV4 = 4,
    PROTO_TCP = 6,
    PROTO_UDP = 17,
    PROTO_IPV6 = 41,
    PROTO_ROUTING = 43,
    PROTO_FRAGMENT = 44,
    PROTO_GRE = 47,
    PROTO_AH = 51,
    PROTO_ICMPV6 = 58,
    PROTO_NONE = 59,
    PROTO_DSTOPTS = 60,
};

struct ethernet { uint8_t dst[6], src[6]; be16 type; };
struct vlan_tag { be16 tci, type; };

/* https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html and ..._SLL2.html */
struct sll { be16 kind, arphrd, addr_len; uint8_t addr[8]; be16 type; };
struct sll2 { be16 type, reserved; be32 ifindex; be16 arphrd; uint8_t kind, addr_len, addr[8]; };

struct ipv4 {
    uint8_t version_ihl, tos;
    be16 total, id, fragment;
    uint8_t ttl, protocol;
    be16 checksum;
    uint8_t src[4], dst[4];
};
struct ipv6 {
    be32 version;       /* and traffic class, flow label */
    be16 length;
    uint8_t next, hops, src[16], dst[16];
};
struct ipv6_extension { /* what all have in common, as far as a receiver needs it */
    uint8_t next, length;
    be16 fragment;      /* fragment header: offset and more-fragments; routing: type, segments left */
    uint8_t rest[4];
};
struct udp { be16 sport, dport, length, checksum; };
