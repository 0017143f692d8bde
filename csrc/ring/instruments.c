/* A table in a file of shared memory, beside a ring: events carry an instrument_id and 8 bytes of a
 * symbol, the table has the whole symbol, its venue, currency and units.
 *
 *     offset 0      struct instruments_header
 *     one page on   FEEDS_MAX struct instruments_feed
 *     rows_at       INSTRUMENTS_EACH struct instrument for each feed
 *
 * The file is sparse: a page is taken when a row in it is first named, or for a live engine all of a
 * feed's at start. Looking at a page takes it too, so readers stay below `named`.
 *
 * Rows change while others read: an instrument is renamed, a session begins. The version of a row is
 * a sequence lock, odd while it changes; what was read counts when the version before and after
 * is the same even number. A writer that dies in a row leaves it odd, and readers see nothing there;
 * the writer after it begins with what the dead one had not named whole.
 *
 * The writer holds a lock on the file's first bytes, which the kernel drops with the process. */

#include "ring/instruments.h"
#include "base/shm.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, FEEDS_AT = PAGE, ROWS_AT = 12 * PAGE, READ_TRIES = 1000, READ_NAPS = 1000 };
_Static_assert(sizeof(struct instrument) == 128, "two lines a row");
_Static_assert(sizeof(struct instruments_feed) % 64 == 0, "whole lines a feed");
_Static_assert(FEEDS_AT + FEEDS_MAX * sizeof(struct instruments_feed) <= ROWS_AT, "pages of feeds");

struct instruments {
    struct instruments_header *header;
    struct instruments_feed *feeds;
    struct instrument *rows;
    uint32_t feeds_count;
    int writes;                 /* this handle is the writer's */
    int fd;
    char path[SHM_PATH];        /* "" when anonymous or attached by descriptor */
};

/* ---- the file ---- */

static const uint64_t FEED_BYTES = INSTRUMENTS_EACH * sizeof(struct instrument);

static uint64_t file_size(uint32_t feeds) { return ROWS_AT + feeds * FEED_BYTES; }

static struct instruments_header header_of(uint32_t feeds)
{
    return (struct instruments_header){
        .magic = INSTRUMENTS_MAGIC, .version = INSTRUMENTS_VERSION, .row_size = sizeof(struct instrument),
        .feed_size = sizeof(struct instruments_feed), .feeds = feeds, .feeds_at = FEEDS_AT, .rows_at = ROWS_AT,
    };
}

static int map(struct instruments *table, uint32_t feeds, int protection)
{
    char *base = mmap(NULL, file_size(feeds), protection, MAP_SHARED, table->fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    table->header = (struct instruments_header *)base;
    table->feeds = (struct instruments_feed *)(base + FEEDS_AT);
    table->rows = (struct instrument *)(base + ROWS_AT);
    table->feeds_count = feeds;
    return 0;
}

static int lock_writer(struct instruments *table)
{
    int rc = shm_lock(table->fd, 0, sizeof(struct instruments_header), F_WRLCK);
    table->writes = rc == 0;
    return rc == -EAGAIN || rc == -EACCES ? -EBUSY : rc;
}

static int writer_lives(const struct instruments *table)
{
    return table->writes || shm_locked(table->fd, 0, sizeof(struct instruments_header));
}

static int create(struct instruments *table, const char *name, uint32_t feeds)
{
    struct instruments_header header = header_of(feeds);
    int rc = shm_path(name, table->path);
    if (rc == 0)
        rc = table->fd = shm_make(table->path, "pydpdk-instruments", ROWS_AT);
    if (rc >= 0)
        rc = ftruncate(table->fd, (off_t)file_size(feeds)) < 0 ? -errno : 0;
    if (rc == 0 && pwrite(table->fd, &header, sizeof header, 0) != sizeof header)
        rc = -EIO;
    if (rc == 0)
        rc = map(table, feeds, PROT_READ | PROT_WRITE);
    if (rc == 0)
        rc = lock_writer(table);
    return rc == 0 ? shm_show(table->fd, table->path) : rc;
}

/* The number of its feeds, or negative errno: before anything is mapped, is it a whole table of ours? */
static int check_file(int fd)
{
    struct instruments_header header;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || pread(fd, &header, sizeof header, 0) != sizeof header
        || header.feeds < 1 || header.feeds > FEEDS_MAX)
        return -EPROTO;
    struct instruments_header right = header_of(header.feeds);
    if (memcmp(&header, &right, sizeof right) != 0 || (uint64_t)st.st_size != file_size(header.feeds))
        return -EPROTO;
    return (int)header.feeds;
}

