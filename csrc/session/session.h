#pragma once
#include "net/frame.h"

/* Transport framing of one line: a datagram becomes a span of consecutive messages. */

enum { SESSION_ID = 10 };
enum { SPAN_HEARTBEAT = 1, SPAN_END = 2, SPAN_LITTLE_ENDIAN = 4, SPAN_TRAILING = 8 };

struct span {
    uint64_t sequence;          /* of the first message; of a heartbeat: the next one expected */
    uint64_t send_time;         /* ns since the Unix epoch by the sender, 0 when it does not tell */
    uint64_t offset;            /* stream offset of the first byte (IEX-TP), else 0 */
    const uint8_t *blocks;      /* length-prefixed messages */
    uint32_t len;               /* bytes at blocks */
    uint16_t count;             /* messages declared */
    uint16_t flags;             /* SPAN_* */
    char session[SESSION_ID];   /* venue's id, zero padded */
    uint8_t pad[6];
};

struct message {            /* one message as the arbiter passes it on */
    const uint8_t *data;    /* valid until the end of the burst */
    uint64_t sequence;
    uint64_t ts_recv;
    uint32_t len;
    uint32_t pad;
};

/* 0, or the counter of the reason. */
int moldudp64_parse(const struct datagram *datagram, struct span *span);
int iextp_parse(const struct datagram *datagram, uint16_t protocol, struct span *span);
