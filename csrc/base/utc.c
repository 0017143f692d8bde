/* Two lines over the counter. The model M is what is believed of the clock sampled: it goes
 * through the last good sample, with the rate seen over the last seconds. The time T, which
 * utc_now() tells, has no jumps: each update bends it towards M, by at most UTC_SLEW_PPB, so that
 * half a microsecond is gone after a second and no interval is ever wrong by more than 500 ppm.
 *
 * Error. What is known of the clock sampled, C, at a counter `age` after the sample:
 *
 *     |M - C|  <=  bracket / 2  +  (doubt of the rate + UTC_WANDER_PPB) x age
 *     |T - C|  <=  |T - M|  +  |M - C|                            what utc_state() tells
 *
 * - bracket / 2: the clock was read somewhere between two reads of the counter.
 * - the doubt of the rate: two samples a span apart give it within (half + half) / span. Until
 *   there are two it is what the caller said; a value that is not measured again is doubted more
 *   with each sample, so that a better old one cannot rule for ever.
 * - UTC_WANDER_PPB is an assumption: the rate stays that close to its mean over the span (4 to 8
 *   seconds). Temperature and a steady clock discipline stay far below. It does not cover a
 *   daemon that begins to slew the clock by more; the next sample shows that and restarts the
 *   measurement with the doubt that it proved.
 * Not in the bound: the error of the host's own clock against UTC (adjtimex tells its maxerror
 * and esterror, see pydpdk/core/utc.py) and a TSC that differs between cores (the kernel uses TSC as
 * its clock source only where it does not). Nor a step that no sample has met yet.
 *
 * A sample that says less than M does already (its half bracket is above M's error) is left out
 * of M. One that M's error and its own bracket cannot both explain is a surprise: above
 * UTC_STEP_NS a step, counted, else a change of rate. Either way M starts afresh from it.
 *
 * Policy for steps: they are slewed like all else, forwards and back. A jump would end every
 * timer that runs on these stamps, or hold it for as long; labels that are wrong by a declared
 * error do less harm. Who wants the jump asks for it: utc_jump().
 *
 * Never back. T is a chain of lines, each from its `counter` on, where the one before it ends:
 * as all rates are positive, T is monotone in the counter. A change takes effect UTC_LEAD_NS
 * after it was made, so that no reader can have used the old line beyond its end, unless the
 * control thread lost the processor for that long just before publish(). It sees that afterwards
 * and counts it (`late`): there a reader may have seen time go back, by less than the delay times
 * twice UTC_SLEW_PPB.
 *
 * Two copies. `turn` says which one is read; the writer fills the other and turns. A reader that
 * finds the same `turn` before and after has read a copy which nobody wrote to. Nobody waits for
 * a writer that was stopped halfway. Words are stored with release and loaded with acquire (on
 * x86 plain moves), because then each reader's word pairs with the writer's and no fence is
 * needed, which thread sanitizers do not know. */

#include "base/utc.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

/* The step that the tests take away, to see its absence caught. */
#ifndef UTC_VALIDATE
#define UTC_VALIDATE 1
#endif

enum { SHIFT = 40, TRIES = 8, BILLION = 1000000000 };
static const uint64_t SECOND_NS = 1000000000, SPAN_NS = 4000000000, CALIBRATE_NS = 5000000;

typedef __int128 wide;
struct line { uint64_t counter, ns, rate; };    /* rate: ns per tick, times 2^SHIFT */
struct view {                   /* words only: copied one by one */
    struct line before, now;    /* T up to now.counter, and from there */
    struct line model;
    uint64_t half, doubt_ppb, initial_rate, updates, steps, late;
};
struct anchor { uint64_t counter, ns, half; };
struct utc {
    uint64_t turn;              /* shown[turn % 2] is read */
    struct view shown[2];
    /* the writer's own, no reader looks */
    struct view own __attribute__((aligned(64)));
    struct anchor from, next;   /* the rate's other end: one span back at least, and the next such */
    uint32_t jump;
} __attribute__((aligned(64)));

