#pragma once
#include "ring/ring.h"

/* The handle of a ring, shared by ring.c (the protocol) and map.c (the file) alone. */

struct ring {
    uint64_t next;          /* writer: position of the next record; reader: first not released */
    uint64_t gate;          /* writer: may write up to here without looking at cursors */
    uint64_t slots;
    uint64_t ready;         /* reader: peeked, not released */
    uint64_t lost;          /* writer: no room; reader: overwritten before they were read */
    struct event *slot;     /* mapped twice in a row */
    struct ring_writer *writer;
    struct ring_cursor *cursors;
    struct ring_cursor *me; /* NULL: this is the writer */
    const struct ring_header *header;
    uint64_t mapped;        /* bytes */
    int policy;             /* reader: enum ring_policy */
    int fd;
    int left;               /* ring_leave was called */
    int writes;             /* this handle holds the writer's line */
    int adopted;            /* made by another handle, which closes it */
    char path[272];         /* "" when anonymous or reader */
};

/* Makes the claimed cursor `me` count. 0, or -EAGAIN when the writer overtook every attempt. */
int ring_join(struct ring *ring, int policy, int from_start);
