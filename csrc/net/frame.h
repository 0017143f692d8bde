#pragma once
#include "net/datagram.h"
#include "packet.h"

/* Link layer to UDP payload: every length is checked here, once. */

enum checksum_policy {
    CHECKSUM_IGNORE,    /* neither looked at nor counted */
    CHECKSUM_AUTO,      /* trust the hardware's verdict where there is one, count, accept */
    CHECKSUM_VERIFY,    /* compute, count, drop what is wrong */
};

/* 0, or the counter (enum counter) of the reason why it is not a UDP datagram for us. */
int frame_parse(const struct packet *packet, int checksum_policy, struct datagram *datagram);
