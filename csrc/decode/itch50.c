#include "base/sample.h"
#include "decode/decode_impl.h"
#include "decode/emit.h"
#include "decode/naming.h"
#include "wire/itch50.h"
#include "wire/read.h"
#include <errno.h>
#include <stdlib.h>

/* The meaning of Nasdaq TotalView-ITCH 5.0. An order is named by its reference alone; side,
 * price and what is left of it come from the book. The locate code is the instrument's index
 * in the feed; 0 names none.
 *
 * What the venue tells beyond the named fields of an event:
 *   EXECUTE  aux = low half of the match number
 *   TRADE    order_id = match number, aux = cross type (Q) or 0 (P)
 *   AUCTION  price = current reference, size = imbalance, order_id = paired shares,
 *            aux = cross type
 *   STATUS   aux = trading state (H) or action (h), order_id = message type
 *   INSTRUMENT  size = round lot
 * A size that does not fit 32 bits becomes UNDEF_SIZE. */

#define ASSERT_LENGTH(type, name, length) \
    _Static_assert(sizeof(struct itch50_##name) == (length), #name " has its length in the specification");
ITCH50_MESSAGES(ASSERT_LENGTH)

static const uint8_t length_of[256] = { ITCH50_MESSAGES(MESSAGE_LENGTH) };
static const struct message_type types[] = { ITCH50_MESSAGES(MESSAGE_ROW) };

#define AS(name, message) ((const struct itch50_##name *)(message)->data)

/* A directory message vouches for an empty book if it precedes the instrument's first order, and
 * does so in any case when nothing was lost. After a gap, or a late join, one that is sent again
 * looks the same, and orders may be among what was lost. Directory messages come at the start of
 * the day (1.2.1), so one is taken for the first until the market opens (1.1, event Q) and for
 * one sent again from then on. A late joiner cannot tell before it sees an event that precedes
 * the opening. A cross is a sign that the opening itself was lost. */
enum day { DAY_NEW, DAY_BEFORE_MARKET, DAY_MARKET_OR_UNKNOWN };
struct state {
    enum day day;
};

static void set_day(struct decoder *decoder, enum day day) { ((struct state *)decoder->state)->day = day; }
static enum day day_of(const struct decoder *decoder) { return ((const struct state *)decoder->state)->day; }

enum { BATCH = 64 };    /* messages whose memory is fetched ahead */

static int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
static uint32_t saturate(uint64_t size) { return size < UNDEF_SIZE ? (uint32_t)size : UNDEF_SIZE; }

static struct event event_of(const struct decoder *decoder, const struct message *message, uint8_t kind)
{
    const struct itch50_header *h = AS(header, message);
    return (struct event){
        .ts_recv = message->ts_recv, .ts_event = decoder->midnight_ns + rd_ns48be(h->timestamp),
        .sequence = message->sequence, .instrument_id = rd_be16(h->locate),
        .kind = kind, .flags = FLAG_LAST, .price = UNDEF_PRICE, .size = UNDEF_SIZE,
    };
}

static uint16_t locate_of(const struct message *message) { return rd_be16(AS(header, message)->locate); }

/* An instrument first seen without a directory message that counts keeps epoch 0: after a gap
 * it may have had orders that nobody saw. */
static struct book *seen(struct decoder *decoder, uint32_t instrument)
{
    struct book *book = book_of(decoder->books, instrument);
    if (!(book->state & BOOK_SEEN))
        book->state |= BOOK_SEEN;
    return book;
}

/* A record about an instrument, or about none, that changes no book. */
static void emit_plain(struct decoder *decoder, struct event *event)
{
    if (event->instrument_id)
        event->flags |= book_flags(seen(decoder, event->instrument_id), decoder->gaps);
    outlet_put(&decoder->out, event);
}

/* ---- orders ---- */

/* 0, or the counter that says why not. */
static int add_order(struct decoder *decoder, const struct book_fetch *fetch, uint32_t instrument, uint8_t side,
                     be32 shares)
{
    if (side == SIDE_NONE)
        return COUNT_book_bad_side;
    if (fetch->price == 0 || fetch->price > (int64_t)ITCH50_PRICE_MAX * 100000)
        return COUNT_book_bad_price;
    uint64_t begun = sample_begin(decoder->out.sample);
    int code = book_add_fetched(decoder->books, fetch, instrument, side, rd_be32(shares));
    sample_book(decoder->out.sample, begun, 1);
    return code;
}

static void add(struct decoder *decoder, const struct message *message, const struct book_fetch *fetch)
{
    const struct itch50_add_order *m = AS(add_order, message);   /* F begins the same way */
    struct event event = event_of(decoder, message, EVENT_ADD);
    struct book *book = seen(decoder, event.instrument_id);
    event.order_id = fetch->id;
    event.side = side_of(m->side);
    event.price = fetch->price;
    event.size = rd_be32(m->shares);
    int code = add_order(decoder, fetch, event.instrument_id, event.side, m->shares);
    if (code)
        book_failed(decoder, book, code);
    emit_order(decoder, book, &event, event.price);
}

/* Fills `event` from what an operation on an order did, if it did. An order that lives under
 * another instrument than the message says leaves neither book above doubt. */
static struct book *changed(struct decoder *decoder, struct event *event, const struct book_change *change, int code)
{
    struct book *book = seen(decoder, event->instrument_id);
    if (code)
        book_failed(decoder, book, code);
    if (code && code != COUNT_book_over_reduce)
        return book;
    if (change->instrument != event->instrument_id) {
        book_failed(decoder, book, COUNT_book_instrument);
        book = book_of(decoder->books, change->instrument);
        book->state |= BOOK_BROKEN;
        event->instrument_id = change->instrument;
    }
    event->price = change->price;
    event->size = change->size;
    event->side = change->side;
    return book;
}

static void reduce(struct decoder *decoder, const struct message *message, const struct book_fetch *fetch, uint8_t kind)
{
    const struct itch50_order_cancel *m = AS(order_cancel, message);    /* E and C begin the same way */
    struct event event = event_of(decoder, message, kind);
    struct book_change change;
    event.order_id = fetch->id;
    event.size = rd_be32(m->shares);
    uint64_t begun = sample_begin(decoder->out.sample);
    int code = book_reduce_fetched(decoder->books, fetch, event.size, &change);
    sample_book(decoder->out.sample, begun, 1);
    struct book *book = changed(decoder, &event, &change, code);
    const int64_t price = event.price;
    if (kind == EVENT_EXECUTE)
        event.aux = (uint32_t)rd_be64(AS(order_executed, message)->match_number);
    if (message->data[0] == 'C') {
        event.price = rd_px4be(AS(order_executed_with_price, message)->price);
        if (AS(order_executed_with_price, message)->printable == 'N')
            event.flags |= FLAG_HIDDEN;
    }
    emit_order(decoder, book, &event, price);
}

static int delete_order(struct decoder *decoder, const struct book_fetch *fetch, struct book_change *change)
{
    uint64_t begun = sample_begin(decoder->out.sample);
    int code = book_delete_fetched(decoder->books, fetch, change);
    sample_book(decoder->out.sample, begun, 1);
    return code;
}

static void delete(struct decoder *decoder, const struct message *message, const struct book_fetch *fetch)
{
    struct event event = event_of(decoder, message, EVENT_DELETE);
    struct book_change change;
    event.order_id = fetch->id;
    int code = delete_order(decoder, fetch, &change);
    struct book *book = changed(decoder, &event, &change, code);
    emit_order(decoder, book, &event, event.price);
}

/* The new order keeps side and instrument of the old and goes to the end of its queue. */
static void replace(struct decoder *decoder, const struct message *message, const struct book_fetch *fetch)
{
    const struct itch50_order_replace *m = AS(order_replace, message);
    struct event old = event_of(decoder, message, EVENT_DELETE);
    struct book_change change;
    old.order_id = fetch[0].id;
    int code = delete_order(decoder, &fetch[0], &change);
    struct book *book = changed(decoder, &old, &change, code);

    struct event new = old;
    new.kind = EVENT_ADD;
    new.order_id = fetch[1].id;
    new.price = fetch[1].price;
    new.size = rd_be32(m->shares);
    if (!code)
        code = add_order(decoder, &fetch[1], old.instrument_id, old.side, m->shares);
    if (code && code != COUNT_book_unknown_order)
        book_failed(decoder, book, code);
    old.flags = FLAG_REPLACE | book_flags(book, decoder->gaps);
    new.flags |= FLAG_REPLACE;
    outlet_put(&decoder->out, &old);
    emit_order(decoder, book, &new, old.side == SIDE_ASK ? min(old.price, new.price) : max(old.price, new.price));
}

/* ---- trades ---- */

static void trade(struct decoder *decoder, const struct message *message)
{
    const struct itch50_trade *m = AS(trade, message);
    struct event event = event_of(decoder, message, EVENT_TRADE);
    event.flags |= FLAG_HIDDEN;
    event.side = side_of(m->side);
    event.price = rd_px4be(m->price);
    event.size = rd_be32(m->shares);
    event.order_id = rd_be64(m->match_number);
    emit_plain(decoder, &event);
}

static void cross_trade(struct decoder *decoder, const struct message *message)
{
    const struct itch50_cross_trade *m = AS(cross_trade, message);
    struct event event = event_of(decoder, message, EVENT_TRADE);
    event.flags |= FLAG_CROSS;
    event.price = rd_px4be(m->cross_price);
    event.size = saturate(rd_be64(m->shares));
    event.order_id = rd_be64(m->match_number);
    event.aux = (uint8_t)m->cross_type;
    set_day(decoder, DAY_MARKET_OR_UNKNOWN);
    emit_plain(decoder, &event);
}

static void broken_trade(struct decoder *decoder, const struct message *message)
{
    struct event event = event_of(decoder, message, EVENT_BREAK);
    event.order_id = rd_be64(AS(broken_trade, message)->match_number);
    emit_plain(decoder, &event);
}

static void noii(struct decoder *decoder, const struct message *message)
{
    const struct itch50_noii *m = AS(noii, message);
    struct event event = event_of(decoder, message, EVENT_AUCTION);
    event.side = side_of(m->imbalance_direction);
    event.price = rd_px4be(m->current_reference_price);
    event.size = saturate(rd_be64(m->imbalance_shares));
    event.order_id = rd_be64(m->paired_shares);
    event.aux = (uint8_t)m->cross_type;
    emit_plain(decoder, &event);
}

/* ---- administration ---- */

/* A live locate code given to another symbol: what was in its book is nobody's. */
static void remap(struct decoder *decoder, const struct message *message, struct book *book)
{
    struct event event = event_of(decoder, message, EVENT_CLEAR);
    book_clear(decoder->books, event.instrument_id);
    book->state = BOOK_SEEN | BOOK_BROKEN;
    COUNT(decoder->out.counters, book_instrument);
    event.flags = 0;
    emit_plain(decoder, &event);    /* the quote follows the directory's record */
}

static void directory(struct decoder *decoder, const struct message *message)
{
    const struct itch50_stock_directory *m = AS(stock_directory, message);
    struct event event = event_of(decoder, message, EVENT_INSTRUMENT);
    struct book *book = book_of(decoder->books, event.instrument_id);
    if (!(book->state & BOOK_SEEN)) {
        if (day_of(decoder) == DAY_BEFORE_MARKET)
            book->epoch = decoder->gaps;
    } else if (book->symbol[0] && memcmp(book->symbol, m->stock, sizeof m->stock) != 0) {
        remap(decoder, message, book);
    }
    memcpy(book->symbol, m->stock, sizeof m->stock);
    memcpy(&event.order_id, m->stock, sizeof m->stock);
    event.size = rd_be32(m->round_lot_size);
    instrument_tell(decoder, event.instrument_id, m->stock, sizeof m->stock, event.size);
    seen(decoder, event.instrument_id);
    emit_order(decoder, book, &event, UNDEF_PRICE);
}

/* 1.2.2. Quotation only is the part of a halt or pause in which orders are taken for the cross
 * that ends it: nothing trades before T. */
static void trading_action(struct decoder *decoder, const struct message *message)
{
    struct event event = event_of(decoder, message, EVENT_STATUS);
    struct book *book = seen(decoder, event.instrument_id);
    char state = AS(stock_trading_action, message)->trading_state;
    if (state == 'H' || state == 'P' || state == 'Q')
        book->state |= BOOK_HALTED;
    if (state == 'T')
        book->state &= ~(uint32_t)BOOK_HALTED;
    event.aux = (uint8_t)state;
    event.order_id = message->data[0];
    emit_plain(decoder, &event);
}

/* 1.2.8. Names the market that halts, but a feed does not know which one it is of: the halt of
 * any counts, and a resumption ends it whichever market it names. */
static void operational_halt(struct decoder *decoder, const struct message *message)
{
    struct event event = event_of(decoder, message, EVENT_STATUS);
    struct book *book = seen(decoder, event.instrument_id);
    char action = AS(operational_halt, message)->action;
    if (action == 'H')
        book->state |= BOOK_STOPPED;
    if (action == 'T')
        book->state &= ~(uint32_t)BOOK_STOPPED;
    event.aux = (uint8_t)action;
    event.order_id = message->data[0];
    emit_plain(decoder, &event);
}

static void tell(struct decoder *decoder, const struct message *message, uint8_t kind, char code)
{
    struct event event = event_of(decoder, message, kind);
    event.aux = (uint8_t)code;
    emit_plain(decoder, &event);
}

static void system_event(struct decoder *decoder, const struct message *message)
{
    char code = AS(system_event, message)->event_code;
    if (code == 'O' || code == 'S')
        set_day(decoder, DAY_BEFORE_MARKET);
    else if (code == 'Q' || code == 'M' || code == 'E' || code == 'C')
        set_day(decoder, DAY_MARKET_OR_UNKNOWN);
    tell(decoder, message, EVENT_SYSTEM, code);
}

/* A message about an instrument that names none: told, and no book is touched. */
static void nowhere(struct decoder *decoder, const struct message *message)
{
    struct event event = event_of(decoder, message, EVENT_INFO);
    event.aux = message->data[0];
    event.flags |= FLAG_SUSPECT;
    COUNT(decoder->out.counters, book_instrument);
    outlet_put(&decoder->out, &event);
}

/* ---- dispatch ---- */

static int is_venue_wide(uint8_t type) { return type == 'S' || type == 'V' || type == 'W'; }

static void apply(struct decoder *decoder, const struct message *message, const struct book_fetch *fetch)
{
    uint8_t type = message->data[0];
    if (locate_of(message) == 0 && !is_venue_wide(type)) {
        nowhere(decoder, message);
        return;
    }
    switch (type) {
    case 'A':
    case 'F': add(decoder, message, fetch); break;
    case 'E':
    case 'C': reduce(decoder, message, fetch, EVENT_EXECUTE); break;
    case 'X': reduce(decoder, message, fetch, EVENT_CANCEL); break;
    case 'D': delete(decoder, message, fetch); break;
    case 'U': replace(decoder, message, fetch); break;
    case 'P': trade(decoder, message); break;
    case 'Q': cross_trade(decoder, message); break;
    case 'B': broken_trade(decoder, message); break;
    case 'I': noii(decoder, message); break;
    case 'R': directory(decoder, message); break;
    case 'H': trading_action(decoder, message); break;
    case 'h': operational_halt(decoder, message); break;
    case 'S': system_event(decoder, message); break;
    default: tell(decoder, message, EVENT_INFO, (char)type); break;
    }
}

static int is_add(uint8_t type) { return type == 'A' || type == 'F'; }

/* Does it change an order that should be live? */
static int is_change(uint8_t type)
{
    return type == 'E' || type == 'C' || type == 'X' || type == 'D' || type == 'U';
}

/* A message of wrong length: what it did to an order or to a directory is not known. */
static void unreadable(struct decoder *decoder, const struct message *message)
{
    enum { TYPE_AND_LOCATE = 3 };
    uint8_t type = message->len > 0 ? message->data[0] : 'A';
    if (!is_add(type) && type != 'R' && !is_change(type))
        return;
    doubt(decoder, message->len < TYPE_AND_LOCATE ? NULL
          : book_of(decoder->books, rd_be16(AS(header, message)->locate)));
}

/* Which fetches a message type needs: an add, a change of an order, or both. */
static const uint8_t fetches_of[256] = { ['A'] = 1, ['F'] = 1, ['E'] = 1, ['C'] = 1, ['X'] = 1, ['D'] = 1, ['U'] = 2 };

/* Declares what a message will do; the order's reference is the first field of all of these. */
static void declare(const struct message *message, struct book_fetch *fetch)
{
    const struct itch50_add_order *m = AS(add_order, message);
    fetch->id = rd_be64(m->order_reference);
    fetch->instrument = locate_of(message);
    fetch->kind = FETCH_CHANGE;
    fetch->side = SIDE_NONE;
    fetch->price = 0;
    if (is_add(message->data[0])) {
        fetch->kind = FETCH_ADD;
        fetch->side = side_of(m->side);
        fetch->price = rd_px4be(m->price);
    } else if (message->data[0] == 'U') {
        const struct itch50_order_replace *u = AS(order_replace, message);
        fetch[1].id = rd_be64(u->new_order_reference);
        fetch[1].instrument = fetch->instrument;
        fetch[1].kind = FETCH_REPLACE;
        fetch[1].price = rd_px4be(u->price);
    }
}

/* Fetches the memory of all, then handles one after another. Ends at a message that cannot be
 * read, so that its doubt comes in turn; returns how many. */
static unsigned decode_batch(struct decoder *decoder, const struct message *messages, unsigned count)
{
    struct book_fetch fetches[2 * BATCH];
    unsigned n = 0, fetched = 0;
    for (; n < count && message_accept(decoder, &messages[n], length_of, 0); n++) {
        const unsigned more = fetches_of[messages[n].data[0]];
        if (more > 0)
            declare(&messages[n], &fetches[fetched]);
        fetched += more;
    }
    uint64_t begun = sample_begin(decoder->out.sample);
    book_fetch(decoder->books, fetches, fetched);
    sample_book(decoder->out.sample, begun, 0);
    const struct book_fetch *fetch = fetches;
    for (unsigned i = 0; i < n; i++) {
        apply(decoder, &messages[i], fetch);
        fetch += fetches_of[messages[i].data[0]];
    }
    if (n < count)
        unreadable(decoder, &messages[n++]);
    return n;
}

/* Locate codes are of one day. A session joined late may be the one that an engine before named. */
static void begin_day(struct decoder *decoder)
{
    const int whole = decoder->gaps == 0;
    set_day(decoder, whole ? DAY_BEFORE_MARKET : DAY_MARKET_OR_UNKNOWN);
    if (decoder->instruments != NULL)
        instruments_session(decoder->instruments, decoder->out.feed, decoder->session, whole);
}

static void decode(struct decoder *decoder, const struct message *messages, unsigned count)
{
    if (day_of(decoder) == DAY_NEW)
        begin_day(decoder);
    while (count > 0) {
        unsigned done = decode_batch(decoder, messages, count < BATCH ? count : BATCH);
        messages += done;
        count -= done;
    }
}

static int open(struct decoder *decoder)
{
    decoder->state = calloc(1, sizeof(struct state));
    return decoder->state != NULL ? 0 : -ENOMEM;
}

static void close(struct decoder *decoder)
{
    free(decoder->state);
    decoder->state = NULL;
}

static void reset(struct decoder *decoder) { set_day(decoder, DAY_NEW); }

const struct protocol itch50_protocol = {
    .name = "itch50", .prefix = "itch50", .venue = "XNAS", .currency = "USD",
    .framing = &moldudp64_framing,
    .types = types, .types_count = sizeof types / sizeof types[0],
    .open = open, .close = close, .reset = reset, .decode = decode,
};
