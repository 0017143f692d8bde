#pragma once
#include "base/utc.h"
#include "source/source.h"

/* A kernel interface as a source, through a memory-mapped packet socket and without DPDK: it
 * knows what net_af_packet hides (exact drops, cut frames, stripped tags, the kernel's stamps). */

struct tpacket_config {
    const char *interface;
    const struct utc *clock;    /* stamps bursts, as a port's does; NULL: the kernel's stamps */
    uint32_t ring_mb;           /* 1 to 2048 */
    uint32_t mtu;               /* longer frames are cut, and shown so */
    int32_t promiscuous;        /* every frame on the wire, whomever it is for */
};

/* Needs CAP_NET_RAW. 0, or a negative errno with reason (REASON_SIZE bytes) filled. burst() makes no
 * system call; send() does. Once source_link() has seen the interface gone, burst() gives what is
 * left and then -ENODEV. source_groups() adds to the list, which ends with the source. */
int tpacket_open(const struct tpacket_config *config, struct source **source, char *reason);
