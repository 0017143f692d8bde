#pragma once
#include "arbiter/arbiter.h"
#include <stdbool.h>

/* Which lines of a feed are silent, on the record clock. For C only. */

enum { SILENCE_FEED = 1 << LINES_MAX };     /* beside a bit for each line: all of them */

struct silence {
    uint64_t heard_us;      /* newest packet of any line, 0: none yet */
    uint64_t check_us;      /* nothing is due before: packets only put it off */
    bool stale;             /* the feed as a whole */
};

/* A packet of `line` came at now_us. Bits of what is alive again. */
unsigned silence_heard(struct silence *silence, struct line *lines, const struct arbiter_config *config,
                       unsigned line, uint64_t now_us);
/* The clock reached now_us. Bits of what is stale from now on. */
unsigned silence_check(struct silence *silence, struct line *lines, const struct arbiter_config *config,
                       uint64_t now_us);
/* When silence_check() will find something unless a packet comes; UINT64_MAX: never. */
uint64_t silence_due_us(const struct silence *silence, const struct line *lines,
                        const struct arbiter_config *config);
