/* The receive loop makes no system call while frames come in. The writer thread looks every few
 * milliseconds and writes all there is, so that its writes are large when there is much.
 *
 * What was written is handed to the disk at once (sync_file_range), not waited for: the caller's
 * fsync at the end of a file then has little left to do. */

#define _GNU_SOURCE     /* sync_file_range */
#include "tape/recorder.h"
#include "base/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

enum {
    CHUNK = 4 << 20,            /* bytes of one write() */
    LOOK_NS = 5000000,          /* between two looks of the writer */
    ROOM_NS = 100000,           /* between two looks of a source that waits for room */
    IDLE_ROUNDS = 256,          /* without a frame, before the processor is offered to others */
};

static void nap(long ns)
{
    nanosleep(&(struct timespec){ .tv_nsec = ns }, NULL);
}

/* ---- receiving ---- */

static int stopped(const struct recorder *recorder)
{
    return __atomic_load_n(&recorder->stop, __ATOMIC_RELAXED);
}

static void keep(struct recorder *recorder, struct flight *flight, struct packet *packets, int n,
                 int patient)
{
    for (int i = 0; i < n;) {
        i += flight_put(flight, packets + i, n - i);
        if (i == n)
            return;
        if (patient && stopped(recorder) < RECORDER_FAILED) {
            nap(ROOM_NS);
        } else {
            flight_lose(flight, 1);
            i++;
        }
    }
}

static int burst_max(const struct recorder *recorder)
{
    uint64_t left = recorder->frames_max - recorder->frames;
    return recorder->frames_max != 0 && left < BURST_MAX ? (int)left : BURST_MAX;
}

/* Frames received, or negative errno. */
static int receive(struct recorder *recorder, struct flight *flight, int index)
{
    struct packet packets[BURST_MAX];
    struct source *source = recorder->source[index];
    int n = source->burst(source, packets, burst_max(recorder));
    if (n <= 0)
        return recorder->error[index] = n;
    for (int i = 0; i < n; i++)
        packets[i].port = (uint16_t)index;
    recorder->received[index] += (uint64_t)n;
    __atomic_store_n(&recorder->frames, recorder->frames + (uint64_t)n, __ATOMIC_RELAXED);
    keep(recorder, flight, packets, n, recorder->patient[index]);
    return n;
}

/* One burst of each source: frames received, or -ENODATA when none is left. */
static int round_of(struct recorder *recorder, struct flight *flight)
{
    int frames = 0, open = 0;
    for (int i = 0; i < recorder->sources && burst_max(recorder) > 0; i++) {
        int n = recorder->error[i] < 0 ? -1 : receive(recorder, flight, i);
        open += n >= 0;
        frames += n > 0 ? n : 0;
    }
    return open > 0 ? frames : -ENODATA;
}

void recorder_run(struct recorder *recorder, struct flight *flight)
{
    ticks_ns(0);                /* measures, before it matters */
    uint64_t begun = ticks_now();
    int n = 0, idle = 0;
    while (n >= 0 && !stopped(recorder) &&
           (recorder->ns_max == 0 || ticks_ns(ticks_now() - begun) < recorder->ns_max)) {
        n = round_of(recorder, flight);
        idle = n == 0 ? idle + 1 : 0;
        if (idle >= IDLE_ROUNDS)
            sched_yield();
    }
    flight_end(flight);
}

/* ---- writing ---- */

/* Acquire: pairs with the release in flight_end(); what is seen after it is all there is. */
static int ended(const struct flight *flight)
{
    return (int)__atomic_load_n(&flight_header(flight)->ended, __ATOMIC_ACQUIRE);
}

/* Waits until something lies ready: its bytes, or 0 when nothing will come. */
static uint64_t ready(struct flight *flight, const uint8_t **at)
{
    for (;;) {
        int last = ended(flight);
        uint64_t bytes = flight_peek(flight, at);
        if (bytes != 0 || last)
            return bytes;
        nap(LOOK_NS);
    }
}

int recorder_wait(struct flight *flight, uint64_t *ts)
{
    const uint8_t *at;
    uint64_t bytes = ready(flight, &at);
    if (bytes != 0)
        *ts = block_frame_stamp(at);
    return bytes != 0;
}

static int belongs(const struct recorder_file *file, const uint8_t *block, uint64_t at)
{
    if (file->frames == 0)
        return 1;
    uint64_t ts = block_frame_stamp(block);
    return (file->ns_max == 0 || ts < file->ts_first || ts - file->ts_first < file->ns_max) &&
           (file->bytes_max == 0 || file->bytes + at <= file->bytes_max);
}

/* Counts whole blocks within `limit` bytes as the file's, up to the first that is not; their bytes.
 * `choose`: whether they belong into the file at all is still to be asked. */
static uint64_t count_blocks(struct recorder_file *file, const uint8_t *at, uint64_t limit, int choose)
{
    uint64_t bytes = 0;
    for (uint32_t length; (length = block_frame_length(at + bytes, limit - bytes)) != 0; bytes += length) {
        if (choose && !belongs(file, at + bytes, bytes + length))
            break;
        file->ts_last = block_frame_stamp(at + bytes);
        if (file->frames++ == 0)
            file->ts_first = file->ts_last;
    }
    return bytes;
}

static int append(struct recorder_file *file, int fd, const uint8_t *data, uint64_t length)
{
    uint64_t written;
    int rc = write_all(fd, data, length, &written);
    if (rc == 0)
        file->bytes += length;
    else if (ftruncate(fd, (off_t)file->bytes) < 0)
        return -errno;
    return rc;
}

/* The section at a file's start, and interfaces before their first frame. */
static int describe(struct flight *flight, struct recorder_file *file, int fd)
{
    uint8_t block[BLOCK_START_SIZE];
    int rc = file->bytes == 0 ? append(file, fd, block, block_section(block)) : 0;
    /* Acquire: pairs with the release in find_interface(). */
    uint32_t n = __atomic_load_n(&flight_header(flight)->interfaces, __ATOMIC_ACQUIRE);
    for (; rc == 0 && file->interfaces < n; file->interfaces++)
        rc = append(file, fd, block, flight_describe(flight, file->interfaces, block));
    return rc;
}

/* Writes the blocks; when that fails, cuts the file behind the last one that got whole. */
static int write_blocks(struct flight *flight, struct recorder_file *file, int fd,
                        const uint8_t *at, uint64_t bytes, const struct recorder_file *before)
{
    uint64_t written;
    int rc = write_all(fd, at, bytes, &written);
    if (rc < 0) {
        *file = *before;
        bytes = count_blocks(file, at, written, 0);
    }
    file->bytes += bytes;
    flight_release(flight, bytes);
    if (rc < 0)
        return ftruncate(fd, (off_t)file->bytes) < 0 ? -errno : rc;
    sync_file_range(fd, (off_t)before->bytes, (off_t)bytes, SYNC_FILE_RANGE_WRITE);
    return 0;
}

int recorder_write(struct flight *flight, struct recorder_file *file, int fd)
{
    for (;;) {
        const uint8_t *at;
        uint64_t bytes = ready(flight, &at);
        int rc = describe(flight, file, fd);
        if (rc < 0 || bytes == 0)
            return rc;
        struct recorder_file before = *file;
        bytes = count_blocks(file, at, bytes < CHUNK ? bytes : CHUNK, 1);
        if (bytes == 0)
            return file->frames != 0 ? 1 : -EBADMSG;
        rc = write_blocks(flight, file, fd, at, bytes, &before);
        if (rc < 0)
            return rc;
        if (bytes < CHUNK / 2 && !ended(flight))
            nap(LOOK_NS);
    }
}
