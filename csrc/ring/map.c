/* The file of the ring: how it is made, checked, mapped and left.
 *
 *     offset 0       struct ring_header, read-only once made
 *     one page on    struct ring_writer, then RING_READERS struct ring_cursor, then RING_LEVELS
 *                    struct ring_level
 *     slots_at       slots * struct event; mapped twice in a row, so no batch wraps
 *
 * An anonymous ring is a memfd, sealed against resizing. A named one is made nameless in
 * SHM_DIR and linked when it is whole, so who opens the name finds a ring or nothing. All
 * memory is allocated here: a full file system is an error code now, not SIGBUS later.
 *
 * Which cursor is whose is told by an open-file-description lock on its bytes. The kernel drops
 * it with the process, however that ends: unlike a pid it is never reused, and means the same in
 * every pid namespace. A reader therefore opens the file anew even when it was handed a
 * descriptor: one that is inherited shares its locks. */

#include "base/shm.h"
#include "ring/impl.h"
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, LINE = 64, LINES_AT = PAGE, SLOTS_AT = 2 * PAGE, SLOTS_MAX = 1 << 28 };
_Static_assert(sizeof(struct ring_header) <= LINES_AT, "header page");
_Static_assert(sizeof(struct ring_writer) + RING_READERS * sizeof(struct ring_cursor)
               + RING_LEVELS * sizeof(struct ring_level) <= SLOTS_AT - LINES_AT,
               "one page of lines");
_Static_assert(sizeof(struct ring_writer) == LINE && sizeof(struct ring_cursor) == LINE
               && sizeof(struct ring_level) == LINE, "one line per owner");
_Static_assert(RING_SLOTS_MIN * sizeof(struct event) % PAGE == 0, "slots end on a page");

/* ---- layout hash: FNV-1a over what a record means ---- */

#define FIELDS(X) \
    X(stamp) X(ts_recv) X(ts_event) X(sequence) X(instrument_id) X(kind) X(side) X(flags) \
    X(price) X(order_id) X(size) X(aux) X(bid) X(ask) X(bid_size) X(ask_size)
#define KINDS(X) \
    X(NONE) X(SESSION) X(SESSION_END) X(GAP) X(LOST) X(SYSTEM) X(INSTRUMENT) X(STATUS) X(AUCTION) \
    X(INFO) X(CLEAR) X(ADD) X(CANCEL) X(DELETE) X(EXECUTE) X(TRADE) X(BREAK) X(LEVEL) X(QUOTE) \
    X(ORDER_NEW) X(ORDER_CANCEL) X(ACK) X(FILL) X(CANCELED) X(REJECT) X(CANCEL_REJECT) \
    X(FILL_INFO) X(EXPIRED) X(SENT) X(ENGINE) X(LINK) X(LINE) X(FEED) X(MARK) X(CHECKPOINT) X(GATEWAY)
#define FIELD_FACTS(field) { #field, offsetof(struct event, field), sizeof((struct event *)0)->field },
#define KIND_FACTS(kind) { "EVENT_" #kind, EVENT_##kind, 0 },
#define KIND_BELOW(kind) && (int)EVENT_##kind < (int)EVENT_KINDS_MAX
_Static_assert(1 KINDS(KIND_BELOW), "a set of kinds is one word");

static uint64_t fnv(uint64_t hash, const void *data, size_t length)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

static uint64_t layout_hash(void)
{
    static const struct { const char *name; uint32_t at, size; } facts[] = {
        FIELDS(FIELD_FACTS) KINDS(KIND_FACTS)
    };
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
        hash = fnv(hash, facts[i].name, strlen(facts[i].name));
        hash = fnv(hash, &facts[i].at, sizeof(facts[i].at));
        hash = fnv(hash, &facts[i].size, sizeof(facts[i].size));
    }
    return hash;
}

/* ---- mapping ---- */

static uint64_t file_size(uint64_t slots) { return SLOTS_AT + slots * sizeof(struct event); }

static int slots_fit(uint64_t slots)
{
    return slots >= RING_SLOTS_MIN && slots <= SLOTS_MAX && (slots & (slots - 1)) == 0;
}

/* Reserves the whole range first, so that the four pieces lie side by side. */
static int map(struct ring *ring, int slots_protection)
{
    uint64_t bytes = ring->slots * sizeof(struct event);
    uint64_t total = SLOTS_AT + 2 * bytes;
    char *base = shm_reserve(total);
    if (base == NULL)
        return -errno;
    ring->header = (const struct ring_header *)base;
    ring->mapped = total;
    ring->writer = (struct ring_writer *)(base + LINES_AT);
    ring->cursors = (struct ring_cursor *)(ring->writer + 1);
    ring->slot = (struct event *)(base + SLOTS_AT);
    int rc = shm_map(base, PAGE, PROT_READ, ring->fd, 0);
    if (rc == 0)
        rc = shm_map(base + LINES_AT, PAGE, PROT_READ | PROT_WRITE, ring->fd, LINES_AT);
    for (int lap = 0; rc == 0 && lap < 2; lap++)
        rc = shm_map(base + SLOTS_AT + lap * bytes, bytes, slots_protection, ring->fd, SLOTS_AT);
    return rc;
}