static int attach(struct instruments *table, const char *name, int fd, int writer)
{
    int rc = fd < 0 && name != NULL ? shm_path(name, table->path) : 0;
    if (rc == 0)
        rc = table->fd = shm_reopen(name, fd, writer ? O_RDWR : O_RDONLY);
    if (rc >= 0)
        rc = check_file(table->fd);
    if (rc > 0)
        rc = map(table, (uint32_t)rc, writer ? PROT_READ | PROT_WRITE : PROT_READ);
    return rc == 0 && writer ? lock_writer(table) : rc;
}

static struct instruments *new_handle(void)
{
    struct instruments *table = calloc(1, sizeof *table);
    if (table != NULL)
        table->fd = -1;
    return table;
}

static int hand_over(struct instruments *made, int rc, struct instruments **table)
{
    if (rc < 0)
        instruments_close(made);
    else
        *table = made;
    return rc;
}

int instruments_create(const char *name, uint32_t feeds, struct instruments **table)
{
    *table = NULL;
    if (feeds < 1 || feeds > FEEDS_MAX)
        return -EINVAL;
    struct instruments *made = new_handle();
    return made == NULL ? -ENOMEM : hand_over(made, create(made, name, feeds), table);
}

int instruments_attach(const char *name, int fd, int writer, struct instruments **table)
{
    *table = NULL;
    struct instruments *made = new_handle();
    return made == NULL ? -ENOMEM : hand_over(made, attach(made, name, fd, writer), table);
}

void instruments_close(struct instruments *table)
{
    if (table == NULL)
        return;
    if (table->header != NULL)
        munmap(table->header, file_size(table->feeds_count));
    if (table->fd >= 0)
        close(table->fd);
    free(table);
}

void instruments_unlink(const struct instruments *table) { shm_unlink_own(table->fd, table->path); }
int instruments_fd(const struct instruments *table) { return table->fd; }
const struct instruments_header *instruments_header(const struct instruments *table) { return table->header; }

const struct instruments_feed *instruments_feed(const struct instruments *table, uint32_t feed)
{
    return feed < table->feeds_count ? &table->feeds[feed] : NULL;
}

/* ---- writer ---- */

static struct instrument *rows_of(const struct instruments *table, uint32_t feed)
{
    return &table->rows[(uint64_t)feed * INSTRUMENTS_EACH];
}

/* Readers that see the odd version, or data written after it, read again: the release fence pairs
 * with the acquire fence in read_row, the release store with the acquire load there. */
