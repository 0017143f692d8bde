#pragma once
#include <stdint.h>

struct datagram {
    const uint8_t *payload;     /* UDP payload */
    uint32_t len;               /* by the UDP and IP lengths, not by the frame's */
    uint16_t sport, dport;
    const uint8_t *src, *dst;   /* addresses inside the packet, network order */
    uint8_t addr_len;           /* 4 or 16 */
    uint8_t noted;              /* NOTED_*: wrong but accepted */
    uint16_t vlan;              /* outermost VLAN id, 0 when untagged */
};

enum { NOTED_IP_CHECKSUM = 1, NOTED_UDP_CHECKSUM = 2, NOTED_UDP_NO_CHECKSUM = 4 };
