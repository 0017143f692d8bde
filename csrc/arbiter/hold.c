#include "arbiter/hold.h"
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Slots are found by sequence modulo the window, so holding and finding cost one line.
 * The bytes lie in a ring in order of arrival: each entry is a header and the message, padded
 * to 8 bytes. Entries die in any order; the tail passes over dead ones, so the memory is
 * bounded and nothing is moved. An entry never wraps: a dead filler takes the rest of the ring. */

struct entry {
    uint32_t size;          /* header and padding included */
    uint32_t dead;
};
_Static_assert(sizeof(struct entry) == 8, "entries stay 8-byte aligned");

int hold_create(struct hold *hold, uint64_t window, uint64_t room)
{
    *hold = (struct hold){ .window = window, .room = room };
    hold->slots = calloc(window, sizeof *hold->slots);
    hold->bytes = malloc(room);
    return hold->slots != NULL && hold->bytes != NULL ? 0 : -ENOMEM;
}

void hold_destroy(struct hold *hold)
{
    free(hold->slots);
    free(hold->bytes);
}

static struct entry *entry_at(const struct hold *hold, uint64_t at)
{
    return (struct entry *)(void *)(hold->bytes + (at & (hold->room - 1)));
}

static void reclaim(struct hold *hold)
{
    while (hold->tail != hold->head && entry_at(hold, hold->tail)->dead)
        hold->tail += entry_at(hold, hold->tail)->size;
}

/* Makes room for `size` contiguous bytes at head. */
static bool make_room(struct hold *hold, uint64_t size)
{
    reclaim(hold);
    if (hold->tail == hold->head)
        hold->tail = hold->head = 0;
    uint64_t to_end = hold->room - (hold->head & (hold->room - 1));
    uint64_t filler = to_end < size ? to_end : 0;
    if (hold->head + filler + size - hold->tail > hold->room)
        return false;
    if (filler > 0)
        *entry_at(hold, hold->head) = (struct entry){ .size = (uint32_t)filler, .dead = 1 };
    hold->head += filler;
    return true;
}

int hold_put(struct hold *hold, uint64_t expected, uint64_t sequence, const uint8_t *data, uint32_t len,
             uint64_t ts_recv, uint64_t now_us, unsigned line)
{
    struct held *slot = &hold->slots[sequence & (hold->window - 1)];
    if (slot->sequence == sequence)
        return -EEXIST;
    uint64_t size = (sizeof(struct entry) + len + 7) & ~7ull;
    if (sequence - expected >= hold->window || !make_room(hold, size))
        return -ENOSPC;
    *slot = (struct held){ .sequence = sequence, .ts_recv = ts_recv, .since_us = now_us, .at = hold->head,
                           .len = len, .line = line };
    struct entry *entry = entry_at(hold, hold->head);
    *entry = (struct entry){ .size = (uint32_t)size };
    memcpy(entry + 1, data, len);
    hold->head += size;
    hold->count++;
    return 0;
}

const struct held *hold_get(const struct hold *hold, uint64_t sequence)
{
    const struct held *slot = &hold->slots[sequence & (hold->window - 1)];
    return slot->sequence == sequence ? slot : NULL;
}

const uint8_t *hold_bytes(const struct hold *hold, const struct held *held)
{
    return (const uint8_t *)(entry_at(hold, held->at) + 1);
}

void hold_drop(struct hold *hold, uint64_t sequence)
{
    struct held *slot = &hold->slots[sequence & (hold->window - 1)];
    if (slot->sequence != sequence)
        return;
    entry_at(hold, slot->at)->dead = 1;
    slot->sequence = 0;
    hold->count--;
}

const struct held *hold_lowest(const struct hold *hold, uint64_t from)
{
    for (uint64_t i = 0; hold->count > 0 && i < hold->window; i++)
        if (hold_get(hold, from + i) != NULL)
            return hold_get(hold, from + i);
    return NULL;
}
