#pragma once
#include <stdint.h>

/* Symbols of venues that name instruments by text: an index for each, 1, 2, 3 ... in order
 * of first appearance, so that the same stream gives the same indices. 0 is no instrument.
 * For C only. */

struct symbols;
/* Room for indices up to `last` (below 1 << 24). `seed` moves the hash, never an index. */
int symbols_create(uint32_t last, uint64_t seed, struct symbols **symbols);
void symbols_destroy(struct symbols *symbols);
/* Index of a symbol (8 bytes, space padded), 1 or more; a new one takes the next. 0: no room. */
uint32_t symbols_index(struct symbols *symbols, const char *symbol);
/* Index of a known symbol; 0 when it is new. */
uint32_t symbols_find(struct symbols *symbols, const char *symbol);
uint32_t symbols_used(const struct symbols *symbols);   /* the last index taken; 0: none */
