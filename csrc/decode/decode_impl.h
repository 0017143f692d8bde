#pragma once
#include "counter_id.h"
#include "decode/decode.h"

/* Helpers of all decoders. For C only. */

/* X-macro arguments for a protocol's message list. */
#define MESSAGE_LENGTH(type, name, length) [type] = length,
#define MESSAGE_ROW(type, name, length) { type, 0, length, 0, #name },

static inline uint8_t side_of(char code)
{
    return code == 'B' ? SIDE_BID : code == 'S' ? SIDE_ASK : SIDE_NONE;
}

/* The one check of a message's length; overlays rely on it. `grown`: the venue may have added
 * fields at the end. Counts the message as decoded, or says why not. */
static inline int message_accept(struct decoder *decoder, const struct message *message,
                                 const uint8_t *length_of, int grown)
{
    if (message->len == 0) {
        COUNT(decoder->out.counters, message_length);
        return 0;
    }
    uint8_t type = message->data[0], length = length_of[type];
    if (length == 0) {
        COUNT(decoder->out.counters, message_unknown);
        return 0;
    }
    if (message->len < length || (message->len > length && !grown)) {
        COUNT(decoder->out.counters, message_length);
        return 0;
    }
    COUNT(decoder->out.counters, messages_decoded);
    decoder->by_type[type]++;
    return 1;
}
