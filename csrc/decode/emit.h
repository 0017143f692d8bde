#pragma once
#include "book/state.h"
#include "counter_id.h"
#include "decode/decode.h"

/* The records that tell of a change of a book. For C only. */

/* A book operation returned `code`: counted, and the book is suspect from here unless a gap
 * explains it, in which case it is suspect already and a rebuild after the gap is enough. */
static inline void book_failed(struct decoder *decoder, struct book *book, int code)
{
    decoder->out.counters->value[code]++;
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

/* A venue said "here is the quote": an EVENT_QUOTE with the header fields of `cause`, and a crossed
 * book is counted. */
void emit_top(struct decoder *decoder, struct book *book, const struct event *cause);

/* `event`, which changed `book`, with the book's flags, then a quote when the best prices or their
 * sizes moved. `event` has FLAG_LAST on entry; it passes on to the quote when there is one. */
void emit_change(struct decoder *decoder, struct book *book, struct event *event);

/* The same for a venue whose every change is announced at once: when `event` has a side, the
 * other one is as it was announced, and so is the best of this one when nothing as good as it was
 * touched: `price` is the best that was. What is known need not be fetched. */
void emit_order(struct decoder *decoder, struct book *book, struct event *event, int64_t price);
