#include "tape/survey.h"
#include "counter_id.h"
#include "session/message.h"
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
    *stream = (struct stream){ .addr_len = datagram->addr_len, .framing = -1, .port = datagram->dport, .vlan = datagram->vlan };
    memcpy(stream->dst, datagram->dst, datagram->addr_len);
    return stream;
}

/* Is this a packet of the stream's framing, or of the first one that it may well be? */
static bool parse(struct stream *stream, const struct datagram *datagram, struct span *span)
{
    uint32_t variant;
    for (int i = 0; i < framing_count(); i++) {
        if ((stream->framing >= 0 && stream->framing != i) || !framing_at(i)->guess(datagram, &variant, span))
            continue;
        stream->framing = (int8_t)i;
        stream->variant = (uint16_t)variant;
        return true;
    }
    return false;
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
    if (stream->type == 0 && span->count > 0 && message_len(span, 0) > 0) {
        stream->length = (uint16_t)message_len(span, 0);
        stream->type = span->blocks[span->prefix.len];
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
