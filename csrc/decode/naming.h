#pragma once
#include "decode/decode.h"

/* What decoders tell the run's table of instruments. For C only. */

/* Names an instrument: sizes in whole shares, prices in 1e-9. `symbol` may end in padding spaces;
 * `round_lot` 0: not told. To be called before any record of it, so that who reads one finds the name. */
void instrument_tell(const struct decoder *decoder, uint32_t instrument, const char *symbol, uint32_t length,
                     uint32_t round_lot);

/* A symbol for which no index is left: counted, and kept by name. */
void instrument_refuse(const struct decoder *decoder, const char *symbol, uint32_t length);
