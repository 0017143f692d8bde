#pragma once
#include "count.h"
#include "source/source.h"

/* What is in a capture: every destination, its framing, sessions and sequence gaps. */

enum { SURVEY_STREAMS = 512 };

struct stream {             /* one destination address and port */
    uint8_t dst[16];
    uint8_t addr_len;       /* 4 or 16 */
    int8_t framing;         /* of framing_at(), by its first packets; -1: unknown */
    uint16_t port;
    uint16_t vlan;          /* of the first packet */
    uint16_t variant;       /* of the framing, as its first packet tells it */
    uint64_t packets, bytes;            /* UDP payload bytes */
    uint64_t messages, heartbeats;
    uint64_t sessions;                  /* changes of session id, and restarts, plus one */
    uint64_t first, next;               /* of the current session: sequences [first, next) */
    uint64_t gaps, lost;                /* over all sessions: holes as this line shows them */
    uint64_t behind;                    /* packets below the highest sequence: copies, reordering */
    uint64_t not_framed;                /* packets that do not parse as `framing` */
    uint64_t ts_first, ts_last;
    uint64_t send_last;                 /* newest sender's time stamp (IEX-TP) */
    char session[16];                   /* current */
    uint8_t type;                       /* first byte of the first message, 0: none yet */
    uint8_t pad;
    uint16_t length;                    /* of that message */
    uint32_t pad2;
};

struct survey {
    struct counters counters;           /* frames, and why they were dropped */
    uint64_t streams_lost;              /* datagrams to destinations beyond SURVEY_STREAMS */
    uint64_t ts_first, ts_last;
    uint32_t streams;
    uint32_t pad;
    struct stream stream[SURVEY_STREAMS];
};

/* Reads at most `packets_max` more packets. > 0: packets read; else as source.burst(). */
int survey_step(struct survey *survey, struct source *source, int packets_max);
