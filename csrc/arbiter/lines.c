#include "arbiter/impl.h"

/* Statistics of the lines: who was first and by how much, what a line skipped, and how much of
 * that the other one had. */

void arbiter_note_lead(struct arbiter *arbiter, unsigned line, uint64_t sequence, uint64_t ts_recv)
{
    const struct past *past = sequence < arbiter->expected ? recall(arbiter, sequence) : NULL;
    if (past == NULL || (past->crc & 1) == line)
        return;
    uint32_t lead = (uint32_t)ts_recv - past->ts;
    struct line *winner = &arbiter->lines[past->crc & 1];
    if (lead >= 1u << 31)       /* beyond what half a timestamp can tell */
        return;
    winner->leads++;
    winner->lead_ns_sum += lead;
    if (lead > winner->lead_ns_max)
        winner->lead_ns_max = lead;
}

/* How many of [first, end) were delivered or are held. */
static uint64_t known_of(const struct arbiter *arbiter, uint64_t first, uint64_t end)
{
    uint64_t below = end < arbiter->expected ? end : arbiter->expected;
    uint64_t count = below > first ? below - first : 0;
    for (unsigned i = 0; i < GAPS_REMEMBERED; i++) {
        uint64_t from = arbiter->gaps[i].first, to = from + arbiter->gaps[i].count;
        from = from > first ? from : first;
        to = to < below ? to : below;
        count -= to > from ? to - from : 0;
    }
    uint64_t above = first > arbiter->expected ? first : arbiter->expected;
    for (uint64_t i = 0; arbiter->hold.count > 0 && above + i < end && i < arbiter->config.window; i++)
        count += hold_get(&arbiter->hold, above + i) != NULL;
    return count;
}

void arbiter_note_line(struct arbiter *arbiter, unsigned index, const struct span *span, uint64_t ts_recv)
{
    struct line *line = &arbiter->lines[index];
    line->packets++;
    line->messages += span->count;
    line->last_us = arbiter->now_us;
    if (span->send_time > line->last_send)
        line->last_send = span->send_time;
    if (line->next != 0 && span->sequence > line->next) {
        line->losses += span->sequence - line->next;
        line->healed += known_of(arbiter, line->next, span->sequence);
    }
    if (span->send_time != 0 && span->sequence == line->next && span->offset != line->next_offset) {
        ADD(arbiter, session_offset_mismatch, 1);     /* bytes are missing that no sequence tells of */
        arbiter_flush(arbiter);
        arbiter->sink.gap(arbiter->sink.context, span->sequence, 0, ts_recv);
    }
}
