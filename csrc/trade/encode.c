#include "trade/encode.h"
#include "base/checksum.h"
#include "wire/inet.h"
#include "wire/ouch50.h"
#include "wire/write.h"
#include <errno.h>

#define ASSERT_LENGTH(type, name, length) \
    _Static_assert(sizeof(struct ouch50_##name) == (length), #name " has its length in the specification");
OUCH50_MESSAGES(ASSERT_LENGTH)

struct order_frame {
    struct ethernet ethernet;
    struct ipv4 ip;
    struct udp udp;
    struct ouch50_enter_order order;
};
_Static_assert(sizeof(struct order_frame) == ENCODE_LEN, "no padding");

enum { UNIT = 100000, UDP_LEN = sizeof(struct udp) + sizeof(struct ouch50_enter_order), DONT_FRAGMENT = 0x4000,
       TTL = 64 };

/* RFC 6864: a datagram that is never cut needs no identification, so the IP header is the same for
 * all orders, checksum included. */
static void headers(struct order_frame *f, const struct order_route *route)
{
    f->ethernet.type = wr_be16(TYPE_IPV4);
    memcpy(f->ethernet.dst, route->dst_mac, 6);
    memcpy(f->ethernet.src, route->src_mac, 6);
    f->ip = (struct ipv4){ .version_ihl = 0x45, .total = wr_be16(sizeof f->ip + UDP_LEN),
                           .fragment = wr_be16(DONT_FRAGMENT), .ttl = TTL, .protocol = PROTO_UDP };
    memcpy(f->ip.src, route->src, 4);
    memcpy(f->ip.dst, route->dst, 4);
    uint16_t sum = (uint16_t)~checksum_fold(checksum_add_header(0, &f->ip, sizeof f->ip));
    memcpy(&f->ip.checksum, &sum, sizeof sum);
    f->udp = (struct udp){ .sport = wr_be16(route->sport), .dport = wr_be16(route->dport),
                           .length = wr_be16(UDP_LEN) };
}

/* RFC 768: addresses, protocol and length of the datagram. */
static uint64_t pseudo_sum(const struct order_frame *f)
{
    struct { uint8_t addresses[8]; be16 protocol, length; } pseudo;
    _Static_assert(sizeof pseudo == 12, "no padding");
    memcpy(pseudo.addresses, f->ip.src, 8);
    pseudo.protocol = wr_be16(PROTO_UDP);
    pseudo.length = wr_be16(UDP_LEN);
    return checksum_add_header(0, &pseudo, sizeof pseudo);
}

void encoder_init(struct encoder *encoder, const struct order_route *route, const uint64_t *symbols,
                  uint64_t symbols_count)
{
    struct order_frame f = { .order = { .type = 'O', .display = route->display, .capacity = route->capacity,
                                        .intermarket_sweep = 'N', .cross_type = 'N' } };
    memcpy(f.order.cl_ord_id, route->cl_ord_id, sizeof f.order.cl_ord_id);
    headers(&f, route);
    *encoder = (struct encoder){ .sum = pseudo_sum(&f), .symbols = symbols, .symbols_count = symbols_count };
    memcpy(encoder->frame, &f, sizeof f);
}

static int sayable(const struct encoder *encoder, const struct event *order)
{
    if (order->kind != EVENT_ORDER_NEW || (order->side != SIDE_BID && order->side != SIDE_ASK))
        return -EINVAL;
    if (order->instrument_id >= encoder->symbols_count || encoder->symbols[order->instrument_id] == 0)
        return -ENOENT;
    int bad_size = order->size == 0 || order->size >= OUCH50_QUANTITY_MAX;
    int bad_price = order->price <= 0 || order->price > (int64_t)OUCH50_PRICE_MAX * UNIT || order->price % UNIT != 0;
    return order->order_id > UINT32_MAX || bad_size || bad_price ? -ERANGE : 0;
}

int encode_order(const struct encoder *encoder, const struct event *order, uint8_t *frame)
{
    int rc = sayable(encoder, order);
    if (rc < 0)
        return rc;
    memcpy(frame, encoder->frame, ENCODE_LEN);
    struct order_frame *f = (void *)frame;
    f->order.user_ref_num = wr_be32((uint32_t)order->order_id);
    f->order.side = order->side == SIDE_BID ? 'B' : 'S';
    f->order.quantity = wr_be32(order->size);
    memcpy(f->order.symbol, &encoder->symbols[order->instrument_id], sizeof f->order.symbol);
    f->order.price = wr_px4be64(order->price);
    f->order.time_in_force = order->aux == TIME_IN_FORCE_IOC ? '3' : '0';
    uint16_t sum = checksum_fold(checksum_add(encoder->sum, &f->udp, UDP_LEN));
    sum = sum == UINT16_MAX ? sum : (uint16_t)~sum;     /* RFC 768: 0 would say that there is none */
    memcpy(&f->udp.checksum, &sum, sizeof sum);
    return 0;
}
