#pragma once
#include "event.h"
#include "session/session.h"

/* What the instruments of a ring are: whole symbols by instrument_id, in shared memory beside it. One
 * writer, any number of readers, in any process. Theory in instruments.c. */

enum {
    INSTRUMENTS_MAGIC = 0x74736e49, INSTRUMENTS_VERSION = 1,
    INSTRUMENTS_EACH = 65536,   /* rows of a feed: BOOK_INSTRUMENTS_MAX */
    INSTRUMENT_SYMBOL = 64,     /* bytes of a symbol at most */
    INSTRUMENTS_REFUSED = 8,    /* refused symbols that are kept, of a feed */
};

struct instrument {             /* a row: 128 bytes, two lines. Text is padded with NULs */
    uint32_t version;           /* odd while the row changes */
    uint32_t round_lot;         /* in units of size; 0: the venue has not told */
    char symbol[INSTRUMENT_SYMBOL];     /* without padding spaces; empty: names nothing (any more) */
    char venue[8];              /* ISO 10383 market identifier: "XNAS" */
    char currency[8];           /* of its prices: "USD" */
    int8_t size_unit;           /* n: sizes are in 10^-n shares, coins or contracts */
    int8_t price_unit;          /* n: prices are in 10^-n of the currency */
    uint8_t pad[38];
};

struct instruments_feed {       /* what is known of a feed */
    char name[64];              /* by its configuration; "" without one */
    char session[SESSION_ID];   /* whose messages named the rows */
    uint8_t pad[2];
    uint32_t named;             /* rows from this index on name nothing, and are not to be looked at */
    uint32_t refusals;          /* symbols in `refused` */
    uint8_t pad2[44];
    char refused[INSTRUMENTS_REFUSED][INSTRUMENT_SYMBOL];   /* the first that found no index */
};

struct instruments_header {     /* first page of the file: constant once it is made */
    uint64_t magic;
    uint32_t version;
    uint32_t row_size;          /* sizeof(struct instrument) */
    uint32_t feed_size;         /* sizeof(struct instruments_feed) */
    uint32_t feeds;             /* that it has rows for: 1..FEEDS_MAX */
    uint64_t feeds_at;          /* file offset of FEEDS_MAX struct instruments_feed */
    uint64_t rows_at;           /* file offset of INSTRUMENTS_EACH rows for each feed */
};

struct instruments;             /* one process's handle on a table */

/* Makes a table and is its writer. name NULL: anonymous. 0 or negative errno: EEXIST, EINVAL,
 * ENOSPC, ENOMEM. */
int instruments_create(const char *name, uint32_t feeds, struct instruments **table);
/* By name or (fd >= 0) descriptor. A reader maps it read-only. EPROTO: no table of instruments, or
 * of another version; EBUSY: it has a writer. */
int instruments_attach(const char *name, int fd, int writer, struct instruments **table);
void instruments_close(struct instruments *table);              /* memory and name stay */
void instruments_unlink(const struct instruments *table);       /* removes the name */
int instruments_fd(const struct instruments *table);
const struct instruments_header *instruments_header(const struct instruments *table);

/* ---- writer: one thread a feed ---- */

/* Feed number `feed` is called so from here on. Rows of a feed of another name are emptied.
 * `populate`: takes all its pages now, so that none is first touched while the market is open.
 * 0 or negative errno: EINVAL beyond the table's feeds, ENOSPC or ENOMEM. */
int instruments_name(struct instruments *table, uint32_t feed, const char *name, int populate);
/* A session begins that numbers instruments on its own: rows that another session named are emptied,
 * and all when it is heard from its beginning (`whole`). */
void instruments_session(struct instruments *table, uint32_t feed, const char session[SESSION_ID], int whole);
/* Replaces a row, whatever the `version` in `row`. 0, or -EINVAL beyond the table's feeds. */
int instruments_set(struct instruments *table, uint32_t instrument_id, const struct instrument *row);
/* A symbol that found no index in its feed; the first INSTRUMENTS_REFUSED are kept. */
void instruments_refuse(struct instruments *table, uint32_t feed, const char *symbol, uint32_t length);

/* ---- reader: any thread, any process ---- */

/* NULL beyond the table's feeds. */
const struct instruments_feed *instruments_feed(const struct instruments *table, uint32_t feed);
/* Copies at most `count` rows of one feed from this one on, each as it was at one moment. A row that
 * its writer died in, or does not finish within a second, comes empty. How many, less where nothing is
 * named from there on; -EINVAL. */
int instruments_read(const struct instruments *table, uint32_t instrument_id, uint32_t count,
                     struct instrument *out);
