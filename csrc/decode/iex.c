#include "base/sample.h"
#include "decode/decode_impl.h"
#include "decode/emit.h"
#include "decode/naming.h"
#include "decode/symbols.h"
#include "wire/iex.h"
#include "wire/iextp.h"
#include "wire/read.h"
#include <errno.h>
#include <stddef.h>
#include <sys/random.h>

/* The meaning of IEX TOPS 1.6 and DEEP 1.0. Instruments are named by symbol; each gets an
 * index when it first appears, which it keeps for the life of the feed, and is announced by an
 * EVENT_INSTRUMENT when it first appears in a session, because nothing else in the stream would
 * tell which symbol an index is.
 *
 * DEEP tells price levels. One event at the venue may change several; the last update says
 * that the event is complete, and only then are the best prices looked at. TOPS tells the
 * best prices alone: a book of at most one level a side.
 *
 * What the venue tells beyond the named fields of an event:
 *   TRADE    order_id = trade id, aux = sale condition flags
 *   AUCTION  price = reference, size = imbalance, order_id = paired shares, aux = auction type
 *   STATUS   aux = status, order_id = message type
 *   INFO     aux = message type, order_id = the message's second byte
 *   INSTRUMENT  size = round lot, UNDEF_SIZE when announced without a directory message */