enum { WORDS = sizeof(struct view) / 8 };
_Static_assert(sizeof(struct view) == 15 * 8, "no padding between words");

static uint64_t load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

static wide ticks_to_ns(uint64_t ticks, uint64_t rate)
{
    return (wide)(int64_t)ticks * (wide)rate >> SHIFT;
}

static uint64_t line_at(const struct line *line, uint64_t counter)
{
    return line->ns + (uint64_t)ticks_to_ns(counter - line->counter, line->rate);
}

static uint64_t apart(uint64_t a, uint64_t b) { return (int64_t)(a - b) < 0 ? b - a : a - b; }

/* ns of `ns` at that many ppb, rounded up; no more than UINT64_MAX. */
static uint64_t share(uint64_t ns, uint64_t ppb)
{
    wide part = (wide)ns * ppb / BILLION + 1;
    return part > INT64_MAX ? INT64_MAX : (uint64_t)part;
}

static uint64_t age_of(const struct view *v, uint64_t counter)
{
    return apart(line_at(&v->model, counter), v->model.ns);
}

static uint64_t model_error(const struct view *v, uint64_t counter)
{
    return v->half + share(age_of(v, counter), v->doubt_ppb + UTC_WANDER_PPB);
}

/* ---- readers ---- */

uint64_t utc_at(const struct utc *utc, uint64_t counter)
{
    uint64_t turn, ns;
    do {
        turn = load(&utc->turn);        /* pairs with the release in publish() */
        const struct view *v = &utc->shown[turn & 1];
        const struct line *at = (int64_t)(counter - load(&v->now.counter)) < 0 ? &v->before : &v->now;
        struct line line = { load(&at->counter), load(&at->ns), load(&at->rate) };
        ns = line_at(&line, counter);
    } while (UTC_VALIDATE && load(&utc->turn) != turn);
    return ns;
}

uint64_t utc_now(const struct utc *utc) { return utc_at(utc, __rdtsc()); }

static void copy_view(const struct utc *utc, struct view *out)
{
    uint64_t turn, *to = (uint64_t *)out;
    do {
        turn = load(&utc->turn);        /* pairs with the release in publish() */
        const uint64_t *from = (const uint64_t *)&utc->shown[turn & 1];
        for (int i = 0; i < WORDS; i++)
            to[i] = load(&from[i]);     /* pairs with the word's release in publish() */
    } while (UTC_VALIDATE && load(&utc->turn) != turn);
}

void utc_state_at(const struct utc *utc, uint64_t counter, struct utc_state *out)
{
    struct view v;
    copy_view(utc, &v);
    const struct line *t = (int64_t)(counter - v.now.counter) < 0 ? &v.before : &v.now;
    int64_t ahead = (int64_t)(line_at(t, counter) - line_at(&v.model, counter));
    wide faster = (wide)v.model.rate - v.initial_rate;
    *out = (struct utc_state) { .error_ns = UINT64_MAX, .age_ns = UINT64_MAX };
    if (v.updates == 0)
        return;
    *out = (struct utc_state) {
        .updates = v.updates, .steps = v.steps, .late = v.late, .offset_ns = ahead,
        .rate_ppb = (int64_t)(faster * BILLION / v.initial_rate), .age_ns = age_of(&v, counter),
        /* 2: each line is cut to whole ns */
        .error_ns = (uint64_t)llabs(ahead) + model_error(&v, counter) + 2,
    };
}

void utc_state(const struct utc *utc, struct utc_state *out) { utc_state_at(utc, __rdtsc(), out); }

/* ---- the control thread ---- */

static void publish(struct utc *utc)
{
    uint64_t turn = utc->turn + 1, *to = (uint64_t *)&utc->shown[turn & 1];
    const uint64_t *from = (const uint64_t *)&utc->own;
    /* Release: a reader that meets a word of this turn then finds `turn` moved on from the one
     * before last, when this copy was its own. Pairs with the loads of words. */
    for (int i = 0; i < WORDS; i++)
        __atomic_store_n(&to[i], from[i], __ATOMIC_RELEASE);
    __atomic_store_n(&utc->turn, turn, __ATOMIC_RELEASE);   /* pairs with the loads of turn */
}