/* ---- whose line it is ---- */

static int lock_line(int fd, int line, short type)
{
    return shm_lock(fd, LINES_AT + (uint64_t)line * LINE, LINE, type);
}

static int lock_writer(int fd, short type) { return lock_line(fd, 0, type); }
static int lock_cursor(int fd, int cursor, short type) { return lock_line(fd, 1 + cursor, type); }

int ring_written_by(const struct ring *ring)
{
    return ring->writes || shm_locked(ring->fd, LINES_AT, LINE);
}

/* The line becomes ours, and so does what the writer before left: whole records that it did not
 * publish are kept, one that it did not finish is written again. */
int ring_take(struct ring *ring)
{
    if (ring->me != NULL)
        return -EPERM;
    if (ring->writes)
        return 0;
    int rc = lock_writer(ring->fd, F_WRLCK);
    if (rc < 0)
        return rc == -EAGAIN ? -EBUSY : rc;
    uint64_t next = __atomic_load_n(&ring->writer->written, __ATOMIC_ACQUIRE);
    for (uint64_t i = 0; i < ring->slots && __atomic_load_n(&ring->slot[next & (ring->slots - 1)].stamp, __ATOMIC_ACQUIRE) == next + 1; i++)
        next++;
    ring->next = ring->gate = next;
    ring->lost = ring->writer->lost;
    ring->writes = 1;
    __atomic_store_n(&ring->writer->pid, (uint64_t)getpid(), __ATOMIC_RELAXED);
    return 0;
}

int ring_give(struct ring *ring)
{
    if (!ring->writes)
        return -EPERM;
    ring_publish(ring);
    ring->writes = 0;
    return lock_writer(ring->fd, F_UNLCK);
}

/* ---- making ---- */

/* Writes the constant page. */
static int fill_file(int fd, uint64_t slots, const char *clock)
{
    struct ring_header header = {
        .magic = RING_MAGIC, .version = RING_VERSION, .record_size = sizeof(struct event),
        .layout_hash = layout_hash(), .slots = slots, .slots_at = SLOTS_AT,
    };
    memcpy(header.clock, clock, strlen(clock));
    return pwrite(fd, &header, sizeof(header), 0) == sizeof(header) ? 0 : -EIO;
}

static struct ring *new_handle(void)
{
    struct ring *ring = calloc(1, sizeof(*ring));
    if (ring != NULL) {
        ring->fd = -1;
        ring->left = 1;     /* nothing to leave yet */
    }
    return ring;
}

static int create(struct ring *ring, const char *name, uint64_t slots, const char *clock)
{
    int rc = shm_path(name, ring->path);
    if (rc == 0)
        rc = ring->fd = shm_make(ring->path, "pydpdk-ring", file_size(slots));
    if (rc >= 0)
        rc = fill_file(ring->fd, slots, clock);
    ring->slots = slots;
    if (rc == 0)
        rc = map(ring, PROT_READ | PROT_WRITE);
    if (rc == 0)
        rc = ring_take(ring);
    if (rc == 0)
        rc = shm_show(ring->fd, ring->path);
    ring->left = rc != 0;
    return rc;
}

static int hand_over(struct ring *made, int rc, struct ring **ring)
{
    if (rc < 0)
        ring_close(made);
    else
        *ring = made;
    return rc;
}

int ring_create(const char *name, uint64_t slots, const char *clock, struct ring **ring)
{
    *ring = NULL;
    if (!slots_fit(slots) || strlen(clock) >= sizeof(((struct ring_header *)0)->clock))
        return -EINVAL;
    struct ring *made = new_handle();
    if (made == NULL)
        return -ENOMEM;
    return hand_over(made, create(made, name, slots, clock), ring);
}

/* ---- attaching ---- */

/* Before anything is mapped: is this a ring of ours, whole and wholly allocated? */
static int check_file(int fd, uint64_t *slots)
{
    struct ring_header header;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || pread(fd, &header, sizeof(header), 0) != sizeof(header))
        return -EPROTO;
    if (header.magic != RING_MAGIC || header.version != RING_VERSION ||
        header.record_size != sizeof(struct event) || header.layout_hash != layout_hash())
        return -EPROTO;
    if (!slots_fit(header.slots) || header.slots_at != SLOTS_AT ||
        memchr(header.clock, 0, sizeof(header.clock)) == NULL)
        return -EPROTO;
    uint64_t size = file_size(header.slots);
    if ((uint64_t)st.st_size != size || (uint64_t)st.st_blocks * 512 < size)
        return -EPROTO;
    *slots = header.slots;
    return 0;
}

/* The lock makes a cursor ours; whoever had it before has left or died. If it died, its policy
 * stands until ring_join overwrites it, and gates no worse than before. */
static int claim(struct ring *ring)
{
    for (int i = 0; i < RING_READERS; i++) {
        if (lock_cursor(ring->fd, i, F_WRLCK) == 0) {
            ring->me = &ring->cursors[i];
            __atomic_store_n(&ring->me->pid, (uint32_t)getpid(), __ATOMIC_RELAXED);
            ring->left = 0;
            return 0;
        }
    }
    return -EUSERS;
}

