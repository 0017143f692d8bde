#pragma once
#include "source/inflate.h"

/* The unread bytes of a capture file, in one piece: at..end. Of a plain file this is the
 * mapping itself; of a compressed one a buffer of WINDOW_SIZE that window_advance() refills.
 * Bytes once seen stay in place until the next window_advance(). */

enum {
    WINDOW_SIZE = 1 << 20,
    WINDOW_KEEP = 320 << 10,    /* at least this much is there after window_advance(), or all */
};

struct window {
    const uint8_t *at;
    const uint8_t *end;
    const uint8_t *low;         /* once `at` is past it, window_advance() has work to do */
    int eof;                    /* nothing follows `end` ... */
    int cut;
    const char *fault;          /* ... because of this, if it is not the clean end */
    const uint8_t *base;        /* the mapping, or the buffer */
    uint64_t base_offset;       /* of *base in uncompressed bytes */
    const uint8_t *map;
    size_t map_size;
    size_t size;                /* what of the mapping is still backed by the file */
    int fd;
    uint8_t *buffer;            /* NULL for a plain file */
    struct inflater *inflater;
};

/* 0 or a negative errno with *why saying more than the errno does, or NULL. */
int window_open(struct window *w, const char *path, const char **why);
void window_close(struct window *w);
void window_refill(struct window *w);

static inline size_t window_left(const struct window *w)
{
    return (size_t)(w->end - w->at);
}

static inline uint64_t window_offset(const struct window *w)
{
    return w->base_offset + (uint64_t)(w->at - w->base);
}

static inline void window_advance(struct window *w)
{
    if (__builtin_expect(w->at > w->low, 0))
        window_refill(w);
}
