/* The ring of csrc/ring.c: one writer, one block reader that joins and leaves when it likes,
 * one skip reader. Small numbers, every interleaving.
 *
 * Promela's memory is sequentially consistent, so what a weaker machine may reorder is written
 * out: within a put, the stores happen in any order that the release fence and the release
 * store allow; where a fence stands between a store and a load, -DBROKEN=n swaps them. Each
 * such n takes one step of the protocol away, and must be found:
 *
 *  1 the stamp is stored without release          7 a record is read after its release
 *  2 the stamp is not invalidated                 8 join: the horizon is loaded before P is said
 *  3 no release fence after the invalidation      9 look: cursors loaded before the horizon is said
 *  4 a copy is not validated                     10 join: the horizon is not looked at
 *  5 no acquire fence before the validation      11 stamp 0 always means overrun
 *  6 the gate is off by one                      12 the stamp is not looked at again after `written`
 */

#ifndef BROKEN
#define BROKEN 0
#endif
#define SLOTS 4
#define HALF 2
#define QUARTER 1
#ifndef OFFERS
#define OFFERS 7        /* records offered to the ring */
#endif
#define SLOT(p) ((p) % SLOTS)

byte stamp[SLOTS], one[SLOTS], two[SLOTS];      /* two words of payload, both position + 1 */
byte written, horizon, begun;                   /* begun: ghost, puts that were begun */
byte read;                                      /* the block reader's cursor */
bool blocking, closed;

/* ---- writer ---- */

inline announce() { horizon = next + HALF }
inline scan() {
    free = SLOTS;
    if
    :: blocking ->
        lag = next - read;      /* an int: negative when the cursor is ahead */
        if
        :: lag >= 0 && lag <= SLOTS -> free = SLOTS - lag
        :: else
        fi
    :: else
    fi
}
inline look() {
    written = next;
    if
    :: BROKEN == 9 -> scan(); announce()
    :: else -> announce(); scan()
    fi;
    d_step {
        if
        :: BROKEN == 6 -> free = free + 1
        :: else
        fi;
        gate = next + (free < HALF -> free : HALF)
    }
    horizon = gate
}

/* Four stores; `did` says which have happened. */
inline put() {
    d_step { begun = next + 1; a = false; b = false; c = false; d = false }
    do
    :: !a -> if
             :: BROKEN != 2 -> stamp[SLOT(next)] = 0
             :: else
             fi;
             a = true
    :: !b && (a || BROKEN == 3) -> d_step { one[SLOT(next)] = next + 1; b = true }
    :: !c && (a || BROKEN == 3) -> d_step { two[SLOT(next)] = next + 1; c = true }
    :: !d && a && ((b && c) || BROKEN == 1) -> d_step { stamp[SLOT(next)] = next + 1; d = true }
    :: a && b && c && d -> break
    od;
    next = next + 1
}

active proctype writer() {
    byte next, gate, offered;
    int lag, free;
    bool a, b, c, d;
    do
    :: offered == OFFERS -> break
    :: else ->
        if
        :: next == gate -> look()
        :: else
        fi;
        if
        :: next != gate -> put()
        :: else                 /* no room: the record is lost, the writer goes on */
        fi;
        offered = offered + 1;
        if
        :: written = next       /* publish, or later */
        :: skip
        fi
    od;
    written = next;
    closed = true
}

/* ---- block reader ---- */

#ifndef ONLY_SKIP
inline join() {
    at = written;
    if
    :: at = (horizon > SLOTS -> horizon - SLOTS : 0)    /* from the start */
    :: skip
    fi;
    read = at;
    if
    :: BROKEN == 8 -> edge = horizon; blocking = true
    :: else -> blocking = true; edge = horizon
    fi;
    do
    :: BROKEN == 10 || edge <= at + SLOTS -> break
    :: else ->
        at = edge - SLOTS;
        if
        :: BROKEN == 8 -> edge = horizon; read = at
        :: else -> read = at; edge = horizon
        fi
    od
}

active proctype block_reader() {
    byte at, edge;
    bool last;
    join();
    do
    :: last = closed;
        if
        :: stamp[SLOT(at)] == at + 1 ->
            if
            :: BROKEN == 7 -> read = at + 1
            :: else
            fi;
            assert(one[SLOT(at)] == at + 1);
            assert(two[SLOT(at)] == at + 1);
            assert(stamp[SLOT(at)] == at + 1);
            at = at + 1;
            read = at
        :: else ->
            assert(stamp[SLOT(at)] <= at + 1);          /* not overrun */
            if
            :: last -> break
            :: else
            fi
        fi
    :: goto left                /* early */
    od;
    assert(at == written);
left:
    blocking = false
}
#endif

/* ---- skip reader ---- */

#ifndef ONLY_BLOCK
inline overrun() {
    jump = 0;
    s = stamp[SLOT(at)];
    if
    :: s != 0 && s <= at + 1
    :: else ->
        w = written;
        if
        :: s == 0 && BROKEN != 12 -> s = stamp[SLOT(at)]
        :: else
        fi;
        d_step {
            if
            :: s <= at + 1 && (s != 0 || (w <= at && BROKEN != 11))
            :: else ->
                assert(begun > at + SLOTS);     /* it is being overwritten, or was */
                newest = (s != 0 -> s : at + SLOTS);
                newest = (w >= newest && w - newest < SLOTS -> w : newest);
                jump = newest - SLOTS + QUARTER - at
            fi
        }
    fi
}

active proctype skip_reader() {
    byte at, s, w, x, y, newest, jump, got, lost;
    bool last;
    do
    :: last = closed;
        s = stamp[SLOT(at)];
        if
        :: s == at + 1 ->
            if
            :: BROKEN == 5 -> s = stamp[SLOT(at)]
            :: else
            fi;
            x = one[SLOT(at)];
            y = two[SLOT(at)];
            if
            :: BROKEN != 5 && BROKEN != 4 -> s = stamp[SLOT(at)]
            :: else
            fi
        :: else
        fi;
        if
        :: s == at + 1 ->
            d_step {
                assert(x == at + 1 && y == at + 1);
                at = at + 1; got = got + 1; x = 0; y = 0
            }
        :: else ->
            overrun();
            at = at + jump;
            lost = lost + jump;
            if
            :: last && jump == 0 -> break
            :: else
            fi
        fi
    od;
    assert(at == written && got + lost == written)
}
#endif
