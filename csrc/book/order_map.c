#include "book/order_map.h"
#include "base/prefetch.h"
#include <emmintrin.h>
#include <errno.h>
#include <string.h>

/* Order ids of a venue are nearly sequential and the recent ones are hot, so a hash of the whole
 * id, which puts every order on a cache line of its own, wastes what the venue gives. Here four
 * consecutive ids share a 64-byte line of eight slots: the hash is of id / 4, the slot preferred
 * is id % 8. With a million live orders, half of what happens among the latest 2 %, and 1 MB of
 * cache for the map, a lookup misses 0.53 lines; 0.91 when the whole id is hashed. Eight ids a
 * line would make it 0.48, but fill lines so often that spilling costs more than that.
 *
 * Open addressing by lines. An entry lives in the first line, from its home on, that had a free
 * slot when it came; a search ends at the first line that has one. The invariant is: every line
 * from an entry's home up to the line before its own is full. Erasing from a full line would break
 * it for entries further on, so the first of those whose home is not behind the hole moves into it,
 * and the hole moves on; no tombstones, so a table of any age is as fast as a new one.
 *
 * The tag holds the hash bits that decide the home (home = hash * count >> 29), so moving an
 * entry needs no look at its order; and the same tag with another id is rare, so a search
 * touches one order, the right one, whose id in the pool is the final word.
 *
 * The hash is two keyed 64x64 -> 128 bit multiplications, keyed by a seed the sender of ids does
 * not know, so ids that collide cannot be chosen. Two slots per order bound the load to one
 * half; at that load hardly an entry is ten lines from home, so MAP_SPILL_LINES bounds every
 * search and is never reached. */

_Static_assert(sizeof(struct map_line) == 64, "a map line is a cache line");

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint32_t order_map_tag(const struct order_map *map, uint64_t id)
{
    uint64_t hash = fold(fold(id >> MAP_GROUP_BITS ^ map->key[0], map->key[1]) ^ map->key[2], map->key[3]);
    return ((uint32_t)hash & ~7U) | ((uint32_t)id & 7U);
}

static uint64_t home_of(const struct order_map *map, uint32_t tag)
{
    return (uint64_t)(tag >> 3) * map->count >> MAP_HASH_BITS;
}

/* One bit per slot: bits 0..7 whether the tag is equal, bits 8..15 whether it is empty. */
static uint32_t scan(const struct map_line *line, uint32_t tag)
{
    const __m128i *at = (const __m128i *)line, wanted = _mm_set1_epi32((int)tag);
    __m128i equal[2], empty[2];
    for (int half = 0; half < 2; half++) {
        __m128 a = _mm_castsi128_ps(_mm_loadu_si128(at + 2 * half));
        __m128 b = _mm_castsi128_ps(_mm_loadu_si128(at + 2 * half + 1));
        __m128i tags = _mm_castps_si128(_mm_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0)));
        __m128i refs = _mm_castps_si128(_mm_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1)));
        empty[half] = _mm_cmpeq_epi32(refs, _mm_setzero_si128());
        equal[half] = _mm_andnot_si128(empty[half], _mm_cmpeq_epi32(tags, wanted));
    }
    __m128i bytes = _mm_packs_epi16(_mm_packs_epi32(equal[0], equal[1]), _mm_packs_epi32(empty[0], empty[1]));
    return (uint32_t)_mm_movemask_epi8(bytes);
}

static int has_room(const struct map_line *line)
{
    const __m128i *at = (const __m128i *)line, zero = _mm_setzero_si128();
    __m128i a = _mm_or_si128(_mm_cmpeq_epi32(_mm_loadu_si128(at), zero), _mm_cmpeq_epi32(_mm_loadu_si128(at + 1), zero));
    __m128i b = _mm_or_si128(_mm_cmpeq_epi32(_mm_loadu_si128(at + 2), zero), _mm_cmpeq_epi32(_mm_loadu_si128(at + 3), zero));
    return (_mm_movemask_ps(_mm_castsi128_ps(_mm_or_si128(a, b))) & 10) != 0;   /* the odd words are refs */
}

