#include "tape/survey.h"
#include "counter_id.h"
#include "session/session.h"
#include "wire/iextp.h"
#include "wire/read.h"
#include <stdbool.h>
#include <string.h>

static struct stream *stream_of(struct survey *survey, const struct datagram *datagram)
{
    for (uint32_t i = 0; i < survey->streams; i++) {
        struct stream *stream = &survey->stream[i];
        if (stream->port == datagram->dport && stream->addr_len == datagram->addr_len
            && memcmp(stream->dst, datagram->dst, datagram->addr_len) == 0)
            return stream;
    }
    if (survey->streams == SURVEY_STREAMS)
        return NULL;
    struct stream *stream = &survey->stream[survey->streams++];
    *stream = (struct stream){ .addr_len = datagram->addr_len, .port = datagram->dport, .vlan = datagram->vlan };
    memcpy(stream->dst, datagram->dst, datagram->addr_len);
    return stream;
}

/* Do `count` length-prefixed blocks fill the payload exactly? */
static bool blocks_fit(const struct span *span)
{
    uint32_t at = 0;
    for (unsigned i = 0; i < span->count; i++) {
        if (span->len - at < 2)
            return false;
        const uint8_t *p = span->blocks + at;
        uint32_t len = span->flags & SPAN_LITTLE_ENDIAN ? p[0] | (uint32_t)p[1] << 8 : (uint32_t)p[0] << 8 | p[1];
        if (len > span->len - at - 2)
            return false;
        at += 2 + len;
    }
    return at == span->len;
}

/* IEX-TP tells itself by version and a protocol id in 0x8000..0x80ff; MoldUDP64 by printable or
 * zero session bytes and blocks that fill the packet to the byte. */
static bool parse(struct stream *stream, const struct datagram *datagram, struct span *span)
{
    if (stream->framing != FRAMING_MOLDUDP64 && datagram->len >= sizeof(struct iextp_header)) {
        uint16_t protocol = rd_le16(((const struct iextp_header *)(const void *)datagram->payload)->protocol);
        if (protocol >> 8 == 0x80 && iextp_parse(datagram, protocol, span) == 0 && blocks_fit(span)) {
            stream->framing = FRAMING_IEXTP;
            stream->iextp = protocol;
            return true;
        }
    }
    if (stream->framing == FRAMING_IEXTP || moldudp64_parse(datagram, span) != 0 || !blocks_fit(span)
        || span->sequence == 0)
        return false;
    for (unsigned i = 0; i < SESSION_ID; i++)
        if (span->session[i] != 0 && (span->session[i] < ' ' || span->session[i] > '~'))
            return false;
    stream->framing = FRAMING_MOLDUDP64;
    return true;
}

static void follow(struct stream *stream, const struct span *span)
{
    bool other = memcmp(stream->session, span->session, SESSION_ID) != 0;
    bool restarted = span->sequence == 1 && stream->next > 1 && span->send_time > stream->send_last;
    if (stream->sessions == 0 || other || restarted) {
        stream->sessions++;
        memcpy(stream->session, span->session, SESSION_ID);
        stream->first = stream->next = span->sequence;
    }
    if (span->send_time > stream->send_last)
        stream->send_last = span->send_time;
    if (span->sequence > stream->next) {
        stream->gaps++;
        stream->lost += span->sequence - stream->next;
    } else if (span->sequence < stream->next) {
        stream->behind++;
    }
    if (span->sequence + span->count > stream->next)
        stream->next = span->sequence + span->count;
    stream->messages += span->count;
    stream->heartbeats += (span->flags & SPAN_HEARTBEAT) != 0;
    if (stream->type == 0 && span->count > 0 && span->len > 2) {
        bool little = span->flags & SPAN_LITTLE_ENDIAN;
        stream->length = (uint16_t)(little ? span->blocks[0] | span->blocks[1] << 8 : span->blocks[0] << 8 | span->blocks[1]);
        stream->type = span->blocks[2];
    }
}

static void look(struct survey *survey, const struct packet *packet)
{
    struct datagram datagram;
    struct span span;
    int reason = frame_parse(packet, CHECKSUM_IGNORE, &datagram);
    struct stream *stream = reason == 0 ? stream_of(survey, &datagram) : NULL;
    survey->counters.value[COUNT_frames_received]++;
    survey->counters.value[reason != 0 ? reason : COUNT_frames_parsed]++;
    if (survey->ts_first == 0)
        survey->ts_first = packet->ts_recv;
    survey->ts_last = packet->ts_recv;
    if (stream == NULL) {
        survey->streams_lost += reason == 0;
        return;
    }
    if (stream->packets++ == 0)
        stream->ts_first = packet->ts_recv;
    stream->ts_last = packet->ts_recv;
    stream->bytes += datagram.len;
    if (parse(stream, &datagram, &span))
        follow(stream, &span);
    else
        stream->not_framed++;
}

int survey_step(struct survey *survey, struct source *source, int packets_max)
{
    struct packet packets[BURST_MAX];
    int done = 0;
    while (done < packets_max) {
        int n = source->burst(source, packets, BURST_MAX);
        if (n <= 0)
            return done > 0 ? done : n;
        for (int i = 0; i < n; i++)
            look(survey, &packets[i]);
        done += n;
    }
    return done;
}
