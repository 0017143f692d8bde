#pragma once
#include "counter_id.h"
#include "decode.h"

/* Where decoders write their records. For C only. */

#define COUNT(counters, name) ((counters)->value[COUNT_##name]++)

/* Puts one record into the feed's ring, if there is one. What finds no room is counted and
 * announced by an EVENT_LOST before the next record that fits. Fills instrument_id's feed. */
void emit(struct decoder *decoder, struct event *event);

/* Flags of an event about `book`: suspect, halted. */
static inline uint16_t book_flags(const struct decoder *decoder, const struct book *book)
{
    uint16_t flags = 0;
    if (book->epoch != decoder->gaps || (book->state & BOOK_BROKEN))
        flags |= FLAG_SUSPECT;
    if (book->state & BOOK_HALTED)
        flags |= FLAG_HALTED;
    return flags;
}

/* After a message changed a book: if its best prices or their sizes moved, emits EVENT_QUOTE
 * with the header fields of `cause` and counts a crossed book. */
void emit_quote(struct decoder *decoder, struct book *book, const struct event *cause);
