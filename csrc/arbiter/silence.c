#include "arbiter/silence.h"
#include "base/min.h"

/* A line that was heard once and then is silent for more than stale_line_us is stale until its
 * next packet; the feed is when all of its lines are, for more than stale_feed_us. */

static uint64_t line_due(const struct line *line, const struct arbiter_config *config)
{
    return line->last_us == 0 || line->is_stale ? UINT64_MAX : line->last_us + config->stale_line_us + 1;
}

static uint64_t feed_due(const struct silence *silence, const struct arbiter_config *config)
{
    return silence->heard_us == 0 || silence->stale ? UINT64_MAX : silence->heard_us + config->stale_feed_us + 1;
}

unsigned silence_heard(struct silence *silence, struct line *lines, const struct arbiter_config *config,
                       unsigned line, uint64_t now_us)
{
    unsigned changed = (lines[line].is_stale ? 1u << line : 0) | (silence->stale ? SILENCE_FEED : 0);
    lines[line].is_stale = 0;
    silence->stale = false;
    if (now_us > silence->heard_us)
        silence->heard_us = now_us;
    silence->check_us = min(silence->check_us, min(line_due(&lines[line], config), feed_due(silence, config)));
    return changed;
}

unsigned silence_check(struct silence *silence, struct line *lines, const struct arbiter_config *config,
                       uint64_t now_us)
{
    unsigned changed = 0;
    if (now_us < silence->check_us)
        return 0;
    for (unsigned i = 0; i < config->lines; i++)
        if (now_us >= line_due(&lines[i], config)) {
            lines[i].is_stale = 1;
            lines[i].stale++;
            changed |= 1u << i;
        }
    if (now_us >= feed_due(silence, config)) {
        silence->stale = true;
        changed |= SILENCE_FEED;
    }
    silence->check_us = silence_due_us(silence, lines, config);
    return changed;
}

uint64_t silence_due_us(const struct silence *silence, const struct line *lines,
                        const struct arbiter_config *config)
{
    uint64_t due = feed_due(silence, config);
    for (unsigned i = 0; i < config->lines; i++)
        due = min(due, line_due(&lines[i], config));
    return due;
}
