#include "tape/pcapng_write.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
    SECTION = 0x0a0d0d0a, INTERFACE = 1, ENHANCED = 6,      /* block types */
    MAGIC = 0x1a2b3c4d,
    IF_NAME = 2, IF_TSRESOL = 9, USER_APPLICATION = 4,      /* options, section 3.5 */
    NANOSECONDS = 9,
};

/* An Enhanced Packet Block up to its data, section 4.3; behind them its length again. */
struct frame_head {
    uint32_t type, length, interface, stamp_high, stamp_low, caplen, wirelen;
};
_Static_assert(sizeof(struct frame_head) + sizeof(uint32_t) == BLOCK_FRAME_OVERHEAD, "section 4.3");

static uint8_t *put16(uint8_t *at, uint16_t value) { return memcpy(at, &value, 2), at + 2; }
static uint8_t *put32(uint8_t *at, uint32_t value) { return memcpy(at, &value, 4), at + 4; }

static uint32_t padded(uint32_t length) { return (length + 3) & ~3u; }

static uint8_t *put_option(uint8_t *at, uint16_t code, const void *value, uint16_t length)
{
    at = put16(put16(at, code), length);
    memset(at, 0, padded(length));
    memcpy(at, value, length);
    return at + padded(length);
}

/* End of options, and the length at both ends of the block. */
static uint32_t finish(uint8_t *start, uint8_t *at)
{
    at = put32(at, 0);
    uint32_t length = (uint32_t)(at + 4 - start);
    put32(start + 4, length);
    put32(at, length);
    return length;
}

uint32_t block_section(uint8_t *out)
{
    uint8_t *at = put32(put32(put32(out, SECTION), 0), MAGIC);
    at = put16(put16(at, 1), 0);                    /* version 1.0 */
    at = put32(put32(at, UINT32_MAX), UINT32_MAX);  /* section length: not told */
    return finish(out, put_option(at, USER_APPLICATION, "pydpdk", 6));
}

uint32_t block_interface(uint8_t *out, const char *name, uint16_t link, uint32_t snaplen)
{
    uint8_t resolution = NANOSECONDS;
    uint8_t *at = put32(put32(out, INTERFACE), 0);
    at = put32(put16(put16(at, link), 0), snaplen);
    at = put_option(at, IF_NAME, name, (uint16_t)strnlen(name, BLOCK_NAME - 1));
    return finish(out, put_option(at, IF_TSRESOL, &resolution, 1));
}

uint32_t block_frame_size(uint32_t caplen) { return BLOCK_FRAME_OVERHEAD + padded(caplen); }

void block_frame(uint8_t *out, const struct packet *packet, uint32_t interface, uint32_t caplen)
{
    uint32_t length = block_frame_size(caplen);
    struct frame_head head = {
        ENHANCED, length, interface, (uint32_t)(packet->ts_recv >> 32), (uint32_t)packet->ts_recv,
        caplen, packet->wirelen,
    };
    put32(out + length - 8, 0);     /* the padding; or what the next two lines write */
    memcpy(out, &head, sizeof(head));
    memcpy(out + sizeof(head), packet->data, caplen);
    put32(out + length - 4, length);
}

uint32_t block_frame_length(const uint8_t *at, uint64_t left)
{
    struct frame_head head;
    uint32_t tail;
    if (left < BLOCK_FRAME_OVERHEAD)
        return 0;
    memcpy(&head, at, sizeof(head));
    if (head.type != ENHANCED || head.length > left || head.caplen > BLOCK_FRAME_MAX ||
        head.length != block_frame_size(head.caplen))
        return 0;
    memcpy(&tail, at + head.length - 4, 4);
    return tail == head.length ? head.length : 0;
}

uint64_t block_frame_stamp(const uint8_t *at)
{
    struct frame_head head;
    memcpy(&head, at, sizeof(head));
    return (uint64_t)head.stamp_high << 32 | head.stamp_low;
}

int write_all(int fd, const uint8_t *data, uint64_t length, uint64_t *written)
{
    *written = 0;
    while (*written < length) {
        ssize_t n = write(fd, data + *written, length - *written);
        if (n < 0 && errno != EINTR)
            return -errno;
        *written += n > 0 ? (uint64_t)n : 0;
    }
    return 0;
}
