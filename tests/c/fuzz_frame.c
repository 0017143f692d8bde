/* Fuzz target for frame_parse. Input: link type, hardware flags, checksum policy, bytes that the
 * wire had beyond the capture; then the frame, copied so that its end is the end of a malloc.
 *
 *   clang -std=gnu11 -g -O1 -march=x86-64-v2 -fsanitize=fuzzer,address,undefined \
 *       -fno-sanitize-recover=all -Icsrc tests/c/fuzz_frame.c csrc/net/frame.c csrc/net/ethernet.c \
 *       csrc/net/ipv6.c csrc/base/checksum.c csrc/count.c -o build/fuzz_frame
 *   build/fuzz_frame -max_total_time=60 -max_len=2048
 */
#include "counter_id.h"
#include "net/frame.h"
#include <stdlib.h>
#include <string.h>

static const uint16_t links[] = {
    LINK_ETHERNET, LINK_RAW, LINK_SLL, LINK_IPV4, LINK_IPV6, LINK_SLL2, LINK_ETHERNET, 0,
};
enum { PREFIX = 4 };

static void require(int holds)
{
    if (!holds)
        __builtin_trap();
}

static int inside(const struct packet *packet, const uint8_t *at, uint32_t len)
{
    return at >= packet->data && at + len <= packet->data + packet->caplen;
}

/* Touches every byte that the datagram promises, so that a wrong promise is a report. */
static void accepted(const struct packet *packet, const struct datagram *d)
{
    require(d->addr_len == 4 || d->addr_len == 16);
    require(inside(packet, d->payload, d->len));
    require(inside(packet, d->src, d->addr_len) && inside(packet, d->dst, d->addr_len));
    require(d->src + d->addr_len <= d->dst && d->dst + d->addr_len <= d->payload - 8);
    require(d->vlan <= 0xfff);
}

static int parse(const struct packet *packet, int policy)
{
    struct datagram d;
    memset(&d, 0xa5, sizeof d);
    int reason = frame_parse(packet, policy, &d);
    if (reason == 0)
        accepted(packet, &d);
    else
        require(reason >= counter_drop_first() && reason < COUNT_drop_no_feed);
    require(policy != CHECKSUM_IGNORE || reason || d.noted == 0);
    return reason;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < PREFIX)
        return 0;
    uint32_t len = (uint32_t)(size - PREFIX);
    uint8_t *frame = malloc(len);    /* of 0 bytes too: any read of it is caught */
    require(frame != NULL);
    memcpy(frame, data + PREFIX, len);
    struct packet packet = {
        .data = frame, .caplen = len, .wirelen = len + data[3] * 8u,
        .link = links[data[0] % 8], .flags = data[1] & 15,
    };
    int reason = parse(&packet, data[2] % 3);
    int plain = parse(&packet, CHECKSUM_IGNORE);
    if (plain)                  /* a policy refuses nothing but checksums */
        require(reason == plain);
    else
        require(reason == 0 || reason == COUNT_drop_ip_checksum || reason == COUNT_drop_udp_checksum);
    free(frame);
    return 0;
}
