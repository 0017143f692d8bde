#include "counter_id.h"
#include "session/message.h"
#include "wire/moldudp64.h"
#include "wire/read.h"

/* MoldUDP64 1.00: blocks of a be16 length that does not count itself. */

_Static_assert(sizeof(struct moldudp64_header) == 20, "MoldUDP64 1.00, Downstream Packet");

static int parse(const struct datagram *datagram, uint32_t variant, uint64_t next, struct span *span)
{
    (void)variant, (void)next;
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
        .prefix = { .len = sizeof(struct moldudp64_block) },
    };
    memcpy(span->session, header->session, SESSION_ID);
    return 0;
}

/* Nothing in the header says what it is: printable or zero session bytes, a number, and blocks that
 * fill the packet to the byte. */
static int guess(const struct datagram *datagram, uint32_t *variant, struct span *span)
{
    *variant = 0;
    if (parse(datagram, 0, 0, span) != 0 || !messages_fit(span) || span->sequence == 0)
        return 0;
    for (unsigned i = 0; i < SESSION_ID; i++)
        if (span->session[i] != 0 && (span->session[i] < ' ' || span->session[i] > '~'))
            return 0;
    return 1;
}

const struct framing moldudp64_framing = {
    .name = "moldudp64", .numbers = NUMBERS_MESSAGES, .text = 1, .parse = parse, .guess = guess,
};