static void write_row(struct instrument *at, const struct instrument *row)
{
    const uint32_t version = at->version | 1;   /* odd already: a writer died here */
    __atomic_store_n(&at->version, version, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    memcpy(&at->round_lot, &row->round_lot, sizeof *at - sizeof at->version);
    __atomic_store_n(&at->version, version + 1, __ATOMIC_RELEASE);
}

static void empty(struct instruments *table, uint32_t feed)
{
    static const struct instrument nothing;
    for (uint32_t i = 0; i < table->feeds[feed].named; i++)
        write_row(&rows_of(table, feed)[i], &nothing);
    __atomic_store_n(&table->feeds[feed].named, 0, __ATOMIC_RELEASE);
}

int instruments_name(struct instruments *table, uint32_t feed, const char *name, int populate)
{
    if (feed >= table->feeds_count)
        return -EINVAL;
    if (populate && madvise(rows_of(table, feed), FEED_BYTES, MADV_POPULATE_WRITE) < 0)
        return errno == EFAULT ? -ENOSPC : -errno;      /* EFAULT: the file system is full */
    struct instruments_feed *of = &table->feeds[feed];
    if (strncmp(of->name, name, sizeof of->name) != 0) {
        empty(table, feed);
        memset(of->name, 0, sizeof of->name);
        memcpy(of->name, name, strnlen(name, sizeof of->name));
        memset(of->session, 0, sizeof of->session);
    }
    __atomic_store_n(&of->refusals, 0, __ATOMIC_RELAXED);   /* another engine has room again */
    return 0;
}

void instruments_session(struct instruments *table, uint32_t feed, const char session[SESSION_ID], int whole)
{
    if (feed >= table->feeds_count)
        return;
    struct instruments_feed *of = &table->feeds[feed];
    if (whole || memcmp(of->session, session, SESSION_ID) != 0)
        empty(table, feed);
    memcpy(of->session, session, SESSION_ID);
}

int instruments_set(struct instruments *table, uint32_t instrument_id, const struct instrument *row)
{
    const uint32_t feed = instrument_id / INSTRUMENTS_EACH, index = instrument_id % INSTRUMENTS_EACH;
    if (feed >= table->feeds_count)
        return -EINVAL;
    write_row(&rows_of(table, feed)[index], row);
    if (index >= table->feeds[feed].named)      /* release: who sees it sees the row */
        __atomic_store_n(&table->feeds[feed].named, index + 1, __ATOMIC_RELEASE);
    return 0;
}

void instruments_refuse(struct instruments *table, uint32_t feed, const char *symbol, uint32_t length)
{
    char padded[INSTRUMENT_SYMBOL] = { 0 };
    if (feed >= table->feeds_count)
        return;
    struct instruments_feed *of = &table->feeds[feed];
    memcpy(padded, symbol, length < sizeof padded ? length : sizeof padded);
    for (uint32_t i = 0; i < of->refusals; i++)
        if (memcmp(of->refused[i], padded, sizeof padded) == 0)
            return;
    if (of->refusals == INSTRUMENTS_REFUSED)
        return;
    memcpy(of->refused[of->refusals], padded, sizeof padded);
    __atomic_store_n(&of->refusals, of->refusals + 1, __ATOMIC_RELEASE);
}

/* ---- reader ---- */

/* The acquire fence: had anything been copied that is newer than the version before, the version
 * after would be its odd one, or newer. */
static int try_row(const struct instrument *at, struct instrument *out)
{
    for (int tries = 0; tries < READ_TRIES; tries++) {
        const uint32_t version = __atomic_load_n(&at->version, __ATOMIC_ACQUIRE);
        memcpy(out, at, sizeof *out);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if ((version & 1) == 0 && __atomic_load_n(&at->version, __ATOMIC_RELAXED) == version)
            return 1;
    }
    return 0;
}

/* A writer that another process keeps from its core may leave a row odd for long. */
static void read_row(const struct instruments *table, const struct instrument *at, struct instrument *out)
{
    const struct timespec nap = { .tv_nsec = 1000000 };
    for (int naps = 0; naps < READ_NAPS; naps++) {
        if (try_row(at, out))
            return;
        if (!writer_lives(table))
            break;
        nanosleep(&nap, NULL);
    }
    memset(out, 0, sizeof *out);
}

int instruments_read(const struct instruments *table, uint32_t instrument_id, uint32_t count,
                     struct instrument *out)
{
    const uint32_t feed = instrument_id / INSTRUMENTS_EACH, index = instrument_id % INSTRUMENTS_EACH;
    if (feed >= table->feeds_count)
        return -EINVAL;
    uint32_t named = __atomic_load_n(&table->feeds[feed].named, __ATOMIC_ACQUIRE);
    named = named < INSTRUMENTS_EACH ? named : INSTRUMENTS_EACH;
    if (index >= named)
        return 0;
    count = count < named - index ? count : named - index;
    for (uint32_t i = 0; i < count; i++)
        read_row(table, &rows_of(table, feed)[index + i], &out[i]);
    return (int)count;
}