uint64_t order_map_lines(uint32_t orders_max)
{
    return ((uint64_t)orders_max * 2 + MAP_SLOTS - 1) / MAP_SLOTS + MAP_SPILL_LINES;
}

static uint64_t splitmix(uint64_t *state)   /* Steele, Lea, Flood 2014: seeds into keys */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

void order_map_open(struct order_map *map, struct map_line *lines, uint32_t orders_max, uint64_t seed)
{
    map->line_at = (uint64_t)((char *)lines - (char *)map);
    map->count = order_map_lines(orders_max) - MAP_SPILL_LINES;
    for (int i = 0; i < 4; i++)
        map->key[i] = splitmix(&seed) | (i & 1);    /* a factor of 0 would hash nothing */
}

void order_map_clear(struct order_map *map)
{
    memset(lines_of(map), 0, (map->count + MAP_SPILL_LINES) * sizeof(*lines_of(map)));
}

static struct map_entry *match(struct map_line *line, uint32_t bits, const struct order *pool, uint64_t id)
{
    for (bits &= 0xff; bits != 0; bits &= bits - 1) {
        struct map_entry *entry = &line->slot[__builtin_ctz(bits)];
        if (pool[entry->ref - 1].id == id)
            return entry;
    }
    return NULL;
}

struct map_entry *order_map_find(const struct order_map *map, const struct order *pool, uint64_t id, uint32_t tag)
{
    struct map_line *line = lines_of(map) + home_of(map, tag), *end = line + MAP_SPILL_LINES;
    for (; line < end; line++) {
        uint32_t bits = scan(line, tag);
        struct map_entry *entry = match(line, bits, pool, id);
        if (entry != NULL || bits >> 8 != 0)
            return entry;
    }
    return NULL;
}

int order_map_put(struct order_map *map, const struct order *pool, uint64_t id, uint32_t tag, uint32_t index)
{
    struct map_line *line = lines_of(map) + home_of(map, tag), *end = line + MAP_SPILL_LINES;
    for (; line < end; line++) {
        uint32_t bits = scan(line, tag), empty = bits >> 8;
        if (match(line, bits, pool, id) != NULL)
            return -EEXIST;
        if (empty == 0)
            continue;
        if (index == NO_ORDER)
            return -ENOSPC;
        uint32_t slot = empty >> (id & 7) & 1 ? (uint32_t)id & 7 : (uint32_t)__builtin_ctz(empty);
        line->slot[slot] = (struct map_entry){ tag, index + 1 };
        return 0;
    }
    return -ENOSPC;
}

/* An entry of `line` whose home is not behind `hole`, so that it may move there. */
static struct map_entry *movable(const struct order_map *map, struct map_line *line, const struct map_line *hole)
{
    for (int i = 0; i < MAP_SLOTS; i++)
        if (line->slot[i].ref != 0 && lines_of(map) + home_of(map, line->slot[i].tag) <= hole)
            return &line->slot[i];
    return NULL;
}

void order_map_erase(struct order_map *map, struct map_entry *entry)
{
    struct map_line *hole = lines_of(map) + (entry - lines_of(map)->slot) / MAP_SLOTS;
    struct map_line *end = lines_of(map) + map->count + MAP_SPILL_LINES;
    int ends = has_room(hole);
    *entry = (struct map_entry){ 0, 0 };
    for (struct map_line *line = hole + 1; !ends && line < end; line++) {
        ends = has_room(line);      /* before a hole is made in it */
        struct map_entry *from = movable(map, line, hole);
        if (from == NULL)
            continue;
        *entry = *from;
        *from = (struct map_entry){ 0, 0 };
        entry = from;
        hole = line;
    }
}

void order_map_prefetch(const struct order_map *map, uint32_t tag)
{
    prefetch(lines_of(map) + home_of(map, tag));
}

struct map_entry *order_map_guess(const struct order_map *map, uint32_t tag)
{
    struct map_line *line = lines_of(map) + home_of(map, tag);
    uint32_t bits = scan(line, tag) & 0xff;
    return bits != 0 ? &line->slot[__builtin_ctz(bits)] : NULL;
}