static void restart(struct utc *utc, const struct anchor *sample)
{
    utc->from = utc->next = *sample;
}

/* The rate between `from` and the sample, when that is surer than what is known. */
static void measure_rate(struct utc *utc, const struct anchor *sample)
{
    struct view *own = &utc->own;
    uint64_t ticks = sample->counter - utc->from.counter, span = sample->ns - utc->from.ns;
    own->doubt_ppb += own->doubt_ppb / 16 + 1;
    if (ticks == 0 || (int64_t)span <= 0)
        return;
    wide doubt = ((wide)sample->half + utc->from.half + 2) * BILLION / span + 1;
    if (doubt < (wide)own->doubt_ppb) {
        own->doubt_ppb = (uint64_t)doubt;
        own->model.rate = (uint64_t)(((wide)span << SHIFT) / ticks);
    }
    if (sample->ns - utc->next.ns >= SPAN_NS) {
        utc->from = utc->next;
        utc->next = *sample;
    }
}

static void believe(struct utc *utc, const struct anchor *sample)
{
    utc->own.model.counter = sample->counter;
    utc->own.model.ns = sample->ns;
    utc->own.half = sample->half;
}

/* A surprise: the clock was stepped, or its rate changed by what is seen, or twice that when it
 * changed halfway. */
static void start_afresh(struct utc *utc, const struct anchor *sample, uint64_t off)
{
    struct view *own = &utc->own;
    if (off > UTC_STEP_NS) {
        own->steps++;
    } else {
        wide proved = 2 * (wide)off * BILLION / (age_of(own, sample->counter) + 1);
        if (proved > (wide)own->doubt_ppb)
            own->doubt_ppb = proved < BILLION ? (uint64_t)proved : BILLION;
    }
    restart(utc, sample);
    believe(utc, sample);
}

static void take_in(struct utc *utc, const struct anchor *sample)
{
    struct view *own = &utc->own;
    uint64_t off = apart(sample->ns, line_at(&own->model, sample->counter));
    uint64_t error = model_error(own, sample->counter);
    if (off > error + sample->half + 2) {
        start_afresh(utc, sample, off);
    } else if (sample->half <= error) {
        measure_rate(utc, sample);
        believe(utc, sample);
    }
}

/* Bends T towards M from `counter` on. Offsets in ns are removed over a second: ns are ppb. */
static void bend(struct utc *utc, uint64_t counter)
{
    struct view *own = &utc->own;
    uint64_t ns = line_at(&own->now, counter);
    int64_t behind = (int64_t)(line_at(&own->model, counter) - ns);
    if (utc->jump) {
        ns += (uint64_t)behind;
        behind = 0;
    }
    utc->jump = 0;
    int64_t slew = behind > UTC_SLEW_PPB ? UTC_SLEW_PPB : behind < -UTC_SLEW_PPB ? -UTC_SLEW_PPB : behind;
    wide bent = (wide)own->model.rate + (wide)own->model.rate * slew / BILLION;
    own->before = own->now;
    own->now = (struct line) { counter, ns, (uint64_t)bent };
}

static void first(struct utc *utc, const struct anchor *sample)
{
    restart(utc, sample);
    believe(utc, sample);
    utc->own.before = utc->own.now = utc->own.model;
}

/* `now`: the counter at which this is called, not before the sample's. 1 when it bent T. */
static int discipline(struct utc *utc, const struct anchor *sample, uint64_t now)
{
    struct view *own = &utc->own;
    int bent = own->updates > 0;
    if (!bent) {
        first(utc, sample);
    } else {
        if ((int64_t)(sample->counter - own->now.counter) < 0)
            return 0;
        take_in(utc, sample);
        bend(utc, now + (uint64_t)(((wide)UTC_LEAD_NS << SHIFT) / own->model.rate));
    }
    own->updates++;
    publish(utc);
    return bent;
}

