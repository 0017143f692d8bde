#include "book/mirror.h"
#include "book/state.h"
#include "event_size.h"
#include "counter_id.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What a record says is enough to rebuild a book: ADD, CANCEL, EXECUTE and DELETE move orders, LEVEL
 * sets one, CLEAR empties, QUOTE gives the announced top, and every record of an instrument
 * carries in its flags whether its book may be wrong and whether it trades.
 *
 * The flags speak of the engine's books. When records are missing the engine's book is right and
 * this one is not: then `torn` keeps what the flags say from clearing a book, until it is empty
 * again on both sides. A book that an engine finds broken without a record to tell it is known
 * here with the instrument's next record. */

struct mirror {
    struct books *books;
    uint32_t feed, quotes_only, gaps, torn;
    struct mirror_stats stats;
};

int mirror_create(const struct books_config *config, uint32_t feed, uint32_t quotes_only, struct mirror **mirror)
{
    struct mirror *made = calloc(1, sizeof *made);
    if (made == NULL)
        return -ENOMEM;
    made->feed = feed;
    made->quotes_only = quotes_only;
    int rc = books_create(config, &made->books);
    if (rc < 0)
        mirror_destroy(made);
    else
        *mirror = made;
    return rc;
}

void mirror_destroy(struct mirror *mirror)
{
    if (mirror == NULL)
        return;
    books_destroy(mirror->books);
    free(mirror);
}

/* ---- what breaks all books ---- */

static void begin(struct mirror *mirror, int suspect)
{
    books_clear(mirror->books);
    mirror->gaps = suspect != 0;
    mirror->torn = 0;
}

static void tear(struct mirror *mirror)
{
    mirror->stats.breaks++;
    mirror->torn = 1;
    for (uint32_t i = 0; i < BOOK_INSTRUMENTS_MAX; i++)
        book_of(mirror->books, i)->state |= BOOK_BROKEN;
}

/* ---- one instrument ---- */

static void note_flags(struct mirror *mirror, struct book *book, const struct event *event)
{
    int whole = !(event->flags & FLAG_SUSPECT);
    book->state = (book->state & ~(uint32_t)(BOOK_HALTED | BOOK_STOPPED)) | BOOK_SEEN
                | (event->flags & FLAG_HALTED ? BOOK_HALTED : 0);
    if (!whole)
        book->state |= BOOK_BROKEN;
    else if (!mirror->torn || !(book->state & BOOK_BROKEN)) {
        book->state &= ~(uint32_t)BOOK_BROKEN;
        book->epoch = mirror->gaps;
    }
}

static void empty(struct mirror *mirror, struct book *book, uint32_t instrument)
{
    book_clear(mirror->books, instrument);
    book->state &= ~(uint32_t)BOOK_BROKEN;
}

static int replace_side(struct mirror *mirror, uint32_t instrument, int side, int64_t was, int64_t price, uint32_t size)
{
    int rc = 0;
    if (was != UNDEF_PRICE && was != price)
        rc = book_level(mirror->books, instrument, side, was, 0);
    if (rc == 0 && price != UNDEF_PRICE)
        rc = book_level(mirror->books, instrument, side, price, size);
    return rc;
}

static int quote(struct mirror *mirror, struct book *book, uint32_t instrument, const struct event *event)
{
    int rc = 0;
    if (mirror->quotes_only) {
        rc = replace_side(mirror, instrument, SIDE_BID, book->bid, event->bid, event->bid_size);
        if (rc == 0)
            rc = replace_side(mirror, instrument, SIDE_ASK, book->ask, event->ask, event->ask_size);
    }
    book->bid = event->bid;
    book->ask = event->ask;
    book->bid_size = event->bid_size;
    book->ask_size = event->ask_size;
    return rc;
}

/* A venue that takes back a level which it never gave is told of as it is. */
static int level(struct mirror *mirror, uint32_t instrument, const struct event *event)
{
    int rc = book_level(mirror->books, instrument, event->side, event->price, event_size(event));
    return rc == COUNT_book_unknown_level ? 0 : rc;
}

/* 0, or the counter that says why the record does not fit the book. */
static int change(struct mirror *mirror, struct book *book, uint32_t instrument, const struct event *event)
{
    struct book_change unused;
    switch (event->kind) {
    case EVENT_ADD:     /* without a side: the new half of a replace whose order was not known */
        if (event->side == SIDE_NONE)
            return 0;
        return book_add(mirror->books, instrument, event->side, event->order_id, event->price, event->size);
    case EVENT_CANCEL:
    case EVENT_EXECUTE:
        return book_reduce(mirror->books, event->order_id, event->size, &unused);
    case EVENT_DELETE:
        return book_delete(mirror->books, event->order_id, &unused);
    case EVENT_LEVEL:
        return level(mirror, instrument, event);
    case EVENT_QUOTE:
        return quote(mirror, book, instrument, event);
    case EVENT_CLEAR:
        empty(mirror, book, instrument);
        return 0;
    case EVENT_INSTRUMENT:
        memcpy(book->symbol, &event->order_id, sizeof book->symbol);
        return 0;
    default:
        return 0;
    }
}

static void apply(struct mirror *mirror, const struct event *event)
{
    if (event->kind < EVENT_INSTRUMENT || event->kind > EVENT_QUOTE)
        return;
    uint32_t instrument = event->instrument_id & 0xffff;
    struct book *book = book_of(mirror->books, instrument);
    int rc = change(mirror, book, instrument, event);
    note_flags(mirror, book, event);
    if (rc != 0) {      /* of a torn or suspect book that is no wonder */
        mirror->stats.refused += !book_suspect(book, mirror->gaps);
        book->state |= BOOK_BROKEN;
    }
}

void mirror_apply(struct mirror *mirror, const struct event *events, uint64_t count, uint64_t lost)
{
    if (lost > 0)
        tear(mirror);
    for (uint64_t i = 0; i < count; i++) {
        const struct event *event = &events[i];
        if (event->kind == EVENT_ENGINE) {
            begin(mirror, 1);
            mirror->stats.breaks += event->aux == ENGINE_DIED;
        }
        if (event->instrument_id >> 16 != mirror->feed)
            continue;
        if (event->kind == EVENT_SESSION)
            begin(mirror, event->flags & FLAG_SUSPECT);
        else if (event->kind == EVENT_LOST)
            tear(mirror);
        else if (event->kind == EVENT_GAP)
            mirror->gaps++;
        else
            apply(mirror, event);
        mirror->stats.records++;
    }
}

struct books *mirror_books(struct mirror *mirror) { return mirror->books; }
const uint32_t *mirror_gaps(const struct mirror *mirror) { return &mirror->gaps; }
const struct mirror_stats *mirror_stats(const struct mirror *mirror) { return &mirror->stats; }
