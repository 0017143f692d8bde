#include "source/window.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A capture is what the file holds when it is opened: bytes appended later are not looked
 * at, and a file that is unlinked stays readable. A file that shrinks is another matter, for
 * a mapped page behind its new end raises SIGBUS. So the size is asked again for every
 * CHECK_EVERY bytes (one fstat per some 10,000 frames) and the walk ends at what is left. A
 * cut that falls into the CHECK_EVERY bytes ahead of the reader, or into views not yet let
 * go, is not caught: do not truncate a capture in use, replace it. */
enum { CHECK_EVERY = 1 << 20 };

static size_t size_now(struct window *w)
{
    struct stat st;
    if (fstat(w->fd, &st) == 0 && (uint64_t)st.st_size < w->size) {
        w->size = (size_t)st.st_size;
        w->fault = "the file was truncated while it was read";
        w->cut = 1;
    }
    return w->size;
}

static void check_map(struct window *w)
{
    size_t at = (size_t)(w->at - w->map);
    size_t size = size_now(w);
    w->end = w->map + (size > at ? size : at);
    w->low = window_left(w) > CHECK_EVERY ? w->at + CHECK_EVERY : w->end;
}

/* Moves what is unread to the front and fills up behind it. */
static void refill_buffer(struct window *w)
{
    size_t left = window_left(w);
    w->base_offset = window_offset(w);
    memmove(w->buffer, w->at, left);
    w->at = w->buffer;
    size_t size = size_now(w), room = WINDOW_SIZE - left;
    const char *fault = NULL;
    int cut = 0;
    size_t got = inflater_read(w->inflater, size, w->buffer + left, room, &fault, &cut);
    w->end = w->buffer + left + got;
    w->eof = got < room;
    w->low = w->eof ? w->end : w->end - WINDOW_KEEP;
    if (w->fault == NULL) {
        w->fault = fault;
        w->cut = cut;
    }
}

void window_refill(struct window *w)
{
    if (w->buffer == NULL)
        check_map(w);
    else
        refill_buffer(w);
}

static int open_file(struct window *w, const char *path, const char **why)
{
    struct stat st;
    w->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);  /* a FIFO must not block here */
    if (w->fd < 0 || fstat(w->fd, &st) < 0)
        return -errno;
    if (S_ISDIR(st.st_mode))
        return -EISDIR;
    *why = S_ISREG(st.st_mode) ? "the file is empty" : "not a regular file";
    if (!S_ISREG(st.st_mode) || st.st_size == 0)
        return -EBADMSG;
    *why = NULL;
    w->map_size = w->size = (size_t)st.st_size;
    return 0;
}

static int map_file(struct window *w)
{
    void *map = mmap(NULL, w->map_size, PROT_READ, MAP_PRIVATE, w->fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    madvise(map, w->map_size, MADV_SEQUENTIAL);
    w->map = map;
    return 0;
}

static int open_bytes(struct window *w)
{
    int rc = inflater_open(w->map, w->map_size, &w->inflater);
    if (rc < 0)
        return rc;
    if (w->inflater != NULL && (w->buffer = malloc(WINDOW_SIZE)) == NULL)
        return -ENOMEM;
    w->eof = w->inflater == NULL;
    w->base = w->at = w->end = w->buffer != NULL ? w->buffer : w->map;
    window_refill(w);
    return 0;
}

int window_open(struct window *w, const char *path, const char **why)
{
    *w = (struct window){ .fd = -1 };
    *why = NULL;
    int rc = open_file(w, path, why);
    if (rc == 0)
        rc = map_file(w);
    if (rc == 0)
        rc = open_bytes(w);
    return rc;
}

void window_close(struct window *w)
{
    inflater_close(w->inflater);
    free(w->buffer);
    if (w->map != NULL)
        munmap((void *)(uintptr_t)w->map, w->map_size);
    if (w->fd >= 0)
        close(w->fd);
}
