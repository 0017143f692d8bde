#pragma once
#include "event.h"

/* Fixed records in shared memory: one writer, many readers. Theory in ring.c. */

enum { RING_MAGIC = 0x676e6952, RING_VERSION = 1, RING_READERS = 16, RING_SLOTS_MIN = 64 };

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
    uint64_t layout_hash;   /* over the text of event.h: both sides were built from the same */
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
    uint64_t pad[4];
};
struct ring_cursor {
    uint64_t read;          /* records ever released by this reader */
    uint32_t policy;        /* enum ring_policy */
    uint32_t pid;
    uint64_t lost;          /* skip: records overwritten before they were read */
    uint64_t pad[5];
};

struct ring;                /* one process's handle on a ring, as writer or as reader */

/* Makes a ring and is its writer. `name` is NULL for an anonymous one (memfd, share by
 * descriptor), else a POSIX shared-memory name without slash, which must not exist.
 * slots: a power of two >= RING_SLOTS_MIN. Negative errno on failure. */
int ring_create(const char *name, uint64_t slots, const char *clock, struct ring **ring);
/* Attaches as reader. fd >= 0: that descriptor (kept by the caller), else by name.
 * from_start: begin at the oldest record still there, else at the next one written.
 * -EPROTO: not a ring, or another version or layout; -EUSERS: RING_READERS are attached. */
int ring_attach(const char *name, int fd, int policy, int from_start, struct ring **ring);
void ring_close(struct ring *ring);     /* the writer's close marks it closed and unlinks its name */
int ring_fd(const struct ring *ring);
const struct ring_header *ring_header(const struct ring *ring);
const struct ring_writer *ring_writer(const struct ring *ring);
const struct ring_cursor *ring_cursors(const struct ring *ring);    /* RING_READERS of them */
const struct event *ring_slots(const struct ring *ring);  /* mapped twice in a row: 2 * slots records */

/* Writer. */
uint64_t ring_room(struct ring *ring);      /* records that surely fit now */
int ring_put(struct ring *ring, const struct event *event);     /* 0, or -ENOBUFS: no room, counted */
uint64_t ring_put_many(struct ring *ring, const struct event *events, uint64_t n);  /* how many fitted */
void ring_publish(struct ring *ring);       /* makes `written` visible: once per burst */

/* Reader. Peek gives the first of at most `max` contiguous new records through *first (an
 * index into ring_slots) and their number; they stay valid until release (block). */
uint64_t ring_peek(struct ring *ring, uint64_t max, uint64_t *first);
void ring_release(struct ring *ring, uint64_t n);
/* Skip readers copy instead: at most `max` whole records; *lost grows by those overwritten. */
uint64_t ring_copy(struct ring *ring, struct event *out, uint64_t max, uint64_t *lost);
uint64_t ring_lag(const struct ring *ring); /* records written and not yet released */
