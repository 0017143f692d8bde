#pragma once
#include "net/frame.h"

/* Transport framing of one line: a datagram becomes a span of consecutive messages. How, is told by
 * the row of the framing; how to walk a span stands in session/message.h. */

enum { SESSION_ID = 10 };
enum { SPAN_HEARTBEAT = 1, SPAN_END = 2, SPAN_TRAILING = 8 };

struct prefix {                 /* what stands before each message of a span */
    uint8_t len;                /* its bytes: 1 or 2; 0: the span is one message, to its end */
    uint8_t own;                /* bytes that its size counts besides those of the message */
    uint8_t shift;              /* 8 when it is one byte, else 0 */
    uint8_t little;             /* 1: little-endian */
};

struct span {
    uint64_t sequence;          /* of the first message; of a heartbeat: the next one expected */
    uint64_t send_time;         /* ns since the Unix epoch by the sender, 0 when it does not tell */
    uint64_t offset;            /* stream offset of the first byte (IEX-TP), else 0 */
    const uint8_t *blocks;      /* messages, each behind its prefix */
    uint32_t len;               /* bytes at blocks */
    uint16_t count;             /* messages declared */
    uint16_t flags;             /* SPAN_* */
    char session[SESSION_ID];   /* venue's id, zero padded */
    uint8_t pad[2];
    struct prefix prefix;
};

struct message {            /* one message as the arbiter passes it on */
    const uint8_t *data;    /* valid until the end of the burst */
    uint64_t sequence;
    uint64_t ts_recv;
    uint32_t len;
    uint32_t pad;
};

enum numbers {              /* what a sequence number counts */
    NUMBERS_MESSAGES,
    NUMBERS_PACKETS,        /* a packet's messages are one to the arbiter, and walked by the decoder */
    NUMBERS_NOTHING,        /* the wire has none (a stream): they are counted as they come */
};

struct framing {            /* a row of session.c */
    const char *name;       /* "moldudp64" */
    uint32_t numbers;       /* enum numbers */
    uint32_t text;          /* 1: its session ids are text, 0: bytes */
    /* 0, or the counter of why the datagram is none of this framing. `variant`: of the protocol
     * that it carries, 0 where the framing does not tell; `next`: the number that this line should
     * bring next, for a framing whose wire has none. */
    int (*parse)(const struct datagram *datagram, uint32_t variant, uint64_t next, struct span *span);
    /* Of a datagram of which nothing is known: 1 when it parses and may well be of this framing,
     * with the variant that it tells. */
    int (*guess)(const struct datagram *datagram, uint32_t *variant, struct span *span);
};

extern const struct framing moldudp64_framing, iextp_framing;

int framing_count(void);
const struct framing *framing_at(int index);    /* NULL when out of range */
