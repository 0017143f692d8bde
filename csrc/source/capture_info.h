#pragma once
#include <stdint.h>

/* How far a capture was read. */

struct capture_info {
    uint64_t frames;        /* records delivered so far */
    uint64_t offset;        /* of the next record, or of the broken one, in uncompressed bytes */
    uint64_t ts_first;      /* ns since the Unix epoch; 0 before the first frame */
    uint64_t ts_last;
    uint64_t ts_regress;    /* records stamped earlier than the one before */
    uint64_t skipped;       /* pcapng blocks passed over: no frame, interface or section */
    int32_t link;           /* of the first interface; -1 while none is known */
    int32_t precision_ns;   /* of the time stamps of the first interface */
    int32_t error;          /* 0, or the negative errno that ended it */
    int32_t truncated;      /* 1 when the file ends inside a record */
    char format[16];        /* "pcap", "pcapng" */
    char reason[112];       /* one line naming what is wrong and at which offset */
};
