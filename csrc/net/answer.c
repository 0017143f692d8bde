/* Frames in: each header is checked against what is there, once, from the outside in; then a reply
 * is built from the checked bytes alone. Options of the request are not returned.
 *
 * Rate. All that goes out passes one bucket (the generic cell rate algorithm): `paid_until` moves
 * on by 1 / ANSWER_PER_MS with each frame and may be ANSWER_QUEUE of these ahead of the clock. A
 * flood of requests finds the queue full and is counted; one of queries is answered by reports that
 * wait for the bucket. Reports and replies take turns, so that neither can starve the other. */

#include "net/answer.h"
#include "base/checksum.h"
#include "net/igmp.h"
#include "wire/inet.h"
#include "wire/read.h"
#include <errno.h>
#include <stdlib.h>

_Static_assert(sizeof(struct answer_config) == 32, "no padding but what is named");

struct arp {                    /* RFC 826, for Ethernet and IPv4 */
    be16 hardware, protocol;
    uint8_t hardware_len, protocol_len;
    be16 operation;
    uint8_t sender_mac[6], sender_ip[4], target_mac[6], target_ip[4];
};
struct icmp { uint8_t type, code; be16 checksum; uint8_t rest[4]; };   /* RFC 792 */
_Static_assert(sizeof(struct arp) == 28 && sizeof(struct icmp) == 8, "RFC 826, RFC 792");

enum { ARP_REQUEST = 1, ARP_REPLY = 2, ECHO_REPLY = 0, ECHO = 8 };
enum { FRAME_MIN = 60, TAG_LEN = sizeof(struct vlan_tag), ALERT_LEN = 4, FRAGMENT = 0x3fff };
static const uint64_t COST_NS = 1000000 / ANSWER_PER_MS, BURST_NS = ANSWER_QUEUE * (1000000 / ANSWER_PER_MS);

struct reply { uint32_t len; uint8_t byte[ANSWER_FRAME]; };

struct answer {
    struct answer_config config;
    struct answer_stats stats;
    uint64_t paid_until;
    uint32_t first, waiting;    /* of queue */
    int replied;                /* the last frame out was a reply */
    struct igmp igmp;
    struct igmp_message message;
    struct reply queue[ANSWER_QUEUE];
};

/* The part of a frame behind its link header. */
struct packet_in {
    const struct ethernet *link;
    const uint8_t *at;
    uint32_t len, tag;          /* tag as in struct igmp_message */
    unsigned type;
};

static void put16(void *at, unsigned v) { memcpy(at, &(uint16_t){ __builtin_bswap16((uint16_t)v) }, 2); }

static void put_checksum(void *at, const void *data, uint32_t len)
{
    uint16_t sum = (uint16_t)~checksum_fold(checksum_add(0, data, len));
    memcpy(at, &sum, 2);
}

static int sum_is_right(const void *data, uint32_t len)
{
    return checksum_fold(checksum_add(0, data, len)) == 0xffff;
}

/* ---- out ---- */

/* Returns where the payload begins. */
static uint8_t *put_link(uint8_t *out, const struct answer *a, const uint8_t dst[6], uint32_t tag, unsigned type)
{
    memcpy(out, dst, 6);
    memcpy(out + 6, a->config.mac, 6);
    out += 12;
    if (tag) {
        put16(out, TYPE_8021Q);
        put16(out + 2, tag & 0xffff);
        out += TAG_LEN;
    }
    put16(out, type);
    return out + 2;
}

/* The header that is there already but for its length and checksum. */
static void close_ipv4(uint8_t *at, uint32_t header, uint32_t total)
{
    struct ipv4 *ip = (void *)at;
    put16(&ip->total, total);
    put_checksum(&ip->checksum, ip, header);
}

