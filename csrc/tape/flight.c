/* A ring of bytes with one writer that never waits.
 *
 *     offset 0       struct flight_header
 *     bytes_at       the ring; mapped twice in a row, so no block wraps
 *
 * [tail, head) is always a run of whole blocks. To put a frame the writer
 *     1. moves `tail` past the blocks that the new one will overwrite,
 *     2. fence: nobody sees a byte of the new block and the old tail,
 *     3. copies the block behind `head`,
 *     4. moves `head` past it, with release.
 * So wherever it is killed, what lies between the two is whole: a torn block is behind `head`,
 * and who goes on writing there overwrites it.
 *
 * A dump copies [tail, head) first, then looks at `tail` again: what the writer passed meanwhile
 * may be torn in the copy, and the copy begins at the new tail, which is the start of a block.
 * Only then are lengths in the copy believed. Blocks are plain bytes: a copy that races with the
 * writer is not looked at. (Frames of a megabyte would be another matter: memcpy() stores them
 * past the cache, out of order. FLIGHT_SNAPLEN_MAX keeps away from that.)
 *
 * With FLIGHT_KEEP the reader moves `tail`, and a frame without room is refused. */

#include "tape/flight_impl.h"
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* Steps of the protocol that a test takes away, to see that it would notice. */
#ifndef FLIGHT_TAIL_FIRST
#define FLIGHT_TAIL_FIRST 1
#endif
#ifndef FLIGHT_HEAD_LAST
#define FLIGHT_HEAD_LAST 1
#endif
#ifndef FLIGHT_RECHECK
#define FLIGHT_RECHECK 1
#endif
#ifndef FLIGHT_PAUSE
#define FLIGHT_PAUSE
#endif

_Static_assert(offsetof(struct flight_header, head) == 64 && offsetof(struct flight_header, tail) == 128,
               "one line per owner");
_Static_assert(BLOCK_FRAME_MAX <= FLIGHT_BYTES_MIN / 2, "a ring holds the longest frame");
_Static_assert(sizeof(struct flight_interface) == 64, "a line");

static uint8_t *byte_at(const struct flight *flight, uint64_t at)
{
    return flight->ring + (at & (flight->bytes - 1));
}

/* ---- writer ---- */

/* The entry for a source's name and link type, made when it is new; negative when full. */
static int find_interface(struct flight *flight, const char *name, uint16_t link)
{
    struct flight_header *header = flight->header;
    uint32_t n = header->interfaces;
    for (uint32_t i = 0; i < n; i++)
        if (header->interface[i].link == link &&
            strncmp(header->interface[i].name, name, BLOCK_NAME) == 0)
            return (int)i;
    if (n == FLIGHT_INTERFACES)
        return -ENOSPC;
    struct flight_interface *made = &header->interface[n];
    memset(made, 0, sizeof(*made));
    strcpy(made->name, name);
    made->link = link;
    /* Release: pairs with the acquire in write_start(). */
    __atomic_store_n(&header->interfaces, n + 1, __ATOMIC_RELEASE);
    return (int)n;
}

/* A long one is a path: its end tells most. */
int flight_name(struct flight *flight, const char *name, uint16_t link)
{
    char shown[BLOCK_NAME];
    size_t length = strlen(name), room = BLOCK_NAME - 1 - 3;
    if (length < BLOCK_NAME)
        memcpy(shown, name, length + 1);
    else
        snprintf(shown, sizeof(shown), "...%s", name + length - room);
    int id = flight->ports == FLIGHT_INTERFACES ? -ENOSPC : find_interface(flight, shown, link);
    if (id < 0)
        return id;
    flight->id[flight->ports++] = (uint8_t)id;
    return 0;
}

/* A frame of a port without a name, or of another link type than that port's last frame. */
static int other_interface(struct flight *flight, uint16_t port, uint16_t link)
{
    char name[BLOCK_NAME];
    while (flight->ports <= port) {
        snprintf(name, sizeof(name), "port%u", (unsigned)flight->ports);
        if (flight_name(flight, name, link) < 0)
            return -ENOSPC;
    }
    int id = find_interface(flight, flight->header->interface[flight->id[port]].name, link);
    if (id >= 0)
        flight->id[port] = (uint8_t)id;
    return id;
}

