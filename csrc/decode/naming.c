#include "decode/naming.h"
#include "counter_id.h"
#include <string.h>

_Static_assert((int)INSTRUMENTS_EACH == (int)BOOK_INSTRUMENTS_MAX, "a row for each book");

/* Length without the padding. */
static uint32_t trimmed(const char *symbol, uint32_t length)
{
    while (length > 0 && symbol[length - 1] == ' ')
        length--;
    return length < INSTRUMENT_SYMBOL ? length : INSTRUMENT_SYMBOL;
}

void instrument_tell(const struct decoder *decoder, uint32_t instrument, const char *symbol, uint32_t length,
                     uint32_t round_lot)
{
    enum { PRICE_UNIT = 9 };
    if (decoder->instruments == NULL)
        return;
    const struct protocol *protocol = decoder->protocol;
    struct instrument row = { .round_lot = round_lot, .price_unit = PRICE_UNIT };
    memcpy(row.symbol, symbol, trimmed(symbol, length));
    memcpy(row.venue, protocol->venue, strnlen(protocol->venue, sizeof row.venue));
    memcpy(row.currency, protocol->currency, strnlen(protocol->currency, sizeof row.currency));
    instruments_set(decoder->instruments, decoder->out.feed * INSTRUMENTS_EACH + instrument, &row);
}

void instrument_refuse(const struct decoder *decoder, const char *symbol, uint32_t length)
{
    COUNT(decoder->out.counters, instruments_full);
    if (decoder->instruments != NULL)
        instruments_refuse(decoder->instruments, decoder->out.feed, symbol, trimmed(symbol, length));
}
