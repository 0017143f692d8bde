#pragma once
#include "tape/pcapng_write.h"

/* Raw frames in shared memory, as pcapng packet blocks ready to be written. Theory in flight.c. */

enum {
    FLIGHT_MAGIC = 0x74686c66, FLIGHT_VERSION = 1,
    FLIGHT_INTERFACES = 32,
    FLIGHT_BYTES_MIN = 1 << 20,
    FLIGHT_SNAPLEN_MAX = 262144,
};

enum flight_mode {
    FLIGHT_LAST = 1,            /* a frame overwrites the oldest: the last seconds, for dumps */
    FLIGHT_KEEP = 2,            /* nothing is overwritten before it was released: for a recorder */
};

struct flight_interface {       /* what a frame was received from, and as what */
    char name[BLOCK_NAME];      /* of the source, or "..." and its end */
    uint16_t link;              /* LINK_* */
    uint16_t pad;
};

/* First page of the memory. Positions count bytes since it was made; byte n lies at n % bytes. */
struct flight_header {
    uint64_t magic;             /* this line is constant */
    uint32_t version;
    uint32_t mode;              /* enum flight_mode */
    uint64_t bytes;             /* of the ring, a power of two */
    uint64_t bytes_at;          /* file offset of byte 0, page aligned */
    uint32_t snaplen;           /* bytes kept of a frame at most */
    uint32_t pad0;
    uint64_t pad1[3];

    uint64_t head;              /* the writer's line: all before this position is whole */
    uint64_t frames;            /* ever put */
    uint64_t lost;              /* found no room, or no entry in `interface` */
    uint64_t cut;               /* longer than snaplen */
    uint32_t interfaces;        /* entries in use */
    uint32_t ended;             /* 1: nothing more will be put */
    uint64_t pad2[3];

    uint64_t tail;              /* oldest block; moved by the writer, or (KEEP) by the reader */
    uint64_t pad3[7];

    struct flight_interface interface[FLIGHT_INTERFACES];
};

struct flight;

/* name NULL: anonymous. `bytes`: a power of two from FLIGHT_BYTES_MIN; all of them are allocated
 * here. 0 or negative errno: EEXIST, EINVAL, ENOSPC, ENOMEM. */
int flight_create(const char *name, uint64_t bytes, int mode, uint32_t snaplen,
                  struct flight **flight);
/* By name or (fd >= 0) descriptor. A reader maps it read-only. A writer goes on where the last
 * one stopped. EPROTO: no flight recorder, or of another version; EBUSY: it has a writer. */
int flight_attach(const char *name, int fd, int writer, struct flight **flight);
void flight_close(struct flight *flight);       /* memory and name stay */
void flight_unlink(const struct flight *flight);        /* removes the name */
int flight_fd(const struct flight *flight);
const struct flight_header *flight_header(const struct flight *flight);

/* ---- writer: one thread ---- */

/* Names the source whose packets carry the next port number, from 0 on; `link` is what its
 * frames likely are. Ports of one name are one interface. 0 or -ENOSPC. A port without a name is
 * called port<number>. */
int flight_name(struct flight *flight, const char *name, uint16_t link);
/* Copies the frames; returns how many, which is fewer only when FLIGHT_KEEP lacks room for the
 * next. No allocation, no system call, no waiting. */
int flight_put(struct flight *flight, const struct packet *packets, int count);
void flight_lose(struct flight *flight, uint64_t frames);      /* they were not put: count them */
void flight_end(struct flight *flight);

/* ---- reader ---- */

/* The block that describes interface `interface`: bytes written, at most BLOCK_START_SIZE. */
uint32_t flight_describe(const struct flight *flight, uint32_t interface, uint8_t *out);

/* Writes a capture of all frames from the first stamped `since_ns` or later: whole blocks, oldest
 * first, without those that the writer overtook. Needs memory for a copy. Frames written, or
 * negative errno; -EBADMSG when the memory is damaged, after what lies before the damage. */
int64_t flight_dump(struct flight *flight, int fd, uint64_t since_ns);
/* FLIGHT_KEEP: the bytes that lie ready, contiguous at `*at`, whole blocks; they stay until they
 * are released. One thread. */
uint64_t flight_peek(struct flight *flight, const uint8_t **at);
void flight_release(struct flight *flight, uint64_t bytes);
