#pragma once
#include "packet.h"
#include "source/walk.h"

/* The walk over the blocks of a pcapng file (draft-ietf-opsawg-pcapng). */

enum { INTERFACES_MAX = 1024 };

struct interface {
    uint64_t mul;               /* ns = ts * mul >> shift, or ts / div when that is not 0 */
    uint64_t div;
    int64_t offset_s;           /* if_tsoffset */
    uint32_t caplen_max;
    uint32_t snaplen;
    uint16_t link;
    uint8_t shift;
    uint8_t pad[5];
};

struct pcapng {
    int swap;                   /* the section's byte order is not ours */
    int interfaces;             /* of the section */
    uint64_t skip;              /* bytes left of a block that is being passed over */
    uint64_t skip_start;        /* offset of that block ... */
    uint32_t skip_total;        /* ... and its length */
    struct interface interface[INTERFACES_MAX];
};

int pcapng_next(struct pcapng *ng, struct window *w, struct capture_info *info,
                struct packet *packet);
