#include "session/succession.h"
#include <string.h>

/* One wrong packet must not cost a session, and the first packets of a new one must not be lost.
 *
 * Another session id begins a new session at once when its packet stands at sequence 1, or when
 * the current session has ended. Anything else is a candidate, dropped until a second packet of
 * that session comes by the other line, or by the same line after a time. Ids that were left stay
 * left, so that a slower line does not switch back; but when the current session has fallen
 * silent, one of them is a candidate like any other.
 *
 * A session that is joined at a sequence above 1 is believed when its second packet is near the
 * first; if it is not, the session begins again there.
 *
 * IEX-TP restarts at sequence 1 under the same session id. A packet below the expected sequence,
 * by a line that was itself past it, is such a restart and not a copy when it was sent later than
 * all before it, and either begins the stream with bytes not seen there or comes more than a
 * second later. Its send time must not run ahead of the record clock. The other line's packets of
 * the old stream are known by their send time. */

enum { RESTART_NS = 1000000000 };
static const uint64_t CLOCKS_APART_NS = 10000000000;

static bool was_left(const struct succession *succession, const char *session)
{
    for (unsigned i = 0; i < SESSIONS_LEFT && i < succession->left_count; i++)
        if (memcmp(succession->left[i], session, SESSION_ID) == 0)
            return true;
    return false;
}

static enum verdict begin(struct succession *succession, const struct span *span)
{
    memcpy(succession->current, span->session, SESSION_ID);
    succession->any = true;
    succession->confirmed = span->sequence == 1;
    succession->candidate.active = false;
    return SESSION_BEGINS;
}

static bool restarts(const struct succession *succession, const struct span *span, const struct standing *standing)
{
    if (span->send_time <= standing->newest_send || span->sequence >= standing->expected
        || span->sequence >= standing->line_next)
        return false;
    uint64_t ahead = span->send_time - standing->newest_send;
    uint64_t elapsed = standing->ts_us > succession->last_ts_us ? (standing->ts_us - succession->last_ts_us) * 1000 : 0;
    if (ahead > elapsed + CLOCKS_APART_NS)
        return false;
    return (span->sequence == 1 && !standing->seen) || ahead > RESTART_NS;
}

static enum verdict same(struct succession *succession, const struct span *span, const struct standing *standing)
{
    if (span->send_time != 0 && span->send_time < succession->restart_send)
        return SESSION_LEFT;
    if (span->send_time != 0 && restarts(succession, span, standing)) {
        succession->restart_send = span->send_time;
        return begin(succession, span);
    }
    if (!succession->confirmed) {
        if (span->sequence - standing->expected + standing->window >= 2 * standing->window)
            return begin(succession, span);
        succession->confirmed = true;
    }
    return SESSION_CURRENT;
}

static bool confirmed(struct succession *succession, const struct span *span, const struct standing *standing)
{
    if (succession->candidate.active && memcmp(succession->candidate.session, span->session, SESSION_ID) == 0)
        return standing->line != succession->candidate.line
            || standing->now_us >= succession->candidate.since_us + standing->timeout_us;
    succession->candidate.active = true;
    succession->candidate.line = standing->line;
    succession->candidate.since_us = standing->now_us;
    memcpy(succession->candidate.session, span->session, SESSION_ID);
    return false;
}

static enum verdict other(struct succession *succession, const struct span *span, const struct standing *standing)
{
    bool left = was_left(succession, span->session);
    if (left && standing->now_us - succession->last_us <= standing->stale_us)
        return SESSION_LEFT;
    bool believed = !left && (span->sequence == 1 || standing->ended);
    if (!believed && !confirmed(succession, span, standing))
        return SESSION_UNSURE;
    memcpy(succession->left[succession->left_count++ % SESSIONS_LEFT], succession->current, SESSION_ID);
    succession->restart_send = 0;
    return begin(succession, span);
}

bool succession_follows(const struct succession *succession, const struct span *span)
{
    return succession->any && memcmp(span->session, succession->current, SESSION_ID) == 0;
}

enum verdict succession_judge(struct succession *succession, const struct span *span, const struct standing *standing)
{
    enum verdict verdict;
    if (!succession->any)
        verdict = begin(succession, span);
    else if (succession_follows(succession, span))
        verdict = same(succession, span, standing);
    else
        verdict = other(succession, span, standing);
    if (verdict == SESSION_CURRENT || verdict == SESSION_BEGINS) {
        succession->last_us = standing->now_us;
        succession->last_ts_us = standing->ts_us;
    }
    return verdict;
}
