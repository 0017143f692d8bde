#pragma once
#include "event.h"

/* Fixed records in shared memory: one writer, many readers. Theory in ring.c. */

enum { RING_MAGIC = 0x676e6952, RING_VERSION = 2, RING_READERS = 16, RING_SLOTS_MIN = 64 };

enum ring_policy {
    RING_FREE = 0,          /* no reader here */
    RING_BLOCK = 1,         /* the writer never overwrites what this reader has not released */
    RING_SKIP = 2,          /* the writer ignores it; it learns exactly what it lost */
};

/* First page of the mapping. Constant once the ring is made; readers map it read-only. */
struct ring_header {
    uint64_t magic;
    uint32_t version;
    uint32_t record_size;
    uint64_t layout_hash;   /* over fields and kinds of event.h: both sides mean the same */
    uint64_t slots;         /* power of two */
    uint64_t slots_at;      /* file offset of slot 0, page aligned */
    char clock[32];         /* domain of ts_recv: "capture", "tsc", "hardware" */
};

/* Second page on: one line per owner. Readers map these pages writable, nothing else. */
struct ring_writer {
    uint64_t written;       /* records ever published; release, pairs with readers that join */
    uint64_t lost;          /* records that found no room */
    uint64_t pid;
    uint64_t closed;        /* 1: nothing more will come */
    uint64_t horizon;       /* no position from here on is written before cursors are looked at */
    uint64_t pad[3];
};
struct ring_cursor {
    uint64_t read;          /* records ever released by this reader */
    uint32_t policy;        /* enum ring_policy */
    uint32_t pid;
    uint64_t lost;          /* skip: records overwritten before they were read */
    uint64_t pad[5];
};

/* How far the records of a ring are safe, as the one process that sees to it says: a journal, a
 * shipper. Whoever must wait for that reads it, and the loop never waits. */
enum ring_level_kind {
    RING_DURABLE = 0,       /* on disk */
    RING_SHIPPED = 1,       /* in the memory of another host */
    RING_LOGGED = 2,        /* in a replicated log */
    RING_LEVELS = 3,
};
struct ring_level {
    uint64_t position;      /* records below it are safe so; 0: none is, or nobody sees to it */
    uint64_t pad[7];
};

struct ring;                /* one process's handle on a ring, as writer or as reader */

/* Makes a ring and is its writer. `name` is NULL for an anonymous one (memfd, share by
 * descriptor), else a POSIX shared-memory name without slash, which must not exist.
 * slots: a power of two >= RING_SLOTS_MIN. Negative errno on failure. */
int ring_create(const char *name, uint64_t slots, const char *clock, struct ring **ring);
/* Attaches as reader. fd >= 0: that descriptor (kept by the caller), else by name.
 * from_start: begin at the oldest record still there, else at the next one written. (A block
 * reader that joins late may find older records no longer safe: it gets at least half a ring.)
 * -EPROTO: not a ring, or another version or layout; -EUSERS: RING_READERS are attached. */
int ring_attach(const char *name, int fd, int policy, int from_start, struct ring **ring);
/* The reader frees its cursor; the writer publishes, marks the ring closed and unlinks its
 * name. Only what is mapped stays, for views that still look at it, until ring_close. */
void ring_leave(struct ring *ring);
void ring_close(struct ring *ring);     /* ring_leave if that was not done, and unmaps */
/* The writer's line goes from process to process, by a lock that the kernel drops with its
 * holder. ring_give(): this handle publishes and writes no more. ring_take(): it goes on after the
 * last whole record, whoever wrote that; -EBUSY: another writes. -EPERM: a reader asked. */
int ring_give(struct ring *ring);
int ring_take(struct ring *ring);
/* Opens a ring that was made elsewhere as its writer; leaving it gives it back, open and named. */
int ring_adopt(const char *name, int fd, struct ring **ring);
/* Sets the clock domain of ts_recv. For the writer, before its first record or with the same domain
 * as before: else -EBUSY. */
int ring_set_clock(struct ring *ring, const char *clock);
int ring_written_by(const struct ring *ring);   /* 1: a living process holds the writer's line */
/* Frees the cursors of readers that died; returns how many. Any handle, any thread. A dead
 * block reader holds the writer up until this is called. */
int ring_reap(struct ring *ring);
int ring_fd(const struct ring *ring);
uint64_t ring_next(const struct ring *ring);    /* the position this handle writes or reads next */
const struct ring_header *ring_header(const struct ring *ring);
const struct ring_writer *ring_writer(const struct ring *ring);
const struct ring_cursor *ring_cursors(const struct ring *ring);    /* RING_READERS of them */
/* Says that records below `position` are safe at that level; for the one process that sees to it.
 * Positions only rise. */
void ring_raise(struct ring *ring, enum ring_level_kind level, uint64_t position);
uint64_t ring_level(const struct ring *ring, enum ring_level_kind level);
const struct event *ring_slots(const struct ring *ring);  /* mapped twice in a row: 2 * slots records */

/* Writer. */
/* Records that surely fit now: half the ring when no block reader is behind. */
uint64_t ring_room(struct ring *ring);
int ring_put(struct ring *ring, const struct event *event);     /* 0, or -ENOBUFS: no room, counted */
/* How many fitted; the others are counted lost (ask ring_room first to wait instead). */
uint64_t ring_put_many(struct ring *ring, const struct event *events, uint64_t n);
/* Makes `written` visible, once per burst. Readers that are attached see each record as soon
 * as it is put; `written` is for those that join, measure their lag or lost their place. */
void ring_publish(struct ring *ring);

/* Reader. Peek gives the first of at most `max` contiguous new records through *first (an
 * index into ring_slots) and their number; they stay valid until release. Block readers only:
 * for others it is always 0. */
uint64_t ring_peek(struct ring *ring, uint64_t max, uint64_t *first);
void ring_release(struct ring *ring, uint64_t n);
/* Skip readers copy instead: at most `max` whole records, contiguous; *lost grows by those
 * that were overwritten before the first of them. (It serves block readers too.) */
uint64_t ring_copy(struct ring *ring, struct event *out, uint64_t max, uint64_t *lost);
uint64_t ring_lag(const struct ring *ring); /* reader: records published and not yet released */
