#pragma once
#include "scalar.h"

/* MoldUDP64 1.00, "Downstream Packet": header, then `count` blocks of a be16 length and
 * that many bytes. */

enum { MOLDUDP64_END = 0xffff };    /* count of an end-of-session packet */

struct moldudp64_header {
    char session[10];
    be64 sequence;      /* of the first message; of a heartbeat the next one expected */
    be16 count;         /* 0: heartbeat */
};

struct moldudp64_block {
    be16 length;        /* of the message that follows */
};
