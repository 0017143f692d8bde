#include "decode/symbols.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Open addressing with linear probing in a table at most half full. The seed is secret, so
 * a stream of chosen symbols cannot aim at one chain. */

struct slot {
    uint64_t symbol;
    uint32_t index;     /* 0: free */
    uint32_t pad;
};

struct symbols {
    uint64_t seed;
    uint32_t mask;
    uint32_t last;
    uint32_t used;
    uint32_t pad;
    struct slot slot[];
};

int symbols_create(uint32_t last, uint64_t seed, struct symbols **symbols)
{
    uint32_t slots = 16;
    while (slots < last * 2)
        slots *= 2;
    struct symbols *made = calloc(1, sizeof *made + slots * sizeof made->slot[0]);
    if (!made)
        return -ENOMEM;
    made->seed = seed;
    made->mask = slots - 1;
    made->last = last;
    *symbols = made;
    return 0;
}

void symbols_destroy(struct symbols *symbols) { free(symbols); }

uint32_t symbols_used(const struct symbols *symbols) { return symbols->used; }

static uint32_t hash(uint64_t x)    /* the finisher of splitmix64 */
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return (uint32_t)(x ^ x >> 31);
}

/* The slot of a symbol, or the free one where it would be. */
static struct slot *slot_of(struct symbols *symbols, uint64_t key)
{
    uint32_t at = hash(key ^ symbols->seed) & symbols->mask;
    while (symbols->slot[at].index && symbols->slot[at].symbol != key)
        at = (at + 1) & symbols->mask;
    return &symbols->slot[at];
}

static uint64_t key_of(const char *symbol)
{
    uint64_t key;
    memcpy(&key, symbol, sizeof key);
    return key;
}

uint32_t symbols_find(struct symbols *symbols, const char *symbol)
{
    return slot_of(symbols, key_of(symbol))->index;
}

uint32_t symbols_index(struct symbols *symbols, const char *symbol)
{
    struct slot *slot = slot_of(symbols, key_of(symbol));
    if (!slot->index) {
        if (symbols->used == symbols->last)
            return 0;
        slot->symbol = key_of(symbol);
        slot->index = ++symbols->used;
    }
    return slot->index;
}
