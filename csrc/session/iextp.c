#include "counter_id.h"
#include "session/message.h"
#include "wire/iextp.h"
#include "wire/read.h"

/* IEX-TP 1.25: blocks of a le16 length that does not count itself. Its variant is the protocol id. */

_Static_assert(sizeof(struct iextp_header) == 40, "IEX-TP 1.25, Header");

static int parse(const struct datagram *datagram, uint32_t variant, uint64_t next, struct span *span)
{
    (void)next;
    if (datagram->len < sizeof(struct iextp_header))
        return COUNT_drop_session_header;
    const struct iextp_header *header = (const void *)datagram->payload;
    if (header->version != IEXTP_VERSION || rd_le16(header->protocol) != variant)
        return COUNT_drop_session_header;
    uint32_t room = datagram->len - (uint32_t)sizeof *header;
    uint32_t declared = rd_le16(header->payload_length);
    uint16_t count = rd_le16(header->count);
    *span = (struct span){
        .sequence = rd_le64(header->sequence),
        .send_time = rd_ns64le(header->send_time),
        .offset = rd_le64(header->offset),
        .blocks = datagram->payload + sizeof *header,
        .len = declared < room ? declared : room,
        .count = count,
        .flags = (count == 0 ? SPAN_HEARTBEAT : 0) | (declared < room ? SPAN_TRAILING : 0),
        .prefix = { .len = sizeof(struct iextp_block), .little = 1 },
    };
    /* The session is a channel and a number: both make the identity. */
    memcpy(span->session, &header->channel, 4);
    memcpy(span->session + 4, &header->session, 4);
    return 0;
}

/* Told by its version and a protocol id in 0x8000..0x80ff. */
static int guess(const struct datagram *datagram, uint32_t *variant, struct span *span)
{
    if (datagram->len < sizeof(struct iextp_header))
        return 0;
    *variant = rd_le16(((const struct iextp_header *)(const void *)datagram->payload)->protocol);
    return *variant >> 8 == 0x80 && parse(datagram, *variant, 0, span) == 0 && messages_fit(span);
}

const struct framing iextp_framing = {
    .name = "iextp", .numbers = NUMBERS_MESSAGES, .parse = parse, .guess = guess,
};