#define ASSERT_LENGTH(type, name, length) \
    _Static_assert(sizeof(struct iex_##name) == (length), #name " has its length in the specification");
TOPS16_MESSAGES(ASSERT_LENGTH)
DEEP10_MESSAGES(ASSERT_LENGTH)

static const uint8_t tops16_length[256] = { TOPS16_MESSAGES(MESSAGE_LENGTH) };
static const uint8_t deep10_length[256] = { DEEP10_MESSAGES(MESSAGE_LENGTH) };
static const struct message_type tops16_types[] = { TOPS16_MESSAGES(MESSAGE_ROW) };
static const struct message_type deep10_types[] = { DEEP10_MESSAGES(MESSAGE_ROW) };

#define AS(name, message) ((const struct iex_##name *)(message)->data)

/* All messages begin: type, one byte of their own, timestamp, and but for S the symbol. */
static struct event event_of(const struct message *message, uint32_t instrument, uint8_t kind)
{
    return (struct event){
        .ts_recv = message->ts_recv, .ts_event = rd_ns64le(AS(system_event, message)->timestamp),
        .sequence = message->sequence, .instrument_id = instrument,
        .kind = kind, .flags = FLAG_LAST, .price = UNDEF_PRICE, .size = UNDEF_SIZE,
    };
}

static void emit_plain(struct decoder *decoder, struct book *book, struct event *event)
{
    event->flags |= book_flags(book, decoder->gaps);
    outlet_put(&decoder->out, event);
}

static void announce(struct decoder *decoder, const struct message *message, struct book *book,
                     uint32_t instrument, uint32_t round_lot, uint16_t flags)
{
    struct event event = event_of(message, instrument, EVENT_INSTRUMENT);
    instrument_tell(decoder, instrument, book->symbol, sizeof book->symbol, round_lot == UNDEF_SIZE ? 0 : round_lot);
    event.flags = flags;
    event.size = round_lot;
    memcpy(&event.order_id, book->symbol, sizeof book->symbol);
    emit_plain(decoder, book, &event);
}

/* ---- levels ---- */

static void failed(struct decoder *decoder, struct book *book, int code)
{
    if (code == COUNT_book_unknown_level)       /* the live feed does this: nothing is wrong */
        COUNT(decoder->out.counters, book_unknown_level);
    else if (code)
        book_failed(decoder, book, code);
}

static int put_level(struct decoder *decoder, uint32_t instrument, int side, int64_t price, uint32_t size)
{
    uint64_t begun = sample_begin(decoder->out.sample);
    int code = book_level(decoder->books, instrument, side, price, size);
    sample_book(decoder->out.sample, begun, 1);
    return code;
}

static void set_level(struct decoder *decoder, struct book *book, uint32_t instrument, int side, int64_t price,
                      uint32_t size)
{
    failed(decoder, book, price <= 0 || price == UNDEF_PRICE ? COUNT_book_bad_price
                          : put_level(decoder, instrument, side, price, size));
}

static void level_update(struct decoder *decoder, const struct message *message, struct book *book,
                         uint32_t instrument, uint8_t side)
{
    const struct iex_buy_level_update *m = AS(buy_level_update, message);   /* 5 is the same */
    struct event event = event_of(message, instrument, EVENT_LEVEL);
    event.side = side;
    event.price = rd_px4le(m->price);
    event.size = rd_le32(m->size);
    set_level(decoder, book, instrument, side, event.price, event.size);
    if (m->event_flags & IEX_EVENT_COMPLETE) {
        emit_change(decoder, book, &event);
    } else {
        event.flags |= FLAG_INCOMPLETE;
        emit_plain(decoder, book, &event);
    }
}

/* Makes a side of the book one level, or none. */
static void set_side(struct decoder *decoder, struct book *book, uint32_t instrument, int side, int64_t price,
                     uint32_t size)
{
    const struct book_side *levels = &book->side[side == SIDE_ASK];
    if (levels->count) {
        int64_t old = books_levels(decoder->books)[levels->at].price;
        if (old != price || size == 0)
            failed(decoder, book, put_level(decoder, instrument, side, old, 0));
    }
    if (price != 0 && size != 0)
        set_level(decoder, book, instrument, side, price, size);
}

/* The whole book: right from here, unless a side of this one fails. */
static void quote_update(struct decoder *decoder, const struct message *message, struct book *book, uint32_t instrument)
{
    const struct iex_quote_update *m = AS(quote_update, message);
    struct event event = event_of(message, instrument, EVENT_QUOTE);
    book->epoch = decoder->gaps;                /* whatever was lost or broken before */
    book->state &= ~(uint32_t)BOOK_BROKEN;
    set_side(decoder, book, instrument, SIDE_BID, rd_px4le(m->bid_price), rd_le32(m->bid_size));
    set_side(decoder, book, instrument, SIDE_ASK, rd_px4le(m->ask_price), rd_le32(m->ask_size));
    emit_top(decoder, book, &event);
}

/* ---- trades ---- */

static void trade(struct decoder *decoder, const struct message *message, struct book *book, uint32_t instrument,
                  uint8_t kind)
{
    const struct iex_trade_report *m = AS(trade_report, message);   /* a break is the same */
    struct event event = event_of(message, instrument, kind);
    event.price = rd_px4le(m->price);
    event.size = rd_le32(m->size);
    event.order_id = rd_le64(m->trade_id);
    event.aux = m->sale_condition_flags;
    if (m->sale_condition_flags & IEX_SINGLE_PRICE_CROSS)
        event.flags |= FLAG_CROSS;
    emit_plain(decoder, book, &event);
}

static void auction(struct decoder *decoder, const struct message *message, struct book *book, uint32_t instrument)
{
    const struct iex_auction_information *m = AS(auction_information, message);
    struct event event = event_of(message, instrument, EVENT_AUCTION);
    event.side = side_of(m->imbalance_side);
    event.price = rd_px4le(m->reference_price);
    event.size = rd_le32(m->imbalance_shares);
    event.order_id = rd_le32(m->paired_shares);
    event.aux = (uint8_t)m->auction_type;
    emit_plain(decoder, book, &event);
}

/* ---- administration ---- */

/* Halts of the listing market and of IEX alone end independently. The order acceptance
 * period is part of a halt. */
static void status(struct decoder *decoder, const struct message *message, struct book *book, uint32_t instrument)
{
    struct event event = event_of(message, instrument, EVENT_STATUS);
    uint8_t type = message->data[0], code = message->data[1];
    uint32_t bit = type == 'H' ? BOOK_HALTED : type == 'O' ? BOOK_STOPPED : 0;
    if (code == 'H' || code == 'P' || code == 'O')
        book->state |= bit;
    if (code == 'T' || code == 'N')
        book->state &= ~bit;
    event.aux = code;
    event.order_id = type;
    emit_plain(decoder, book, &event);
}

static void info(struct decoder *decoder, const struct message *message, struct book *book, uint32_t instrument)
{
    struct event event = event_of(message, instrument, EVENT_INFO);
    event.aux = message->data[0];
    event.order_id = message->data[1];
    if (message->data[0] == 'X')
        event.price = rd_px4le(AS(official_price, message)->price);
    emit_plain(decoder, book, &event);
}

static void system_event(struct decoder *decoder, const struct message *message)
{
    struct event event = event_of(message, 0, EVENT_SYSTEM);
    event.aux = message->data[1];
    outlet_put(&decoder->out, &event);
}

/* ---- dispatch ---- */

/* One symbol more than there are indices: told, and no book is touched. */
static void nowhere(struct decoder *decoder, const struct message *message)
{
    struct event event = event_of(message, 0, EVENT_INFO);
    event.aux = message->data[0];
    event.order_id = message->data[1];
    event.flags |= FLAG_SUSPECT;
    instrument_refuse(decoder, AS(security_event, message)->symbol, sizeof AS(security_event, message)->symbol);
    outlet_put(&decoder->out, &event);
}

static void apply_to(struct decoder *decoder, const struct message *message, struct book *book, uint32_t instrument)
{
    switch (message->data[0]) {
    case '8': level_update(decoder, message, book, instrument, SIDE_BID); break;
    case '5': level_update(decoder, message, book, instrument, SIDE_ASK); break;
    case 'Q': quote_update(decoder, message, book, instrument); break;
    case 'T': trade(decoder, message, book, instrument, EVENT_TRADE); break;
    case 'B': trade(decoder, message, book, instrument, EVENT_BREAK); break;
    case 'A': auction(decoder, message, book, instrument); break;
    case 'H':
    case 'O':
    case 'P': status(decoder, message, book, instrument); break;
    case 'D':
        announce(decoder, message, book, instrument,
                 rd_le32(AS(security_directory, message)->round_lot_size), FLAG_LAST);
        break;
    default: info(decoder, message, book, instrument); break;
    }
}

static void apply(struct decoder *decoder, const struct message *message)
{
    uint8_t type = message->data[0];
    if (type == 'S') {
        system_event(decoder, message);
        return;
    }
    const char *symbol = AS(security_event, message)->symbol;   /* in the same place in all */
    uint32_t instrument = symbols_index(decoder->state, symbol);
    if (instrument == 0) {
        nowhere(decoder, message);
        return;
    }
    struct book *book = book_of(decoder->books, instrument);
    if (!(book->state & BOOK_SEEN)) {
        book->state |= BOOK_SEEN;
        memcpy(book->symbol, symbol, sizeof book->symbol);
        if (type != 'D')
            announce(decoder, message, book, instrument, UNDEF_SIZE, 0);
    }
    apply_to(decoder, message, book, instrument);
}

/* Shorter than its type: what it did to a book is not known. Its symbol may be no symbol, so it
 * takes no index; one that is not known leaves no book above doubt. */
static void unreadable(struct decoder *decoder, const struct message *message, const uint8_t *length_of)
{
    enum { TO_SYMBOL = offsetof(struct iex_security_event, symbol) + 8 };
    uint8_t type = message->len > 0 ? message->data[0] : 0;
    if (message->len > 0 && (length_of[type] == 0 || (type != '8' && type != '5' && type != 'Q')))
        return;
    const char *symbol = AS(security_event, message)->symbol;
    uint32_t instrument = message->len < TO_SYMBOL ? 0 : symbols_find(decoder->state, symbol);
    doubt(decoder, instrument == 0 ? NULL : book_of(decoder->books, instrument));
}

/* A message may be longer than its struct: IEX grows messages at their end. */
static void decode(struct decoder *decoder, const struct message *messages, unsigned count, const uint8_t *length_of)
{
    for (unsigned i = 0; i < count; i++)
        if (message_accept(decoder, &messages[i], length_of, 1))
            apply(decoder, &messages[i]);
        else
            unreadable(decoder, &messages[i], length_of);
}

static void tops16_decode(struct decoder *decoder, const struct message *messages, unsigned count)
{
    decode(decoder, messages, count, tops16_length);
}

static void deep10_decode(struct decoder *decoder, const struct message *messages, unsigned count)
{
    decode(decoder, messages, count, deep10_length);
}

static int open(struct decoder *decoder)
{
    uint64_t seed;
    struct symbols *symbols;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed)
        return -EAGAIN;
    int rc = symbols_create(BOOK_INSTRUMENTS_MAX - 1, seed, &symbols);
    if (rc == 0)
        decoder->state = symbols;
    return rc;
}

static void close(struct decoder *decoder)
{
    symbols_destroy(decoder->state);
    decoder->state = NULL;
}

/* Symbols keep their indices from one session to the next, and from one engine to the next that
 * names them in the same table: positions and limits, which are kept by index, outlive both. */
static void reset(struct decoder *decoder)
{
    struct instrument row;
    const uint32_t base = decoder->out.feed * INSTRUMENTS_EACH;
    uint32_t next = symbols_used(decoder->state) + 1;
    while (decoder->instruments != NULL && instruments_read(decoder->instruments, base + next, 1, &row) == 1) {
        char symbol[] = "        ";
        memcpy(symbol, row.symbol, strnlen(row.symbol, strlen(symbol)));
        if (symbols_index(decoder->state, symbol) != next++)
            break;
    }
}

const struct protocol tops16_protocol = {
    .name = "tops16", .prefix = "iex", .venue = "IEXG", .currency = "USD",
    .framing = &iextp_framing, .variant = IEXTP_TOPS_1_6, .grows = 1,
    .types = tops16_types, .types_count = sizeof tops16_types / sizeof tops16_types[0],
    .open = open, .close = close, .reset = reset, .decode = tops16_decode,
};

const struct protocol deep10_protocol = {
    .name = "deep10", .prefix = "iex", .venue = "IEXG", .currency = "USD",
    .framing = &iextp_framing, .variant = IEXTP_DEEP_1_0, .grows = 1,
    .types = deep10_types, .types_count = sizeof deep10_types / sizeof deep10_types[0],
    .open = open, .close = close, .reset = reset, .decode = deep10_decode,
};
