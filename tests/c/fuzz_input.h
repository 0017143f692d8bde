#pragma once
#include "decode/decode.h"
#include "packet.h"
#include "source/source.h"
#include "wire/iextp.h"
#include "wire/inet.h"
#include "wire/moldudp64.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* From fuzz input to frames. The input is one configuration byte, then records:
 *
 *   u8 flags, u8 time, le16 length, `length` bytes
 *
 * flags, bits 0-1: what the bytes are
 *   0  a frame as it is
 *   1  a UDP payload for a line: Ethernet, IPv4 and UDP are put around it
 *   2  ITCH in MoldUDP64: u8 session, i8 sequence step, u8 count, then of each message its type's
 *      index and its bytes; lengths and headers are made right
 *   3  the same for DEEP in IEX-TP
 * bit 2: line B; bit 3: the second source; bit 4: cut off by the capture; bit 5: other link type;
 * bit 6: odd hardware flags; bit 7: of 1, the IEX line; of 2 and 3, wild fields
 * A burst gives each frame as a malloc of its own size and frees those of the burst before, so that
 * every read beyond a frame, or too late, is a report. */

enum { FRAMES = 128, FRAME_MAX = 4096, CONFIG_BYTES = 1, RECORD_BYTES = 4 };
enum { MODE_RAW, MODE_PAYLOAD, MODE_ITCH, MODE_DEEP };
enum { ON_B = 4, SECOND = 8, CUT = 16, LINK = 32, HARDWARE = 64, SPECIAL = 128 };

struct frames {                 /* a source over frames in memory */
    struct source source;       /* first */
    unsigned count, at, alive;  /* [alive, at) are out */
    struct packet packets[FRAMES];
    uint8_t *out[FRAMES];
    uint8_t bytes[FRAMES][FRAME_MAX];
};

struct writer {
    uint8_t *at, *end;
};

struct reader {
    const uint8_t *at, *end;
};

struct clock {
    uint64_t ts;
    uint64_t next[4][2];        /* sequence by session and protocol */
    uint64_t offset[4];
};

/* The addresses of testbed/frames.py and testbed/hostile.py, so that their vectors are seeds. */
static const uint8_t groups[3][4] = { { 233, 54, 12, 111 }, { 233, 49, 196, 111 }, { 233, 215, 21, 4 } };
static const uint16_t ports[3] = { 26477, 26477, 10378 };

static inline uint8_t byte(struct reader *in) { return in->at < in->end ? *in->at++ : 0; }

static inline void put(struct writer *out, const void *data, size_t len)
{
    if ((size_t)(out->end - out->at) < len)
        len = (size_t)(out->end - out->at);
    memcpy(out->at, data, len);
    out->at += len;
}

static inline void put_number(struct writer *out, uint64_t value, int bytes, int big)
{
    uint8_t text[8];
    for (int i = 0; i < bytes; i++)
        text[big ? bytes - 1 - i : i] = (uint8_t)(value >> 8 * i);
    put(out, text, (size_t)bytes);
}

static inline uint64_t step_of(uint8_t code)
{
    static const uint64_t steps[16] = {
        0, 1, 999, 1000, 50000, 100000, 1000000, 9999999, 10000000, 10000001, 100000000, 1000000000,
        1600000000, 20000000000, (uint64_t)-1000000, (uint64_t)-1,
    };
    return steps[code & 15] * (uint64_t)((code >> 4) + 1);
}

/* Keeps what must match from message to message small: order ids, locate codes, symbols. */
static inline void tame(uint8_t *message, size_t len, int mode)
{
    if (mode == MODE_ITCH) {
        uint8_t type = message[0];
        if (len >= 3) {
            message[1] = 0;
            message[2] &= 7;
        }
        if (len >= 19 && strchr("AFECXDU", type))
            memset(message + 11, 0, 7);
        if (len >= 27 && type == 'U')
            memset(message + 19, 0, 7);
        if (len >= 20 && strchr("AF", type))
            message[19] = message[19] & 1 ? 'B' : message[19] & 64 ? 'S' : message[19];
        if (len >= 34 && strchr("AF", type))
            memset(message + 32, 0, 3);
    } else if (len >= 18) {
        memcpy(message + 10, "ZIEXT   ", 8);
        message[14] = (uint8_t)('0' + (message[17] & 7));
        if (len >= 30 && (message[0] == '8' || message[0] == '5'))
            memset(message + 23, 0, 7);
    }
}

static inline size_t put_message(struct writer *out, struct reader *in, int mode, int wild)
{
    const struct protocol *protocol = protocol_find(mode == MODE_ITCH ? "itch50" : "deep10");
    const struct message_type *type = &protocol->types[byte(in) % protocol->types_count];
    uint8_t message[300] = { type->type };
    size_t len = type->length;
    if (wild) {
        message[0] = byte(in);
        len = byte(in);
    }
    for (size_t i = 1; i < len; i++)
        message[i] = byte(in);
    if (!wild)
        tame(message, len, mode);
    put_number(out, len, 2, mode == MODE_ITCH);
    put(out, message, len);
    return 2 + len;
}