/* Pads to the shortest frame that Ethernet carries. */
static uint32_t close_frame(uint8_t *out, const uint8_t *end)
{
    uint32_t len = (uint32_t)(end - out);
    if (len >= FRAME_MIN)
        return len;
    memset(out + len, 0, FRAME_MIN - len);
    return FRAME_MIN;
}

static struct reply *room(struct answer *a)
{
    if (a->waiting == ANSWER_QUEUE)
        return NULL;
    return &a->queue[(a->first + a->waiting) % ANSWER_QUEUE];
}

/* RFC 3376 4: TTL 1, precedence of internetwork control, router alert (RFC 2113). */
static uint32_t frame_message(const struct answer *a, const struct igmp_message *message, uint8_t *out)
{
    static const uint8_t ALERT[ALERT_LEN] = { 0x94, 4, 0, 0 };
    uint32_t header = sizeof(struct ipv4) + ALERT_LEN;
    struct ipv4 ip = { .version_ihl = 0x46, .tos = 0xc0, .ttl = 1, .protocol = PROTO_IGMP };
    uint8_t group_mac[6] = { 1, 0, 0x5e };      /* RFC 1112 6.4 */
    put16(&ip.fragment, 0x4000);
    memcpy(ip.src, &a->config.ip_be, 4);
    memcpy(ip.dst, &message->dst_be, 4);
    memcpy(group_mac + 3, ip.dst + 1, 3);
    group_mac[3] &= 0x7f;
    uint8_t *at = put_link(out, a, group_mac, message->tag, TYPE_IPV4);
    memcpy(at, &ip, sizeof ip);
    memcpy(at + sizeof ip, ALERT, ALERT_LEN);
    memcpy(at + header, message->byte, message->len);
    close_ipv4(at, header, header + message->len);
    return close_frame(out, at + header + message->len);
}

/* ---- in ---- */

static int link_layer(const uint8_t *frame, uint32_t len, struct packet_in *in)
{
    const struct ethernet *link = (const void *)frame;
    if (len < sizeof *link)
        return ANSWER_BAD;
    *in = (struct packet_in) { link, frame + sizeof *link, len - (uint32_t)sizeof *link, 0, rd_be16(link->type) };
    if (in->type != TYPE_8021Q)
        return 0;
    if (in->len < TAG_LEN)
        return ANSWER_BAD;
    const struct vlan_tag *tag = (const void *)in->at;
    in->tag = IGMP_TAGGED | rd_be16(tag->tci);
    in->type = rd_be16(tag->type);
    in->at += TAG_LEN;
    in->len -= TAG_LEN;
    return 0;
}

static int is_ours(const struct answer *a, const uint8_t mac[6]) { return memcmp(mac, a->config.mac, 6) == 0; }