static int interface_of(struct flight *flight, const struct packet *packet)
{
    if (packet->port < flight->ports &&
        flight->header->interface[flight->id[packet->port]].link == packet->link)
        return flight->id[packet->port];
    return other_interface(flight, packet->port, packet->link);
}

static void forget(struct flight *flight, uint64_t need)
{
    uint64_t tail = flight->tail;
    while (flight->head + need - tail > flight->bytes) {
        uint32_t length = block_frame_length(byte_at(flight, tail), flight->head - tail);
        tail = length != 0 ? tail + length : flight->head;      /* 0: somebody scribbled here */
    }
    flight->tail = tail;
    if (FLIGHT_TAIL_FIRST)
        __atomic_store_n(&flight->header->tail, tail, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);    /* pairs with the acquire fence in copy_out() */
}

static int make_room(struct flight *flight, uint64_t need)
{
    if (flight->head + need - flight->tail <= flight->bytes)
        return 1;
    if (!flight->keep) {
        forget(flight, need);
        return 1;
    }
    /* Acquire: pairs with the release in flight_release(); those bytes were read. */
    flight->tail = __atomic_load_n(&flight->header->tail, __ATOMIC_ACQUIRE);
    return flight->head + need - flight->tail <= flight->bytes;
}

static void publish(struct flight *flight, uint64_t head)
{
    /* Release: pairs with the acquires in copy_out() and flight_peek(); the block is whole. */
    __atomic_store_n(&flight->header->head, head, __ATOMIC_RELEASE);
}

/* 1, or 0: no room. */
static int put(struct flight *flight, const struct packet *packet)
{
    int id = interface_of(flight, packet);
    if (id < 0) {
        flight_lose(flight, 1);
        return 1;
    }
    uint32_t caplen = packet->caplen < flight->snaplen ? packet->caplen : flight->snaplen;
    uint32_t length = block_frame_size(caplen);
    if (!make_room(flight, length))
        return 0;
    if (!FLIGHT_HEAD_LAST)
        publish(flight, flight->head + length);
    FLIGHT_PAUSE
    block_frame(byte_at(flight, flight->head), packet, (uint32_t)id, caplen);
    FLIGHT_PAUSE
    if (!FLIGHT_TAIL_FIRST)
        __atomic_store_n(&flight->header->tail, flight->tail, __ATOMIC_RELAXED);
    flight->head += length;
    publish(flight, flight->head);
    struct flight_header *header = flight->header;
    __atomic_store_n(&header->frames, header->frames + 1, __ATOMIC_RELAXED);
    if (caplen < packet->caplen)
        __atomic_store_n(&header->cut, header->cut + 1, __ATOMIC_RELAXED);
    return 1;
}

int flight_put(struct flight *flight, const struct packet *packets, int count)
{
    int n = 0;
    while (n < count && put(flight, &packets[n]))
        n++;
    return n;
}

/* The chain of blocks is walked once, so that forget() can follow it: if it is broken, somebody
 * scribbled on it, and the frames are given up. */
void flight_resume(struct flight *flight)
{
    struct flight_header *header = flight->header;
    uint64_t at = flight->tail = header->tail, length = 1;
    flight->head = header->head;
    while (at != flight->head && length != 0)
        at += length = block_frame_length(byte_at(flight, at), flight->head - at);
    if (at != flight->head)
        flight->tail = header->tail = flight->head;
    __atomic_store_n(&header->ended, 0, __ATOMIC_RELAXED);
}

void flight_lose(struct flight *flight, uint64_t frames)
{
    __atomic_store_n(&flight->header->lost, flight->header->lost + frames, __ATOMIC_RELAXED);
}

void flight_end(struct flight *flight)
{
    /* Release: who sees it ended sees all that was put. */
    __atomic_store_n(&flight->header->ended, 1, __ATOMIC_RELEASE);
}

