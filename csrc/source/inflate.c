#define ZSTD_STATIC_LINKING_ONLY    /* ZSTD_initStaticDStream: a workspace of fixed size */
#include "source/inflate.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

/* zstd: the workspace holds the largest window that the zstd tool itself decodes without
 * being told (2^27). Pages that a smaller window leaves untouched are never backed.
 * zlib: allocates its 32 KiB window with the first output byte, which capture_open()
 * already asks for, and inflateReset() keeps it. */
enum { ZSTD_WINDOW_MAX = 1 << 27, GZIP_CHUNK = 1 << 30 };

struct inflater {
    size_t (*read)(struct inflater *, const uint8_t *end, uint8_t *out, size_t room);
    const uint8_t *in;          /* next byte of input */
    const uint8_t *start;
    const char *fault;          /* sticky, as is `ended` */
    int cut;
    int ended;
    int inside;                 /* of a gzip member or a zstd frame */
    z_stream gzip;
    ZSTD_DStream *zstd;
    size_t hint;                /* input bytes that zstd asks for next */
    void *workspace;
};

static void stop(struct inflater *f, const char *fault, int cut)
{
    f->ended = 1;
    f->fault = fault;
    f->cut = cut;
}

/* Hands zlib its next input; its counters have 32 bits. No input left does not end a
 * member by itself: zlib may hold output back. */
static void gzip_feed(struct inflater *f, const uint8_t *end)
{
    size_t left = (size_t)(end - f->in);
    if (!f->inside && left == 0) {
        stop(f, NULL, 0);
        return;
    }
    if (!f->inside)
        inflateReset(&f->gzip);
    f->inside = 1;
    f->gzip.next_in = (Bytef *)(uintptr_t)f->in;
    f->gzip.avail_in = left < GZIP_CHUNK ? (uInt)left : GZIP_CHUNK;
}

static void gzip_turn(struct inflater *f)
{
    int rc = inflate(&f->gzip, Z_NO_FLUSH);
    f->in = f->gzip.next_in;
    if (rc == Z_STREAM_END)
        f->inside = 0;
    else if (rc == Z_BUF_ERROR)
        stop(f, "the gzip stream is cut", 1);
    else if (rc != Z_OK)
        stop(f, "the gzip stream is corrupted", 0);
}

static size_t gzip_read(struct inflater *f, const uint8_t *end, uint8_t *out, size_t room)
{
    f->gzip.next_out = out;
    f->gzip.avail_out = (uInt)room;
    while (f->gzip.avail_out > 0 && !f->ended) {
        gzip_feed(f, end);
        if (!f->ended)
            gzip_turn(f);
    }
    return room - f->gzip.avail_out;
}

/* Fed as zstd asks for it, a block at a time: given a whole frame at once it would decode
 * all of it in one go, and an error in its last block would take the others along. */
static void zstd_turn(struct inflater *f, const uint8_t *end, ZSTD_outBuffer *to)
{
    size_t left = (size_t)(end - f->in), before = to->pos;
    ZSTD_inBuffer in = { f->in, left < f->hint ? left : f->hint, 0 };
    size_t rc = ZSTD_decompressStream(f->zstd, to, &in);
    f->in += in.pos;
    if (ZSTD_getErrorCode(rc) == ZSTD_error_frameParameter_windowTooLarge) {
        stop(f, "the zstd stream needs a window above 128 MiB", 0);
    } else if (ZSTD_isError(rc)) {
        stop(f, "the zstd stream is corrupted", 0);
    } else if (in.pos == 0 && to->pos == before) {  /* no input left, nothing held back */
        stop(f, f->inside ? "the zstd stream is cut" : NULL, f->inside);
    } else {
        f->inside = rc != 0;
        f->hint = rc != 0 ? rc : ZSTD_FRAMEHEADERSIZE_MIN(ZSTD_f_zstd1);
    }
}

static size_t zstd_read(struct inflater *f, const uint8_t *end, uint8_t *out, size_t room)
{
    ZSTD_outBuffer to = { out, room, 0 };
    while (to.pos < to.size && !f->ended)
        zstd_turn(f, end, &to);
    return to.pos;
}

static int gzip_open(struct inflater *f)
{
    f->read = gzip_read;
    return inflateInit2(&f->gzip, 16 + MAX_WBITS) == Z_OK ? 0 : -ENOMEM;
}

static int zstd_open(struct inflater *f)
{
    size_t size = ZSTD_estimateDStreamSize(ZSTD_WINDOW_MAX);
    f->read = zstd_read;
    f->hint = ZSTD_FRAMEHEADERSIZE_MIN(ZSTD_f_zstd1);
    f->workspace = malloc(size);
    if (f->workspace != NULL)
        f->zstd = ZSTD_initStaticDStream(f->workspace, size);
    return f->zstd != NULL ? 0 : -ENOMEM;
}

static int is_zstd(const uint8_t *in)
{
    static const uint8_t frame[4] = { 0x28, 0xb5, 0x2f, 0xfd };
    static const uint8_t skippable[3] = { 0x2a, 0x4d, 0x18 };   /* behind 0x50..0x5f */
    return !memcmp(in, frame, 4) || ((in[0] & 0xf0) == 0x50 && !memcmp(in + 1, skippable, 3));
}

int inflater_open(const uint8_t *in, size_t size, struct inflater **inflater)
{
    *inflater = NULL;
    int gzip = size >= 2 && in[0] == 0x1f && in[1] == 0x8b;
    if (!gzip && !(size >= 4 && is_zstd(in)))
        return 0;
    struct inflater *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return -ENOMEM;
    f->in = f->start = in;
    int rc = gzip ? gzip_open(f) : zstd_open(f);
    if (rc < 0)
        inflater_close(f);
    else
        *inflater = f;
    return rc;
}

void inflater_close(struct inflater *f)
{
    if (f == NULL)
        return;
    if (f->read == gzip_read)
        inflateEnd(&f->gzip);
    free(f->workspace);
    free(f);
}

size_t inflater_read(struct inflater *f, size_t size, uint8_t *out, size_t room,
                     const char **fault, int *cut)
{
    const uint8_t *end = f->start + size;
    size_t got = f->read(f, end > f->in ? end : f->in, out, room);
    *fault = f->fault;
    *cut = f->cut;
    return got;
}
