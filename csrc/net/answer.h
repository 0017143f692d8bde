#pragma once
#include <stdint.h>

/* What a port that has no kernel behind it must say by itself: ARP replies, ICMP echo replies,
 * and the IGMP that keeps its groups coming. Frames in, frames out; time is an argument, in ns of
 * any clock that does not go back. No I/O, no allocation after answer_create. */

enum {
    ANSWER_FRAME = 1518,        /* longest frame answered, and given: 1,500 bytes of IP and a tag */
    ANSWER_QUEUE = 16,          /* replies that wait; also the longest burst of frames */
    ANSWER_PER_MS = 4,          /* frames per ms, over any time longer than a burst */
};

/* What answer_frame() found a frame to be. */
enum answer_kind {
    ANSWER_NONE,                /* nothing that is answered here, or not for us */
    ANSWER_ARP,                 /* a request for our address: reply queued */
    ANSWER_ECHO,                /* likewise */
    ANSWER_QUERY,               /* IGMP query: a report is due if it touches our groups */
    ANSWER_BAD,                 /* damaged: length, checksum or field; not answered */
    ANSWER_FULL,                /* to be answered, but ANSWER_QUEUE replies wait already */
};

struct answer_config {
    uint8_t mac[6];
    uint16_t vlan;              /* 802.1Q tag (1..4094) of what is sent unasked, 0: untagged */
    uint32_t ip_be;             /* 0: no ARP, no ICMP; IGMP from 0.0.0.0 (RFC 3376 4.2.13) */
    uint32_t pad;
    uint64_t seed;              /* of the random delays */
    uint64_t refresh_ns;        /* report all groups this often, queries or not; 0: never */
};

struct answer_stats {
    uint64_t arp, echo, queries;        /* taken in */
    uint64_t bad, full;                 /* as above */
    uint64_t replies, reports, leaves;  /* frames given out: ARP and ICMP; IGMP reports; v2 leaves */
};

struct answer;
int answer_create(const struct answer_config *config, struct answer **answer);  /* 0, -EINVAL, -ENOMEM */
void answer_destroy(struct answer *answer);

/* Reports go out with the next answer_next(), and again after a random delay in case one is lost.
 * `group_be`: an IPv4 multicast address in wire order. Joining twice is joining once. A group that
 * was left keeps its place until that is said as often. */
int answer_join(struct answer *answer, uint32_t group_be);      /* 0, -EINVAL, -ENOSPC: IGMP_GROUPS_MAX */
int answer_leave(struct answer *answer, uint32_t group_be);     /* 0, -ENOENT */

/* A received frame: what it was (enum answer_kind). What must be sent in reply is queued. */
int answer_frame(struct answer *answer, const uint8_t *frame, uint32_t len, uint64_t now_ns);
/* The next frame due: its length (60..ANSWER_FRAME), 0 when none is due. `out`: ANSWER_FRAME bytes.
 * *due_ns: when to ask again, not after now_ns when more is due already; UINT64_MAX: never.
 * A join, a leave and a frame that was not ANSWER_NONE may make something due earlier. */
uint32_t answer_next(struct answer *answer, uint64_t now_ns, uint8_t *out, uint64_t *due_ns);
/* IGMP version spoken now: 3, or that of the oldest querier heard lately. */
int answer_version(struct answer *answer, uint64_t now_ns);
void answer_stats(const struct answer *answer, struct answer_stats *out);
