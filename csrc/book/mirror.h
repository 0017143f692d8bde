#pragma once
#include "book/book.h"
#include "event.h"

/* The books of a feed rebuilt from its records, for a stage in a process of its own. */

struct mirror_stats {
    uint64_t records;           /* applied */
    uint64_t refused;           /* that did not fit these books: the mirror is wrong from there */
    uint64_t breaks;            /* times records were missing, or another engine began */
};

struct mirror;
/* One feed's: records of others are passed over. quotes_only: 1 for a protocol whose books are
 * its quotes (no EVENT_ADD, no EVENT_LEVEL). Memory as for the books of the engine. */
int mirror_create(const struct books_config *config, uint32_t feed, uint32_t quotes_only, struct mirror **mirror);
void mirror_destroy(struct mirror *mirror);
/* Records as they stand in the ring. EVENT_LOST among them, and `lost` > 0 records missing
 * before the first, make every book suspect until a session begins or its book is cleared. */
void mirror_apply(struct mirror *mirror, const struct event *events, uint64_t count, uint64_t lost);
struct books *mirror_books(struct mirror *mirror);
const uint32_t *mirror_gaps(const struct mirror *mirror);   /* books whose epoch is older are suspect */
const struct mirror_stats *mirror_stats(const struct mirror *mirror);
