#pragma once
#include "counter_id.h"
#include "decode/decode.h"

/* Where decoders write their records. For C only. */

#define UNDEF_PRICE INT64_MAX
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
    if (book->state & (BOOK_HALTED | BOOK_STOPPED))
        flags |= FLAG_HALTED;
    return flags;
}

/* A book operation returned `code`: counted, and the book is suspect from here unless a gap
 * explains it, in which case it is suspect already and a rebuild after the gap is enough. */
static inline void book_failed(struct decoder *decoder, struct book *book, int code)
{
    decoder->counters->value[code]++;
    if (book->epoch == decoder->gaps)
        book->state |= BOOK_BROKEN;
}

/* A message that cannot be read may have changed `book`, or any if that is NULL. */
static inline void doubt(struct decoder *decoder, struct book *book)
{
    if (!book)
        decoder->gaps++;
    else if (book->epoch == decoder->gaps)
        book->state |= BOOK_BROKEN;
}

/* After a message changed a book: if its best prices or their sizes moved, emits EVENT_QUOTE
 * with the header fields of `cause` and counts a crossed book. */
void emit_quote(struct decoder *decoder, struct book *book, const struct event *cause);

/* The same for a venue that says "here is the quote": always emits. */
void emit_top(struct decoder *decoder, struct book *book, const struct event *cause);

/* `event`, which changed `book`, with the book's flags, then emit_quote(). `event` has
 * FLAG_LAST on entry; it passes on to the quote when there is one. */
void emit_change(struct decoder *decoder, struct book *book, struct event *event);

/* The same for a venue whose every change is announced at once: when `event` has a side, the
 * other one is as it was announced, and so is the best of this one when nothing as good as it was
 * touched: `price` is the best that was. What is known need not be fetched. */
void emit_order(struct decoder *decoder, struct book *book, struct event *event, int64_t price);
