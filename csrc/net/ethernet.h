#pragma once
#include "net/cursor.h"

/* Up to the IP header: 0 with its ethertype and the id of the outermost VLAN tag, which is left
 * alone when there is none; or the counter of the reason why there is no IP header. */
int link_layer(struct cursor *cursor, int link, unsigned *ethertype, uint16_t *vlan);