/* A handle on what another process made; NULL in *made without memory for it. */
static int reopen(const char *name, int fd, int protection, struct ring **made)
{
    struct ring *ring = *made = new_handle();
    if (ring == NULL)
        return -ENOMEM;
    int rc = ring->fd = shm_reopen(name, fd, O_RDWR);
    if (rc >= 0)
        rc = check_file(ring->fd, &ring->slots);
    return rc == 0 ? map(ring, protection) : rc;
}

int ring_attach(const char *name, int fd, int policy, int from_start, struct ring **ring)
{
    struct ring *made;
    *ring = NULL;
    if (policy != RING_BLOCK && policy != RING_SKIP)
        return -EINVAL;
    int rc = reopen(name, fd, PROT_READ, &made);
    if (made == NULL)
        return rc;
    if (rc == 0)
        rc = claim(made);
    if (rc == 0)
        rc = ring_join(made, policy, from_start);
    return hand_over(made, rc, ring);
}

int ring_adopt(const char *name, int fd, struct ring **ring)
{
    struct ring *made;
    *ring = NULL;
    int rc = reopen(name, fd, PROT_READ | PROT_WRITE, &made);
    if (made == NULL)
        return rc;
    if (rc == 0)
        rc = ring_take(made);
    made->adopted = 1;
    made->left = rc != 0;
    return hand_over(made, rc, ring);
}

int ring_set_clock(struct ring *ring, const char *clock)
{
    char padded[sizeof(ring->header->clock)] = { 0 };
    if (!ring->writes || strlen(clock) >= sizeof(padded))
        return -EINVAL;
    strcpy(padded, clock);
    if (memcmp(padded, ring->header->clock, sizeof(padded)) == 0)
        return 0;
    if (ring->next != 0)
        return -EBUSY;
    ssize_t n = pwrite(ring->fd, padded, sizeof(padded), offsetof(struct ring_header, clock));
    return n == sizeof(padded) ? 0 : -EIO;
}

/* ---- leaving ---- */

static void free_cursor(int fd, struct ring_cursor *cursor, int index)
{
    __atomic_store_n(&cursor->pid, 0, __ATOMIC_RELAXED);
    /* Release: pairs with the acquire in room(); all that was read is read. */
    __atomic_store_n(&cursor->policy, RING_FREE, __ATOMIC_RELEASE);
    lock_cursor(fd, index, F_UNLCK);
}

void ring_leave(struct ring *ring)
{
    if (ring->left)
        return;
    ring->left = 1;
    if (ring->me != NULL) {
        free_cursor(ring->fd, ring->me, (int)(ring->me - ring->cursors));
        return;
    }
    if (ring->adopted) {
        if (ring->writes)
            ring_give(ring);
        return;
    }
    if (ring_take(ring) == 0) {     /* else another still writes: its last words are not ours */
        ring_publish(ring);
        /* Release: who sees it closed sees all that was written. */
        __atomic_store_n(&ring->writer->closed, 1, __ATOMIC_RELEASE);
    }
    shm_unlink_own(ring->fd, ring->path);
}

void ring_close(struct ring *ring)
{
    if (ring == NULL)
        return;
    ring_leave(ring);
    if (ring->header != NULL)
        munmap((void *)ring->header, ring->mapped);
    if (ring->fd >= 0)
        close(ring->fd);
    free(ring);
}

int ring_reap(struct ring *ring)
{
    int reaped = 0;
    for (int i = 0; i < RING_READERS; i++) {
        struct ring_cursor *cursor = &ring->cursors[i];
        /* Our own lock would not stop us. */
        if (cursor == ring->me || __atomic_load_n(&cursor->policy, __ATOMIC_RELAXED) == RING_FREE ||
            lock_cursor(ring->fd, i, F_WRLCK) < 0)
            continue;
        free_cursor(ring->fd, cursor, i);
        reaped++;
    }
    return reaped;
}

int ring_fd(const struct ring *ring) { return ring->fd; }
uint64_t ring_next(const struct ring *ring) { return ring->next; }
const struct ring_header *ring_header(const struct ring *ring) { return ring->header; }
const struct ring_writer *ring_writer(const struct ring *ring) { return ring->writer; }
const struct ring_cursor *ring_cursors(const struct ring *ring) { return ring->cursors; }

static struct ring_level *level_of(const struct ring *ring, int level)
{
    return (struct ring_level *)(ring->cursors + RING_READERS) + level;
}

/* Release: pairs with the acquire in ring_level(); what the position promises was done before. */
void ring_raise(struct ring *ring, enum ring_level_kind level, uint64_t position)
{
    struct ring_level *line = level_of(ring, level);
    if (position > line->position)
        __atomic_store_n(&line->position, position, __ATOMIC_RELEASE);
}

uint64_t ring_level(const struct ring *ring, enum ring_level_kind level)
{
    return __atomic_load_n(&level_of(ring, level)->position, __ATOMIC_ACQUIRE);
}
const struct event *ring_slots(const struct ring *ring) { return ring->slot; }
