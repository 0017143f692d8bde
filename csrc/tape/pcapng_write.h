#pragma once
#include "packet.h"

/* Writes the blocks of a pcapng file (draft-ietf-opsawg-pcapng), little-endian, stamps in ns. */

enum {
    BLOCK_NAME = 60,                /* an if_name, its zero included */
    BLOCK_START_SIZE = 256,         /* room that either of the first two needs */
    BLOCK_FRAME_OVERHEAD = 32,
    BLOCK_FRAME_MAX = 262144 + BLOCK_FRAME_OVERHEAD,
};

/* Each returns the bytes it wrote, a multiple of 4. */
uint32_t block_section(uint8_t *out);
uint32_t block_interface(uint8_t *out, const char *name, uint16_t link, uint32_t snaplen);
/* block_frame_size(caplen) bytes at `out`, with the first `caplen` bytes of the frame. */
void block_frame(uint8_t *out, const struct packet *packet, uint32_t interface, uint32_t caplen);
uint32_t block_frame_size(uint32_t caplen);
/* The length of the frame's block at `at`, or 0 when there is none within `left` bytes. */
uint32_t block_frame_length(const uint8_t *at, uint64_t left);
uint64_t block_frame_stamp(const uint8_t *at);

/* write() until all is written; `*written` says how much was. 0 or negative errno. */
int write_all(int fd, const uint8_t *data, uint64_t length, uint64_t *written);
