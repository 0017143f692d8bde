#pragma once
#include "source/source.h"
#include "tape/flight.h"

/* Sources to capture files: one thread receives into a FLIGHT_KEEP memory, another one writes what
 * lies ready there. Neither waits for the other, but for sources that can wait. */

enum { RECORDER_SOURCES_MAX = FLIGHT_INTERFACES };

enum recorder_stop {
    RECORDER_END = 1,           /* receive no more */
    RECORDER_FAILED = 2,        /* nor wait: nothing is written any more */
};

struct recorder {
    uint64_t frames_max;        /* 0: no limit */
    uint64_t ns_max;            /* 0: no limit */
    uint64_t frames;            /* received from all sources */
    int32_t sources;
    int32_t stop;               /* enum recorder_stop, set by anyone */
    struct source *source[RECORDER_SOURCES_MAX];
    uint64_t received[RECORDER_SOURCES_MAX];
    int32_t patient[RECORDER_SOURCES_MAX];  /* 1: a file, which waits for room instead of losing */
    int32_t error[RECORDER_SOURCES_MAX];    /* what its last burst returned: 0, or it ended so */
};

/* Receives until all sources ended, a limit was reached or `stop` was set; then ends the flight.
 * Frames without room are counted in its header. */
void recorder_run(struct recorder *recorder, struct flight *flight);

struct recorder_file {
    uint64_t bytes_max;         /* 0: no limit; a file has one frame at least */
    uint64_t ns_max;            /* 0: no limit; between the stamps of its frames */
    uint64_t bytes, frames;     /* written: whole blocks, all of them */
    uint64_t ts_first, ts_last;
    uint32_t interfaces;        /* described so far */
    uint32_t pad;
};

/* Waits for a frame: 1 with its stamp, 0 when the flight ended and all was written. */
int recorder_wait(struct flight *flight, uint64_t *ts);
/* Writes the start of a capture to the empty file `fd`, then frames. 1: the next frame belongs to
 * another file; 0: the recording is over; negative errno: the file was cut behind the last whole
 * block, and could take no more. */
int recorder_write(struct flight *flight, struct recorder_file *file, int fd);
