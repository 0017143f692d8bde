#pragma once
#include "book/book.h"
#include "ring/instruments.h"
#include "ring/outlet.h"
#include "session/session.h"

/* From venue messages to events: the meaning of a protocol. */

struct decoder {            /* what a protocol's decode function works on, one per feed */
    struct outlet out;
    struct books *books;
    struct instruments *instruments;    /* names what the books are of; NULL: nobody asks */
    const struct protocol *protocol;
    void *state;            /* of the protocol: symbol table and such */
    uint64_t midnight_ns;   /* of the session's day at the venue, ns since the Unix epoch */
    uint32_t gaps;          /* declared this session: books with an older epoch are suspect */
    char session[SESSION_ID];   /* that runs */
    uint8_t pad[2];
    uint64_t by_type[256];  /* decoded messages by the venue's type byte */
};

struct message_type {       /* a row of a protocol's table */
    uint8_t type;           /* first byte of the message */
    uint8_t pad;
    uint16_t length;        /* in the specification */
    uint32_t pad2;
    const char *name;       /* of the message, and of its struct behind the protocol's prefix */
};

struct protocol {           /* a row of decode.c */
    const char *name;       /* "itch50" */
    const char *prefix;     /* of its structs: "iex" in struct iex_trade_report */
    const char *venue;      /* ISO 10383 market identifier of its instruments */
    const char *currency;   /* of their prices */
    const struct framing *framing;
    uint32_t variant;       /* of the framing: enum iextp_protocol, or 0 */
    uint32_t grows;         /* 1: the venue may add fields at the end of a message */
    const struct message_type *types;
    uint32_t types_count;
    uint32_t pad;
    int (*open)(struct decoder *decoder);       /* takes `state`; 0 or negative errno */
    void (*close)(struct decoder *decoder);
    void (*reset)(struct decoder *decoder);     /* a session begins */
    void (*decode)(struct decoder *decoder, const struct message *messages, unsigned count);
};

extern const struct protocol itch50_protocol, tops16_protocol, deep10_protocol;

int protocol_count(void);
const struct protocol *protocol_at(int index);      /* NULL when out of range */
const struct protocol *protocol_find(const char *name);
