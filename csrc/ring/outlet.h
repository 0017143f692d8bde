#pragma once
#include "count.h"
#include "event.h"
#include "ring/ring.h"

/* What writes records to a ring: for one feed, or for the engine itself. */

struct sample;

struct outlet {
    struct ring *ring;      /* NULL: nobody listens */
    struct counters *counters;
    struct sample *sample;  /* NULL: not looked at closely now */
    uint64_t unreported;    /* records lost since the last one that fitted */
    uint32_t feed;          /* upper half of instrument_id */
    uint32_t pad;
};

/* Puts one record into the ring, if there is one. What finds no room is counted and announced by an
 * EVENT_LOST before the next record that fits. Fills instrument_id's feed. */
void outlet_put(struct outlet *outlet, struct event *event);
