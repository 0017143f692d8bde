#pragma once
#include <stdint.h>

/* All that the core sees of a frame. A source fills a burst of these; the bytes stay
 * valid until the next burst is asked for. */

enum {                  /* link types, numbered as in https://www.tcpdump.org/linktypes.html */
    LINK_ETHERNET = 1,
    LINK_RAW = 101,     /* begins at the IP header */
    LINK_SLL = 113,     /* Linux cooked capture */
    LINK_IPV4 = 228,
    LINK_IPV6 = 229,
    LINK_SLL2 = 276,
};

enum {                  /* packet.flags: what the hardware already found out */
    PACKET_IP_GOOD = 1,
    PACKET_IP_BAD = 2,
    PACKET_L4_GOOD = 4,
    PACKET_L4_BAD = 8,
};

struct packet {
    const uint8_t *data;
    uint64_t ts_recv;   /* ns since the Unix epoch, clock domain of the source */
    uint32_t caplen;    /* bytes present at data */
    uint32_t wirelen;   /* bytes the frame had on the wire, >= caplen */
    uint16_t port;      /* index of the source within the engine */
    uint16_t link;      /* LINK_* */
    uint16_t flags;     /* PACKET_* */
    uint16_t pad;
};
