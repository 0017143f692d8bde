#pragma once
#include <stdint.h>

/* The host's side of IGMP: which message is due when. Messages without their IP header. */

enum {
    IGMP_GROUPS_MAX = 64,
    IGMP_SOURCES = 32,          /* of a query about sources; more are answered with the whole group */
    IGMP_TAGGED = 1 << 16,
    IGMP_MESSAGE_MAX = 1476,    /* 1,500 less a header with one option */
};

struct igmp_member {
    uint32_t group_be;          /* 0: free */
    uint16_t leaving, sent;     /* reports of the change that were sent */
    uint32_t unsent;            /* reports of the change (joined, left) that are still to be sent */
    uint32_t sources;           /* asked about, 0: about the group */
    uint64_t change_due, query_due;
    uint32_t query_tag;
    uint32_t source_be[IGMP_SOURCES];
};

struct igmp {
    struct igmp_member member[IGMP_GROUPS_MAX];
    uint64_t general_due;       /* IGMPv3: one report for all groups */
    uint32_t general_tag;
    uint32_t own_tag;           /* of what is sent unasked; tags as in struct igmp_message */
    uint64_t v1_until, v2_until;            /* an older querier is believed to be there */
    uint64_t refresh_ns, refresh_due;
    uint64_t interval_ns, random;
    uint32_t robustness;
    int version;                /* that the state below `member` was made for */
};

struct igmp_message {
    uint32_t dst_be, tag;       /* tag: 0 untagged, else IGMP_TAGGED | tag control information */
    uint32_t len;               /* 0: none */
    int leave;
    uint8_t byte[IGMP_MESSAGE_MAX];
};

void igmp_init(struct igmp *igmp, uint32_t own_tag, uint64_t seed, uint64_t refresh_ns);
int igmp_join(struct igmp *igmp, uint32_t group_be);
int igmp_leave(struct igmp *igmp, uint32_t group_be);
int igmp_version(struct igmp *igmp, uint64_t now_ns);
/* A message whose checksum is right, len >= 8, sent to dst_be: 1 for a query, 0 for
 * nothing that is answered here, -EBADMSG for a damaged one. */
int igmp_receive(struct igmp *igmp, const uint8_t *message, uint32_t len, uint32_t dst_be,
    uint32_t own_be, uint32_t tag, uint64_t now_ns);
/* The next message due; its len is 0 when there is none. Checksum filled in. */
void igmp_next(struct igmp *igmp, uint64_t now_ns, struct igmp_message *out);
uint64_t igmp_due(const struct igmp *igmp);     /* of the earliest message, UINT64_MAX: never */