/* A payload whose session header is right, or off by the step that the input says. */
static inline void put_session(struct writer *out, struct reader *in, int mode, int wild, struct clock *clock)
{
    int big = mode == MODE_ITCH, id = byte(in) & 3, step = (int8_t)byte(in), count = byte(in);
    uint64_t *next = &clock->next[id][big], sequence = *next + 1 + (uint64_t)(int64_t)step;
    struct writer head = *out;
    out->at += big ? sizeof(struct moldudp64_header) : sizeof(struct iextp_header);
    uint8_t *blocks = out->at;
    for (int i = 0; i < count && in->at < in->end; i++)
        put_message(out, in, mode, wild);
    if (big) {
        uint8_t session[10] = "FUZZ     0";
        session[9] = (uint8_t)('0' + id);
        put(&head, session, sizeof session);
        put_number(&head, sequence, 8, 1);
        put_number(&head, count == 255 ? MOLDUDP64_END : (uint64_t)count, 2, 1);
    } else {
        put_number(&head, IEXTP_VERSION, 2, 0);
        put_number(&head, IEXTP_DEEP_1_0, 2, 0);
        put_number(&head, 1, 4, 0);
        put_number(&head, (uint64_t)id, 4, 0);
        put_number(&head, (uint64_t)(out->at - blocks), 2, 0);
        put_number(&head, (uint64_t)count, 2, 0);
        put_number(&head, clock->offset[id], 8, 0);
        put_number(&head, sequence, 8, 0);
        put_number(&head, clock->ts, 8, 0);
        clock->offset[id] += (uint64_t)(out->at - blocks);
    }
    if (step >= 0)
        *next = sequence + (uint64_t)count - 1;
}

static inline void put_headers(struct writer *out, uint16_t payload, int line)
{
    struct ethernet ethernet = { .dst = { 1, 0, 94 }, .type = { { 8, 0 } } };
    struct ipv4 ip = { .version_ihl = 0x45, .ttl = 16, .protocol = PROTO_UDP, .src = { 198, 51, 100, 1 } };
    struct udp udp = { .sport = { { 1, 2 } } };
    struct writer lengths[] = { { ip.total.byte, ip.total.byte + 2 }, { udp.length.byte, udp.length.byte + 2 },
                                { udp.dport.byte, udp.dport.byte + 2 } };
    memcpy(ip.dst, groups[line], 4);
    put_number(&lengths[0], 28u + payload, 2, 1);
    put_number(&lengths[1], 8u + payload, 2, 1);
    put_number(&lengths[2], ports[line], 2, 1);
    put(out, &ethernet, sizeof ethernet);
    put(out, &ip, sizeof ip);
    put(out, &udp, sizeof udp);
}

static inline size_t make_frame(uint8_t *frame, struct reader *in, uint8_t flags, struct clock *clock)
{
    enum { HEADERS = sizeof(struct ethernet) + sizeof(struct ipv4) + sizeof(struct udp) };
    int mode = flags & 3, raw = mode == MODE_RAW;
    int line = mode == MODE_DEEP || (mode == MODE_PAYLOAD && flags & SPECIAL) ? 2 : (flags & ON_B) != 0;
    struct writer out = { frame + (raw ? 0 : HEADERS), frame + FRAME_MAX };
    if (mode == MODE_ITCH || mode == MODE_DEEP)
        put_session(&out, in, mode, flags & SPECIAL, clock);
    else
        put(&out, in->at, (size_t)(in->end - in->at));
    if (!raw) {
        struct writer head = { frame, frame + HEADERS };
        put_headers(&head, (uint16_t)(out.at - frame - HEADERS), line);
    }
    return (size_t)(out.at - frame);
}

static inline void add_frame(struct frames *frames, const uint8_t *frame, size_t len, uint8_t flags, uint64_t ts)
{
    static const uint16_t links[] = { LINK_RAW, LINK_SLL, LINK_SLL2, LINK_IPV4, LINK_IPV6, 0, 147 };
    uint8_t mix = (uint8_t)(len ^ ts >> 10);
    uint32_t caplen = flags & CUT ? (uint32_t)len * mix / 256 : (uint32_t)len;
    uint8_t *copy = frames->bytes[frames->count];
    memcpy(copy, frame, caplen);
    frames->packets[frames->count++] = (struct packet){
        .data = copy, .caplen = caplen, .wirelen = (uint32_t)len, .ts_recv = ts,
        .link = flags & LINK ? links[mix % 7] : LINK_ETHERNET, .flags = flags & HARDWARE ? mix & 15 : 0,
    };
}

static inline void take_back(struct frames *frames)
{
    for (; frames->alive < frames->at; frames->alive++)
        free(frames->out[frames->alive]);
}

static inline int frames_burst(struct source *source, struct packet *packets, int max)
{
    struct frames *frames = (struct frames *)source;
    int n = 0;
    take_back(frames);
    for (; n < max && frames->at < frames->count; n++, frames->at++) {
        struct packet *packet = &packets[n];
        *packet = frames->packets[frames->at];
        uint8_t *copy = frames->out[frames->at] = malloc(packet->caplen);   /* of 0 bytes too */
        if (copy == NULL)
            __builtin_trap();
        memcpy(copy, packet->data, packet->caplen);
        packet->data = copy;
    }
    return n > 0 ? n : -ENODATA;
}

static inline void frames_close(struct source *source) { take_back((struct frames *)source); }
static const struct source_ops frames_ops = { .close = frames_close };

/* All frames of the input, over two sources. */
static inline void read_frames(const uint8_t *data, size_t size, struct frames sources[2])
{
    static uint8_t frame[FRAME_MAX];
    struct clock clock = { .ts = 1700000000000000000 };
    for (int n = 0; n < FRAMES && size >= RECORD_BYTES; n++) {
        size_t len = data[2] | (size_t)data[3] << 8, left = size - RECORD_BYTES;
        len = len < left ? len : left;
        struct reader in = { data + RECORD_BYTES, data + RECORD_BYTES + len };
        clock.ts += step_of(data[1]);
        size_t made = make_frame(frame, &in, data[0], &clock);
        add_frame(&sources[(data[0] & SECOND) != 0], frame, made, data[0], clock.ts);
        data += RECORD_BYTES + len;
        size = left - len;
    }
}