/* ---- reader ---- */

struct copy {
    uint8_t *bytes;
    uint64_t mapped;
    uint64_t start, end;        /* of the whole blocks in it */
};

/* Tail before head, so that head is not behind it. A writer that went on in between may be more
 * than a ring ahead of that tail: what is copied is what can be there. */
static int copy_out(const struct flight *flight, struct copy *copy)
{
    const struct flight_header *header = flight->header;
    uint64_t tail = __atomic_load_n(&header->tail, __ATOMIC_ACQUIRE);
    /* Acquire: pairs with the release in publish(). */
    uint64_t head = __atomic_load_n(&header->head, __ATOMIC_ACQUIRE);
    uint64_t from = head - tail > flight->bytes ? head - flight->bytes : tail;
    *copy = (struct copy){ .mapped = head - from + 1 };
    copy->bytes = mmap(NULL, copy->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy->bytes == MAP_FAILED)
        return -errno;
    memcpy(copy->bytes, byte_at(flight, from), head - from);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);    /* pairs with the release fence in forget() */
    if (FLIGHT_RECHECK)
        tail = __atomic_load_n(&header->tail, __ATOMIC_RELAXED);
    copy->end = head - from;
    copy->start = tail - from < copy->end ? tail - from : copy->end;
    return 0;
}

/* Moves the start to the first frame of that time and the end to the first damage. Frames. */
static int64_t whole_frames(struct copy *copy, uint64_t since_ns)
{
    int64_t frames = 0;
    for (uint64_t at = copy->start; at < copy->end;) {
        uint32_t length = block_frame_length(copy->bytes + at, copy->end - at);
        if (length == 0) {
            copy->end = at;
        } else if (frames == 0 && block_frame_stamp(copy->bytes + at) < since_ns) {
            copy->start = at += length;
        } else {
            at += length;
            frames++;
        }
    }
    return frames;
}

uint32_t flight_describe(const struct flight *flight, uint32_t interface, uint8_t *out)
{
    const struct flight_interface *i = &flight->header->interface[interface];
    return block_interface(out, i->name, i->link, flight->snaplen);
}

static int write_start(const struct flight *flight, int fd)
{
    uint8_t block[BLOCK_START_SIZE];
    uint64_t written;
    /* Acquire: pairs with the release in find_interface(). */
    uint32_t n = __atomic_load_n(&flight->header->interfaces, __ATOMIC_ACQUIRE);
    int rc = write_all(fd, block, block_section(block), &written);
    for (uint32_t i = 0; rc == 0 && i < n && i < FLIGHT_INTERFACES; i++)
        rc = write_all(fd, block, flight_describe(flight, i, block), &written);
    return rc;
}

int64_t flight_dump(struct flight *flight, int fd, uint64_t since_ns)
{
    struct copy copy;
    uint64_t written;
    int rc = copy_out(flight, &copy);
    if (rc < 0)
        return rc;
    uint64_t end = copy.end;
    int64_t frames = whole_frames(&copy, since_ns);
    rc = write_start(flight, fd);
    if (rc == 0)
        rc = write_all(fd, copy.bytes + copy.start, copy.end - copy.start, &written);
    if (rc == 0 && copy.end != end)
        rc = -EBADMSG;
    munmap(copy.bytes, copy.mapped);
    return rc < 0 ? rc : frames;
}

uint64_t flight_peek(struct flight *flight, const uint8_t **at)
{
    uint64_t tail = __atomic_load_n(&flight->header->tail, __ATOMIC_RELAXED);  /* its own */
    *at = byte_at(flight, tail);
    /* Acquire: pairs with the release in publish(). */
    return __atomic_load_n(&flight->header->head, __ATOMIC_ACQUIRE) - tail;
}

void flight_release(struct flight *flight, uint64_t bytes)
{
    uint64_t tail = __atomic_load_n(&flight->header->tail, __ATOMIC_RELAXED);
    /* Release: pairs with the acquire in make_room(). */
    __atomic_store_n(&flight->header->tail, tail + bytes, __ATOMIC_RELEASE);
}
