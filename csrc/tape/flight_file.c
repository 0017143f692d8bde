/* The file of a flight recorder: how it is made, checked, mapped and left. Its writer holds a lock
 * on the writer's line, which the kernel drops with the process. */

#include "tape/flight_impl.h"
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, BYTES_AT = PAGE };
static const uint64_t BYTES_MAX = 1ull << 40;
_Static_assert(sizeof(struct flight_header) <= BYTES_AT, "header page");

static int sizes_fit(uint64_t bytes, int mode, uint32_t snaplen)
{
    return bytes >= FLIGHT_BYTES_MIN && bytes <= BYTES_MAX && (bytes & (bytes - 1)) == 0 &&
           (mode == FLIGHT_LAST || mode == FLIGHT_KEEP) &&
           snaplen > 0 && snaplen <= FLIGHT_SNAPLEN_MAX;
}

static int map(struct flight *flight, int protection)
{
    uint64_t total = BYTES_AT + 2 * flight->bytes;
    char *base = shm_reserve(total);
    if (base == NULL)
        return -ENOMEM;
    flight->header = (struct flight_header *)base;
    flight->ring = (uint8_t *)base + BYTES_AT;
    flight->mapped = total;
    int rc = shm_map(base, PAGE, protection, flight->fd, 0);
    for (int lap = 0; rc == 0 && lap < 2; lap++)
        rc = shm_map(base + BYTES_AT + lap * flight->bytes, flight->bytes, protection, flight->fd, BYTES_AT);
    return rc;
}

static int lock_writer(const struct flight *flight)
{
    int rc = shm_lock(flight->fd, offsetof(struct flight_header, head), 1, F_WRLCK);
    return rc == -EAGAIN || rc == -EACCES ? -EBUSY : rc;
}

static int hand_over(struct flight *made, int rc, struct flight **flight)
{
    if (rc < 0)
        flight_close(made);
    else
        *flight = made;
    return rc < 0 ? rc : 0;
}

static struct flight *new_handle(void)
{
    struct flight *flight = calloc(1, sizeof(*flight));
    if (flight != NULL)
        flight->fd = -1;
    return flight;
}

static void take_sizes(struct flight *flight, const struct flight_header *header)
{
    flight->bytes = header->bytes;
    flight->snaplen = header->snaplen;
    flight->keep = header->mode == FLIGHT_KEEP;
}

static int create(struct flight *flight, const char *name, const struct flight_header *header)
{
    int rc = shm_path(name, flight->path);
    if (rc == 0)
        rc = flight->fd = shm_make(flight->path, "pydpdk-flight", BYTES_AT + header->bytes);
    if (rc >= 0)
        rc = pwrite(flight->fd, header, sizeof(*header), 0) == sizeof(*header) ? 0 : -EIO;
    take_sizes(flight, header);
    if (rc == 0)
        rc = map(flight, PROT_READ | PROT_WRITE);
    if (rc == 0)
        rc = lock_writer(flight);
    return rc < 0 ? rc : shm_show(flight->fd, flight->path);
}

int flight_create(const char *name, uint64_t bytes, int mode, uint32_t snaplen,
                  struct flight **flight)
{
    *flight = NULL;
    if (!sizes_fit(bytes, mode, snaplen))
        return -EINVAL;
    struct flight_header header = {
        .magic = FLIGHT_MAGIC, .version = FLIGHT_VERSION, .mode = (uint32_t)mode,
        .bytes = bytes, .bytes_at = BYTES_AT, .snaplen = snaplen,
    };
    struct flight *made = new_handle();
    return made == NULL ? -ENOMEM : hand_over(made, create(made, name, &header), flight);
}

/* Before anything is mapped: is this one of ours, whole and wholly allocated? */
static int check_file(struct flight *flight)
{
    struct flight_header header;
    struct stat st;
    if (fstat(flight->fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || pread(flight->fd, &header, sizeof(header), 0) != sizeof(header) ||
        header.magic != FLIGHT_MAGIC || header.version != FLIGHT_VERSION ||
        header.bytes_at != BYTES_AT || !sizes_fit(header.bytes, (int)header.mode, header.snaplen) ||
        (uint64_t)st.st_size != BYTES_AT + header.bytes ||
        (uint64_t)st.st_blocks * 512 < BYTES_AT + header.bytes)
        return -EPROTO;
    take_sizes(flight, &header);
    return 0;
}

static int attach(struct flight *flight, const char *name, int fd, int writer)
{
    int rc = fd < 0 && name != NULL ? shm_path(name, flight->path) : 0;
    if (rc == 0)
        rc = flight->fd = shm_reopen(name, fd, writer ? O_RDWR : O_RDONLY);
    if (rc >= 0)
        rc = check_file(flight);
    if (rc == 0 && writer)
        rc = lock_writer(flight);
    if (rc == 0)
        rc = map(flight, writer ? PROT_READ | PROT_WRITE : PROT_READ);
    if (rc == 0 && writer)
        flight_resume(flight);
    return rc;
}

int flight_attach(const char *name, int fd, int writer, struct flight **flight)
{
    *flight = NULL;
    struct flight *made = new_handle();
    return made == NULL ? -ENOMEM : hand_over(made, attach(made, name, fd, writer), flight);
}

void flight_close(struct flight *flight)
{
    if (flight == NULL)
        return;
    if (flight->header != NULL)
        munmap(flight->header, flight->mapped);
    if (flight->fd >= 0)
        close(flight->fd);
    free(flight);
}

void flight_unlink(const struct flight *flight) { shm_unlink_own(flight->fd, flight->path); }

int flight_fd(const struct flight *flight) { return flight->fd; }

const struct flight_header *flight_header(const struct flight *flight) { return flight->header; }
