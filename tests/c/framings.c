/* Framings that the core does not have, as a protocol to come would bring them: a row and a decoder,
 * linked in the place of the core's own. What they speak:
 *   units     a count and a number in the header, a size of one byte that counts itself
 *   packets   the number is the packet's, sizes are little-endian and count themselves
 *   stream    no number on the wire, a packet a datagram
 * Prints, for each: what the decoder saw, the ledger and the lines. */
#include "counter_id.h"
#include "decode/decode.h"
#include "engine/feed.h"
#include "session/message.h"
#include <stdio.h>
#include <stdlib.h>

static void require(int fine, const char *what)
{
    if (!fine) {
        fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

static int units_parse(const struct datagram *datagram, uint32_t variant, uint64_t next, struct span *span)
{
    (void)next;
    if (datagram->len < 4 || datagram->payload[1] != variant)
        return COUNT_drop_session_header;
    *span = (struct span){
        .sequence = datagram->payload[2], .blocks = datagram->payload + 4, .len = datagram->len - 4,
        .count = datagram->payload[0], .flags = datagram->payload[0] == 0 ? SPAN_HEARTBEAT : 0,
        .prefix = { .len = 1, .own = 1, .shift = 8 },
    };
    return 0;
}

static const struct prefix inside = { .len = 2, .own = 2, .little = 1 };

static int packets_parse(const struct datagram *datagram, uint32_t variant, uint64_t next, struct span *span)
{
    (void)variant, (void)next;
    if (datagram->len < 1)
        return COUNT_drop_session_header;
    *span = (struct span){ .sequence = datagram->payload[0], .blocks = datagram->payload + 1,
                           .len = datagram->len - 1, .count = datagram->len > 1 };
    return 0;
}

static int stream_parse(const struct datagram *datagram, uint32_t variant, uint64_t next, struct span *span)
{
    (void)variant;
    *span = (struct span){ .sequence = next > 0 ? next : 1, .blocks = datagram->payload, .len = datagram->len,
                           .count = 1, .prefix = { .len = 2 } };
    return 0;
}

static const struct framing units = { .name = "units", .numbers = NUMBERS_MESSAGES, .parse = units_parse };
static const struct framing packets = { .name = "packets", .numbers = NUMBERS_PACKETS, .parse = packets_parse };
static const struct framing stream = { .name = "stream", .numbers = NUMBERS_NOTHING, .parse = stream_parse };

static void saw(uint64_t sequence, const uint8_t *data, uint32_t len)
{
    printf(" %d:%.*s", (int)sequence, (int)len, (const char *)data);
}

static void decode_messages(struct decoder *decoder, const struct message *messages, unsigned count)
{
    (void)decoder;
    for (unsigned i = 0; i < count; i++)
        saw(messages[i].sequence, messages[i].data, messages[i].len);
}

static void decode_packets(struct decoder *decoder, const struct message *messages, unsigned count)
{
    (void)decoder;
    for (unsigned i = 0; i < count; i++) {
        struct span span = { .blocks = messages[i].data, .len = messages[i].len, .prefix = inside };
        uint32_t at = 0;
        for (int64_t len; at < span.len && (len = message_len(&span, at)) >= 0; at += inside.len + (uint32_t)len)
            saw(messages[i].sequence, span.blocks + at + inside.len, (uint32_t)len);
        require(at == span.len, "a packet that its messages do not fill");
    }
}

static int open(struct decoder *decoder) { (void)decoder; return 0; }
static void leave(struct decoder *decoder) { (void)decoder; }

static const struct protocol protocols[] = {
    { .name = "units", .framing = &units, .variant = 7, .open = open, .close = leave, .reset = leave, .decode = decode_messages },
    { .name = "packets", .framing = &packets, .open = open, .close = leave, .reset = leave, .decode = decode_packets },
    { .name = "stream", .framing = &stream, .open = open, .close = leave, .reset = leave, .decode = decode_messages },
};

int protocol_count(void) { return 3; }
const struct protocol *protocol_at(int index) { return &protocols[index]; }

const struct protocol *protocol_find(const char *name)
{
    for (int i = 0; i < protocol_count(); i++)
        if (strcmp(protocols[i].name, name) == 0)
            return &protocols[i];
    return NULL;
}

static struct feed *begin(const char *name)
{
    struct feed_config config = {
        .arbiter = { .lines = 2, .window = 64, .window_bytes = 1 << 17, .gap_timeout_us = 1000, .compare = 1 },
        .books = { .orders_max = 16, .levels_max = 16 },
    };
    strcpy(config.protocol, name);
    struct feed *feed;
    require(feed_create(&config, 0, NULL, &feed) == 0, "no feed");
    printf("%s", name);
    return feed;
}

static void send(struct feed *feed, unsigned line, const char *payload, uint32_t len)
{
    struct datagram datagram = { .payload = (const uint8_t *)payload, .len = len, .addr_len = 4 };
    require(feed_datagram(feed, line, &datagram, 1000, 1000) == 0, "a packet that was dropped");
    feed_flush(feed);
}

static void end(struct feed *feed)
{
    feed_finish(feed, 2000);
    const struct ledger *ledger = feed_ledger(feed, 0);
    const struct line *lines = feed_lines(feed);
    printf(" | delivered %d duplicate %d lost %d | losses %d %d healed %d %d\n", (int)ledger->delivered,
           (int)ledger->duplicate, (int)ledger->lost, (int)lines[0].losses, (int)lines[1].losses, (int)lines[0].healed,
           (int)lines[1].healed);
    feed_destroy(feed);
}

#define SEND(feed, line, payload) send(feed, line, payload, sizeof payload - 1)

int main(void)
{
    struct feed *feed = begin("units");
    SEND(feed, 0, "\2\7\1\0" "\2a" "\4bcd");
    SEND(feed, 1, "\2\7\1\0" "\2a" "\4bcd");
    SEND(feed, 1, "\1\7\3\0" "\3ef");               /* by B alone */
    SEND(feed, 0, "\1\7\4\0" "\2g");
    end(feed);

    feed = begin("packets");
    SEND(feed, 0, "\1" "\4\0ab" "\3\0c");
    SEND(feed, 1, "\1" "\4\0ab" "\3\0c");
    SEND(feed, 0, "\4" "\3\0d");                    /* 2 and 3 are packets that nobody sends */
    end(feed);

    feed = begin("stream");
    SEND(feed, 0, "\0\2ab");
    SEND(feed, 0, "\0\1c");
    end(feed);
    return 0;
}