void utc_sample(struct utc *utc, uint64_t counter, uint64_t utc_ns, uint64_t bracket_ns)
{
    struct anchor sample = { counter, utc_ns, bracket_ns / 2 + 1 };
    discipline(utc, &sample, counter);
}

void utc_jump(struct utc *utc) { utc->jump = 1; }

struct bracket { uint64_t low, high, ns; };

static uint64_t ordered_tsc(void)
{
    _mm_lfence();
    uint64_t counter = __rdtsc();
    _mm_lfence();
    return counter;
}

/* The tightest of TRIES. */
static int read_clock(struct bracket *best)
{
    *best = (struct bracket) { 0, UINT64_MAX, 0 };
    for (int i = 0; i < TRIES; i++) {
        struct timespec ts;
        uint64_t low = ordered_tsc();
        if (clock_gettime(CLOCK_REALTIME, &ts))
            return -errno;
        uint64_t high = ordered_tsc();
        if (high - low < best->high - best->low)
            *best = (struct bracket) { low, high, (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec };
    }
    return 0;
}

static struct anchor anchor_of(const struct bracket *b, uint64_t rate)
{
    uint64_t half = (b->high - b->low) / 2;
    return (struct anchor) { b->low + half, b->ns, (uint64_t)ticks_to_ns(half, rate) + 2 };
}

int utc_update(struct utc *utc)
{
    struct bracket bracket;
    int rc = read_clock(&bracket);
    if (rc < 0)
        return rc;
    struct anchor sample = anchor_of(&bracket, utc->own.model.rate);
    if (discipline(utc, &sample, ordered_tsc()) && (int64_t)(ordered_tsc() - utc->own.now.counter) >= 0)
        utc->own.late++;    /* seen with the next update */
    return 0;
}

static void start(struct utc *utc, uint64_t rate, uint64_t doubt_ppb)
{
    memset(utc, 0, sizeof *utc);
    utc->own.model.rate = utc->own.now.rate = utc->own.before.rate = utc->own.initial_rate = rate;
    utc->own.doubt_ppb = doubt_ppb;
    publish(utc);
}

void utc_init(struct utc *utc, uint64_t hz, uint64_t ppm)
{
    start(utc, (uint64_t)(((wide)SECOND_NS << SHIFT) / (hz ? hz : 1)), ppm * 1000);
}

int utc_calibrate(struct utc *utc)
{
    struct bracket a, b;
    struct timespec pause = { 0, (long)CALIBRATE_NS };
    int rc = read_clock(&a);
    if (rc < 0)
        return rc;
    nanosleep(&pause, NULL);
    rc = read_clock(&b);
    if (rc < 0)
        return rc;
    uint64_t ticks = b.low - a.low, ns = b.ns - a.ns;
    if (ticks == 0 || (int64_t)ns <= 0)     /* stepped back just now */
        return -EAGAIN;
    uint64_t rate = (uint64_t)(((wide)ns << SHIFT) / ticks);
    uint64_t doubt = ((a.high - a.low) + (b.high - b.low)) * (uint64_t)BILLION / ticks + 1;
    start(utc, rate, doubt);
    struct anchor samples[2] = { anchor_of(&a, rate), anchor_of(&b, rate) };
    discipline(utc, &samples[0], samples[0].counter);
    discipline(utc, &samples[1], ordered_tsc());
    return 0;
}

uint64_t utc_size(void) { return sizeof(struct utc); }

int utc_create(struct utc **utc)
{
    struct utc *made = aligned_alloc(_Alignof(struct utc), sizeof *made);
    if (made == NULL)
        return -ENOMEM;
    int rc = utc_calibrate(made);
    if (rc < 0)
        free(made);
    else
        *utc = made;
    return rc;
}

void utc_destroy(struct utc *utc) { free(utc); }
