#include "emit.h"

struct top {
    int64_t bid, ask;
    uint32_t bid_size, ask_size;
};

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

static struct top top_of(const struct books *books, const struct book *book)
{
    struct top top;
    top.bid_size = best(books, &book->side[0], &top.bid);
    top.ask_size = best(books, &book->side[1], &top.ask);
    return top;
}

static int moved(const struct top *top, const struct book *book)
{
    return top->bid != book->bid || top->ask != book->ask
        || top->bid_size != book->bid_size || top->ask_size != book->ask_size;
}

static uint16_t crossed(const struct top *top)
{
    return top->bid_size && top->ask_size && top->bid >= top->ask ? FLAG_CROSSED : 0;
}

/* A refused EVENT_LOST stands in for the record that follows it, so the ring's own count of
 * refused records stays equal to events_lost. */
static int put(struct decoder *decoder, const struct event *event)
{
    if (decoder->unreported) {
        struct event lost = {
            .ts_recv = event->ts_recv, .ts_event = event->ts_event, .sequence = event->sequence,
            .instrument_id = decoder->feed << 16, .kind = EVENT_LOST,
            .price = UNDEF_PRICE, .order_id = decoder->unreported, .size = UNDEF_SIZE,
        };
        if (ring_put(decoder->out, &lost))
            return -1;
        decoder->unreported = 0;
        COUNT(decoder->counters, events_written);
    }
    return ring_put(decoder->out, event);
}

void emit(struct decoder *decoder, struct event *event)
{
    if (!decoder->out)
        return;
    event->instrument_id |= decoder->feed << 16;
    if (put(decoder, event) == 0) {
        COUNT(decoder->counters, events_written);
    } else {
        decoder->unreported++;
        COUNT(decoder->counters, events_lost);
    }
}

static void announce(struct decoder *decoder, struct book *book, const struct top *top,
                     const struct event *cause)
{
    uint16_t cross = crossed(top);
    struct event quote = {
        .ts_recv = cause->ts_recv, .ts_event = cause->ts_event, .sequence = cause->sequence,
        .instrument_id = cause->instrument_id, .kind = EVENT_QUOTE,
        .flags = FLAG_LAST | cross | book_flags(decoder, book),
        .bid = top->bid, .ask = top->ask, .bid_size = top->bid_size, .ask_size = top->ask_size,
    };
    if (cross)
        COUNT(decoder->counters, book_crossed);
    book->bid = top->bid;
    book->ask = top->ask;
    book->bid_size = top->bid_size;
    book->ask_size = top->ask_size;
    emit(decoder, &quote);
}

void emit_top(struct decoder *decoder, struct book *book, const struct event *cause)
{
    struct top top = top_of(decoder->books, book);
    announce(decoder, book, &top, cause);
}

void emit_quote(struct decoder *decoder, struct book *book, const struct event *cause)
{
    struct top top = top_of(decoder->books, book);
    if (moved(&top, book))
        announce(decoder, book, &top, cause);
}

void emit_change(struct decoder *decoder, struct book *book, struct event *event)
{
    struct top top = top_of(decoder->books, book);
    int quoted = moved(&top, book);
    event->flags |= book_flags(decoder, book) | crossed(&top);
    if (quoted)
        event->flags &= (uint16_t)~FLAG_LAST;
    emit(decoder, event);
    if (quoted)
        announce(decoder, book, &top, event);
}