/* RFC 826. Who asks from a group address would have the reply sent to many. */
static int arp_request(struct answer *a, const struct packet_in *in)
{
    static const uint8_t ALL[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    static const uint8_t HEAD[6] = { 0, 1, 8, 0, 6, 4 };       /* Ethernet, IPv4, their lengths */
    const struct arp *request = (const void *)in->at;
    if (in->len < sizeof *request)
        return ANSWER_BAD;
    if (memcmp(request, HEAD, sizeof HEAD) || rd_be16(request->operation) != ARP_REQUEST
        || a->config.ip_be == 0 || memcmp(request->target_ip, &a->config.ip_be, 4)
        || (memcmp(in->link->dst, ALL, 6) && !is_ours(a, in->link->dst)))
        return ANSWER_NONE;
    if (request->sender_mac[0] & 1)
        return ANSWER_BAD;
    struct reply *reply = room(a);
    if (reply == NULL)
        return ANSWER_FULL;
    struct arp answer;
    memcpy(&answer, HEAD, sizeof HEAD);
    put16(&answer.operation, ARP_REPLY);
    memcpy(answer.sender_mac, a->config.mac, 6);
    memcpy(answer.sender_ip, &a->config.ip_be, 4);
    memcpy(answer.target_mac, request->sender_mac, 6);
    memcpy(answer.target_ip, request->sender_ip, 4);
    uint8_t *at = put_link(reply->byte, a, request->sender_mac, in->tag, TYPE_ARP);
    memcpy(at, &answer, sizeof answer);
    reply->len = close_frame(reply->byte, at + sizeof answer);
    a->waiting++;
    return ANSWER_ARP;
}

/* RFC 1122 3.2.1.3: addresses that no datagram may come from. */
static int is_host(const struct answer *a, const uint8_t ip[4])
{
    return ip[0] != 0 && ip[0] != 127 && ip[0] < 224 && memcmp(ip, &a->config.ip_be, 4);
}

/* RFC 792, RFC 1122 3.2.2.6: to us alone, and back with the same data and type of service. */
static int echo(struct answer *a, const struct packet_in *in, const struct ipv4 *ip,
    const uint8_t *data, uint32_t len)
{
    const struct icmp *request = (const void *)data;
    if (a->config.ip_be == 0 || memcmp(ip->dst, &a->config.ip_be, 4) || !is_ours(a, in->link->dst))
        return ANSWER_NONE;
    if (len < sizeof *request)
        return ANSWER_BAD;
    if (request->type != ECHO || request->code != 0)
        return ANSWER_NONE;
    uint32_t link = sizeof(struct ethernet) + (in->tag ? TAG_LEN : 0);
    if (!sum_is_right(data, len) || !is_host(a, ip->src) || link + sizeof *ip + len > ANSWER_FRAME)
        return ANSWER_BAD;
    struct reply *reply = room(a);
    if (reply == NULL)
        return ANSWER_FULL;
    struct ipv4 head = { .version_ihl = 0x45, .tos = ip->tos, .ttl = 64, .protocol = PROTO_ICMP };
    put16(&head.fragment, 0x4000);
    memcpy(head.src, ip->dst, 4);
    memcpy(head.dst, ip->src, 4);
    uint8_t *at = put_link(reply->byte, a, in->link->src, in->tag, TYPE_IPV4);
    memcpy(at, &head, sizeof head);
    close_ipv4(at, sizeof head, (uint32_t)sizeof head + len);
    struct icmp *answer = (void *)(at + sizeof head);
    memcpy(answer, data, len);
    answer->type = ECHO_REPLY;
    answer->checksum = (be16) { { 0, 0 } };
    put_checksum(&answer->checksum, answer, len);
    reply->len = close_frame(reply->byte, at + sizeof head + len);
    a->waiting++;
    return ANSWER_ECHO;
}

static int ipv4(struct answer *a, const struct packet_in *in, uint64_t now)
{
    const struct ipv4 *ip = (const void *)in->at;
    if (in->len < sizeof *ip)
        return ANSWER_BAD;
    if (ip->protocol != PROTO_ICMP && ip->protocol != PROTO_IGMP)
        return ANSWER_NONE;
    uint32_t header = (ip->version_ihl & 15) * 4u, total = rd_be16(ip->total);
    if (ip->version_ihl >> 4 != 4 || header < sizeof *ip || total < header || total > in->len
        || !sum_is_right(ip, header))
        return ANSWER_BAD;
    if (rd_be16(ip->fragment) & FRAGMENT)
        return ANSWER_NONE;
    const uint8_t *data = in->at + header;
    uint32_t len = total - header, dst_be;
    if (ip->protocol == PROTO_ICMP)
        return echo(a, in, ip, data, len);
    if (len < sizeof(struct icmp) || !sum_is_right(data, len))
        return ANSWER_BAD;
    memcpy(&dst_be, ip->dst, 4);
    uint32_t tag = in->tag & (IGMP_TAGGED | 0xfff);     /* the VLAN without its priority */
    int rc = igmp_receive(&a->igmp, data, len, dst_be, a->config.ip_be, tag, now);
    return rc < 0 ? ANSWER_BAD : rc ? ANSWER_QUERY : ANSWER_NONE;
}

static int kind_of(struct answer *a, const uint8_t *frame, uint32_t len, uint64_t now)
{
    struct packet_in in;
    int bad = link_layer(frame, len, &in);
    if (bad)
        return bad;
    if (is_ours(a, in.link->src) || (in.type != TYPE_ARP && in.type != TYPE_IPV4))
        return ANSWER_NONE;
    if (in.link->src[0] & 1)
        return ANSWER_BAD;
    return in.type == TYPE_ARP ? arp_request(a, &in) : ipv4(a, &in, now);
}

int answer_frame(struct answer *a, const uint8_t *frame, uint32_t len, uint64_t now)
{
    int kind = kind_of(a, frame, len, now);
    a->stats.arp += kind == ANSWER_ARP;
    a->stats.echo += kind == ANSWER_ECHO;
    a->stats.queries += kind == ANSWER_QUERY;
    a->stats.bad += kind == ANSWER_BAD;
    a->stats.full += kind == ANSWER_FULL;
    return kind;
}

/* ---- next ---- */

static uint32_t next_report(struct answer *a, uint64_t now, uint8_t *out)
{
    igmp_next(&a->igmp, now, &a->message);
    if (a->message.len == 0)
        return 0;
    a->replied = 0;
    a->stats.leaves += (uint64_t)a->message.leave;
    a->stats.reports += !a->message.leave;
    return frame_message(a, &a->message, out);
}

static uint32_t next_reply(struct answer *a, uint8_t *out)
{
    if (a->waiting == 0)
        return 0;
    const struct reply *reply = &a->queue[a->first];
    memcpy(out, reply->byte, reply->len);
    a->first = (a->first + 1) % ANSWER_QUEUE;
    a->waiting--;
    a->replied = 1;
    a->stats.replies++;
    return reply->len;
}

static uint32_t next_frame(struct answer *a, uint64_t now, uint8_t *out)
{
    uint32_t len = a->replied ? next_report(a, now, out) : next_reply(a, out);
    if (len == 0)
        len = a->replied ? next_reply(a, out) : next_report(a, now, out);
    return len;
}

uint32_t answer_next(struct answer *a, uint64_t now, uint8_t *out, uint64_t *due)
{
    uint32_t len = 0;
    if (a->paid_until > now + BURST_NS)     /* the clock went back after all */
        a->paid_until = now + BURST_NS;
    if (a->paid_until + COST_NS <= now + BURST_NS)
        len = next_frame(a, now, out);
    if (len)
        a->paid_until = (a->paid_until > now ? a->paid_until : now) + COST_NS;
    uint64_t earliest = a->waiting ? now : igmp_due(&a->igmp), paid = a->paid_until + COST_NS;
    *due = paid > now + BURST_NS && earliest < paid - BURST_NS ? paid - BURST_NS : earliest;
    return len;
}

/* ---- life ---- */

int answer_create(const struct answer_config *config, struct answer **answer)
{
    if (config->mac[0] & 1 || config->vlan > 4094)
        return -EINVAL;
    struct answer *a = calloc(1, sizeof *a);
    if (a == NULL)
        return -ENOMEM;
    a->config = *config;
    igmp_init(&a->igmp, config->vlan ? IGMP_TAGGED | config->vlan : 0, config->seed, config->refresh_ns);
    *answer = a;
    return 0;
}

void answer_destroy(struct answer *a) { free(a); }
int answer_join(struct answer *a, uint32_t group_be) { return igmp_join(&a->igmp, group_be); }
int answer_leave(struct answer *a, uint32_t group_be) { return igmp_leave(&a->igmp, group_be); }
int answer_version(struct answer *a, uint64_t now) { return igmp_version(&a->igmp, now); }
void answer_stats(const struct answer *a, struct answer_stats *out) { *out = a->stats; }
