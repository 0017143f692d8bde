#include "session/session.h"
#include "counter_id.h"
#include "wire/iextp.h"
#include "wire/moldudp64.h"
#include "wire/read.h"

_Static_assert(sizeof(struct moldudp64_header) == 20, "MoldUDP64 1.00, Downstream Packet");
_Static_assert(sizeof(struct iextp_header) == 40, "IEX-TP 1.25, Header");

int moldudp64_parse(const struct datagram *datagram, struct span *span)
{
    if (datagram->len < sizeof(struct moldudp64_header))
        return COUNT_drop_session_header;
    const struct moldudp64_header *header = (const void *)datagram->payload;
    uint16_t count = rd_be16(header->count);
    *span = (struct span){
        .sequence = rd_be64(header->sequence),
        .blocks = datagram->payload + sizeof *header,
        .len = datagram->len - (uint32_t)sizeof *header,
        .count = count == MOLDUDP64_END ? 0 : count,
        .flags = count == MOLDUDP64_END ? SPAN_END : count == 0 ? SPAN_HEARTBEAT : 0,
    };
    memcpy(span->session, header->session, SESSION_ID);
    return 0;
}

int iextp_parse(const struct datagram *datagram, uint16_t protocol, struct span *span)
{
    if (datagram->len < sizeof(struct iextp_header))
        return COUNT_drop_session_header;
    const struct iextp_header *header = (const void *)datagram->payload;
    if (header->version != IEXTP_VERSION || rd_le16(header->protocol) != protocol)
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
        .flags = SPAN_LITTLE_ENDIAN | (count == 0 ? SPAN_HEARTBEAT : 0)
            | (declared < room ? SPAN_TRAILING : 0),
    };
    /* The session is a channel and a number: both make the identity. */
    memcpy(span->session, &header->channel, 4);
    memcpy(span->session + 4, &header->session, 4);
    return 0;
}
