#pragma once
#include "event.h"

/* For C only. */

static inline uint64_t event_size(const struct event *event)
{
    return event->flags & FLAG_WIDE ? (uint64_t)event->aux << 32 | event->size : event->size;
}
