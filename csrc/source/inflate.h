#pragma once
#include <stddef.h>
#include <stdint.h>

/* Streamed decompression of gzip (RFC 1952) and zstd (RFC 8878) bytes that lie in memory.
 * All memory is taken by inflater_open(); members and frames in a row are one stream. */

struct inflater;

/* Looks at the magic: *inflater stays NULL when the bytes are neither. -ENOMEM or 0. */
int inflater_open(const uint8_t *in, size_t size, struct inflater **inflater);
void inflater_close(struct inflater *inflater);

/* Writes up to `room` bytes, reading none at or behind in + size. Less than `room` is the
 * end: a clean one when *fault is still NULL, else *fault says what is wrong and *cut
 * whether the input merely stops short. */
size_t inflater_read(struct inflater *inflater, size_t size, uint8_t *out, size_t room,
                     const char **fault, int *cut);
