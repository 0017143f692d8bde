#include "arbiter/impl.h"
#include <errno.h>
#include <stdlib.h>

/* The arbiter made, given sessions, and asked. */

int arbiter_create(const struct arbiter_config *config, struct counters *counters,
                   struct arbiter_sink sink, struct arbiter **out)
{
    if (config->lines < 1 || config->lines > LINES_MAX || __builtin_popcount(config->window) != 1
        || __builtin_popcountll(config->window_bytes) != 1 || config->window_bytes < 1 << 17)
        return -EINVAL;
    struct arbiter *arbiter = calloc(1, sizeof *arbiter);
    if (arbiter == NULL)
        return -ENOMEM;
    arbiter->config = *config;
    arbiter->counters = counters;
    arbiter->sink = sink;
    int rc = hold_create(&arbiter->hold, config->window, config->window_bytes);
    if (config->lines > 1) {
        arbiter->history = calloc(HISTORY, sizeof *arbiter->history);
        rc = rc < 0 || arbiter->history == NULL ? -ENOMEM : 0;
    }
    if (rc < 0)
        arbiter_destroy(arbiter);
    else
        *out = arbiter;
    return rc;
}

void arbiter_destroy(struct arbiter *arbiter)
{
    if (arbiter == NULL)
        return;
    hold_destroy(&arbiter->hold);
    free(arbiter->history);
    free(arbiter);
}

void arbiter_begin(struct arbiter *arbiter, const char *session, uint64_t first, uint64_t ts_recv)
{
    arbiter->ledger = (struct ledger){ .first = first, .next = first, .ts_first = ts_recv, .ts_last = ts_recv };
    memcpy(arbiter->ledger.session, session, SESSION_ID);
    arbiter->expected = arbiter->highest = first;
    arbiter->gap_open = arbiter->suspect.active = false;
    arbiter->gaps_seen = 0;
    memset(arbiter->gaps, 0, sizeof arbiter->gaps);
    if (arbiter->history != NULL)
        memset(arbiter->history, 0, HISTORY * sizeof *arbiter->history);
    memset(arbiter->wholes, 0, sizeof arbiter->wholes);
    for (unsigned i = 0; i < LINES_MAX; i++)
        arbiter->lines[i].next = arbiter->lines[i].next_offset = 0;
}

uint64_t arbiter_deadline_us(const struct arbiter *arbiter)
{
    return arbiter->gap_open ? arbiter->gap_us + arbiter->config.gap_timeout_us : UINT64_MAX;
}

const struct line *arbiter_lines(const struct arbiter *arbiter) { return arbiter->lines; }
uint64_t arbiter_expected(const struct arbiter *arbiter) { return arbiter->expected; }

struct ledger *arbiter_ledger(struct arbiter *arbiter)
{
    arbiter->ledger.next = arbiter->expected;
    return &arbiter->ledger;
}

uint64_t arbiter_newest_send(const struct arbiter *arbiter)
{
    uint64_t newest = 0;
    for (unsigned i = 0; i < arbiter->config.lines; i++)
        if (arbiter->lines[i].last_send > newest)
            newest = arbiter->lines[i].last_send;
    return newest;
}

int arbiter_seen(const struct arbiter *arbiter, const struct span *span)
{
    int64_t len = block_len(span, 0);
    const struct past *past = span->sequence < arbiter->expected ? recall(arbiter, span->sequence) : NULL;
    return span->count > 0 && len >= 0 && past != NULL && arbiter->config.compare
        && ((past->crc ^ crc32c(span->blocks + 2, (uint32_t)len)) & ~3u) == 0;
}
