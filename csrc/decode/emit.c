#include "decode/emit.h"

static uint32_t best(const struct books *books, const struct book_side *side, int64_t *price)
{
    if (side->count == 0) {
        *price = UNDEF_PRICE;
        return 0;
    }
    const struct level *level = &books_levels(books)[side->at + side->count - 1];
    *price = level->price;
    return level->size < UNDEF_SIZE ? (uint32_t)level->size : UNDEF_SIZE;
}

static uint16_t wide(struct counters *counters, const struct book *book)
{
    if (book->bid_size != UNDEF_SIZE && book->ask_size != UNDEF_SIZE)
        return 0;
    COUNT(counters, quote_size_cut);
    return FLAG_WIDE;
}

/* Brings the announced top of one side up to date; was it another? */
static int moved(const struct books *books, struct book *book, int ask)
{
    int64_t price, *was = ask ? &book->ask : &book->bid;
    uint32_t size = best(books, &book->side[ask], &price), *size_was = ask ? &book->ask_size : &book->bid_size;
    if (*was == price && *size_was == size)
        return 0;
    *was = price;
    *size_was = size;
    return 1;
}

static int moved_at_all(const struct books *books, struct book *book)
{
    return moved(books, book, 0) | moved(books, book, 1);
}

static uint16_t crossed(const struct book *book)
{
    return book->bid_size && book->ask_size && book->bid >= book->ask ? FLAG_CROSSED : 0;
}

static void announce(struct decoder *decoder, const struct book *book, const struct event *cause)
{
    uint16_t cross = crossed(book);
    struct event quote = {
        .ts_recv = cause->ts_recv, .ts_event = cause->ts_event, .sequence = cause->sequence,
        .instrument_id = cause->instrument_id, .kind = EVENT_QUOTE,
        .flags = FLAG_LAST | cross | book_flags(book, decoder->gaps) | wide(decoder->out.counters, book),
        .bid = book->bid, .ask = book->ask, .bid_size = book->bid_size, .ask_size = book->ask_size,
    };
    if (cross)
        COUNT(decoder->out.counters, book_crossed);
    outlet_put(&decoder->out, &quote);
}

void emit_top(struct decoder *decoder, struct book *book, const struct event *cause)
{
    moved_at_all(decoder->books, book);
    announce(decoder, book, cause);
}

static void change(struct decoder *decoder, const struct book *book, struct event *event, int quoted)
{
    event->flags |= book_flags(book, decoder->gaps) | crossed(book);
    if (quoted)
        event->flags &= (uint16_t)~FLAG_LAST;
    outlet_put(&decoder->out, event);
    if (quoted)
        announce(decoder, book, event);
}

void emit_change(struct decoder *decoder, struct book *book, struct event *event)
{
    change(decoder, book, event, moved_at_all(decoder->books, book));
}

/* Is this price worse than the announced best of its side? */
static int behind(const struct book *book, int ask, int64_t price)
{
    return ask ? price > book->ask : book->bid != UNDEF_PRICE && price < book->bid;
}

void emit_order(struct decoder *decoder, struct book *book, struct event *event, int64_t price)
{
    const int ask = event->side == SIDE_ASK;
    int quoted = event->side == SIDE_NONE ? moved_at_all(decoder->books, book)
                                          : !behind(book, ask, price) && moved(decoder->books, book, ask);
    change(decoder, book, event, quoted);
}
