#pragma once
#include <stdint.h>

/* Copies of messages that came before their turn. For C only. Theory in hold.c. */

struct held {
    uint64_t sequence;      /* 0: the slot is empty */
    uint64_t ts_recv;
    uint64_t since_us;      /* record clock when it came */
    uint64_t at;            /* in the byte ring */
    uint32_t len;
    uint32_t line;
};

struct hold {
    struct held *slots;     /* by sequence modulo window */
    uint8_t *bytes;         /* byte ring */
    uint64_t window, room;  /* both powers of two */
    uint64_t head, tail;    /* ever allocated, ever freed */
    uint64_t count;
};

int hold_create(struct hold *hold, uint64_t window, uint64_t room);
void hold_destroy(struct hold *hold);
/* 0, -EEXIST when that sequence is held, -ENOSPC when it does not fit. */
int hold_put(struct hold *hold, uint64_t expected, uint64_t sequence, const uint8_t *data, uint32_t len,
             uint64_t ts_recv, uint64_t now_us, unsigned line);
/* The bytes of a message handed out by hold_get stay until the next hold_put after its hold_drop. */
const struct held *hold_get(const struct hold *hold, uint64_t sequence);
const uint8_t *hold_bytes(const struct hold *hold, const struct held *held);
void hold_drop(struct hold *hold, uint64_t sequence);
/* Lowest sequence held at or after `from`; 0 when nothing is held. */
const struct held *hold_lowest(const struct hold *hold, uint64_t from);
