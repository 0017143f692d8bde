#pragma once
#include "session/session.h"
#include <stdbool.h>

/* Which session a feed follows. For C only. Theory in succession.c. */

enum { SESSIONS_LEFT = 4 };

enum verdict {
    SESSION_CURRENT,    /* a packet of the session that is followed */
    SESSION_BEGINS,     /* the first packet of another one, or of a restart */
    SESSION_LEFT,       /* a packet of a session that was left */
    SESSION_UNSURE,     /* another session, not to be believed before it is confirmed */
};

struct standing {               /* what the feed knows when a span comes */
    uint64_t expected;          /* sequence to deliver next */
    uint64_t line_next;         /* sequence that this line should send next, 0: its first packet */
    uint64_t newest_send;       /* newest send time so far (IEX-TP) */
    uint64_t now_us;            /* record clock */
    uint64_t ts_us;             /* stamp of this packet, which the record clock may not believe yet */
    uint64_t timeout_us;        /* after which a line confirms itself */
    uint64_t stale_us;          /* after which a silent session may be doubted */
    uint64_t window;            /* of sequences that can be near each other */
    unsigned line;
    bool ended;                 /* the current session said so */
    bool seen;                  /* the span's first message was delivered with these bytes */
};

struct succession {
    bool any;                   /* a session is followed */
    bool confirmed;             /* its place in the sequence is believed */
    char current[SESSION_ID];
    char left[SESSIONS_LEFT][SESSION_ID];
    unsigned left_count;        /* ever */
    uint64_t restart_send;      /* send time of the packet that restarted the stream */
    uint64_t last_us;           /* record clock of its last packet */
    uint64_t last_ts_us;        /* and its stamp */
    struct { bool active; char session[SESSION_ID]; unsigned line; uint64_t since_us; } candidate;
};

/* Is it a span of the session that is followed? */
bool succession_follows(const struct succession *succession, const struct span *span);
enum verdict succession_judge(struct succession *succession, const struct span *span, const struct standing *standing);
