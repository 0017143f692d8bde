#pragma once
#include "scalar.h"

/* IEX Transport Protocol 1.25, "IEX-TP Header": header, then `count` blocks of a le16
 * length and that many bytes. All little-endian. */

enum { IEXTP_VERSION = 1 };
enum iextp_protocol {               /* of the payload */
    IEXTP_TOPS_1_5 = 0x8002,
    IEXTP_TOPS_1_6 = 0x8003,
    IEXTP_DEEP_1_0 = 0x8004,
};

struct iextp_header {
    uint8_t version;
    uint8_t reserved;
    le16 protocol;
    le32 channel;
    le32 session;
    le16 payload_length;
    le16 count;
    le64 offset;        /* in the stream of payload bytes of this session */
    le64 sequence;      /* of the first message; count 0: the next one expected */
    ns64le send_time;
};

struct iextp_block {
    le16 length;
};
