#pragma once
#include "net/cursor.h"
#include "net/datagram.h"

/* Header and extension headers, RFC 8200: 0 with the addresses and the protocol behind them, or
 * the counter of the reason. The cursor ends where the protocol begins. */
int ipv6_layer(struct cursor *cursor, struct datagram *datagram, unsigned *protocol);
