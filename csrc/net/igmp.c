/* Host side of IGMPv3 (RFC 3376), and of v2 (RFC 2236) and v1 (RFC 1112) while an older querier is
 * there. All groups are joined for any source, so a group's filter is EXCLUDE {} or it isn't there.
 *
 * Two timers a group. `change_due`: what was joined or left is said `robustness` times, at random
 * intervals (RFC 3376 5.1). `query_due`: a query about the group waits for its random moment (5.2).
 * In version 3 a general query has one timer for all groups; in versions 1 and 2 it sets each
 * group's own. A change of version cancels what is pending (7.2.1), except the first word about a
 * change, which would else never be said.
 *
 * Pending answers remember the tag they were asked with. Where a group is asked about on several
 * VLANs at a time, our own goes first and never gives way.
 *
 * Reports of other hosts do not silence ours (RFC 2236 3 would have that): switches that snoop
 * don't forward them (RFC 4541 2.1.1), and a forged one would cut the feed.
 * Queries are accepted without the router alert option, which not all snooping queriers set. */

#include "net/igmp.h"
#include "base/checksum.h"
#include "wire/read.h"
#include <errno.h>

enum type { QUERY = 0x11, REPORT_V1 = 0x12, REPORT_V2 = 0x16, LEAVE_V2 = 0x17, REPORT_V3 = 0x22 };
/* RFC 3376 4.2.12 */
enum record_type { IS_INCLUDE = 1, IS_EXCLUDE = 2, TO_INCLUDE = 3, TO_EXCLUDE = 4 };

struct query {                  /* RFC 3376 4.1; the first 8 bytes are all of version 1 and 2 */
    uint8_t type, code;
    be16 checksum;
    uint8_t group[4], flags, interval;
    be16 sources;
};
struct record { uint8_t type, aux_len; be16 sources; uint32_t group_be; };
struct report { uint8_t type, zero; be16 checksum, zeros, records; };
struct message_v2 { uint8_t type, zero; be16 checksum; uint32_t group_be; };
_Static_assert(sizeof(struct query) == 12 && sizeof(struct record) == 8, "RFC 3376");
_Static_assert(sizeof(struct report) == 8 && sizeof(struct message_v2) == 8, "RFC 3376, RFC 2236");
_Static_assert(sizeof(struct report) + IGMP_GROUPS_MAX * sizeof(struct record) <= IGMP_MESSAGE_MAX,
    "all groups fit one report");

#define SECOND 1000000000ull
#define NEVER UINT64_MAX
enum { ROBUSTNESS = 2 };        /* RFC 3376 8.1 */
static const uint64_t INTERVAL = 125 * SECOND, RESPONSE = 10 * SECOND;      /* 8.2, 8.3 */
static const uint64_t UNSOLICITED = SECOND, UNSOLICITED_V2 = 10 * SECOND;   /* 8.11; RFC 2236 8.10 */

static uint32_t address(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    uint8_t byte[4] = { a, b, c, d };
    uint32_t be;
    memcpy(&be, byte, 4);
    return be;
}

static be16 to_be16(uint32_t v) { return (be16) { { (uint8_t)(v >> 8), (uint8_t)v } }; }

static uint64_t min(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Somewhere in (0, max] from now: splitmix64. */
static uint64_t soon(struct igmp *igmp, uint64_t now, uint64_t max)
{
    uint64_t z = igmp->random += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return max == 0 ? now : now + 1 + (z ^ z >> 31) % max;
}

/* ---- groups ---- */

static void forget(struct igmp_member *m)
{
    *m = (struct igmp_member) { .change_due = NEVER, .query_due = NEVER };
}

static int joined(const struct igmp_member *m) { return m->group_be != 0 && !m->leaving; }

static struct igmp_member *find(struct igmp *igmp, uint32_t group_be)
{
    for (int i = 0; i < IGMP_GROUPS_MAX; i++)
        if (igmp->member[i].group_be == group_be)
            return &igmp->member[i];
    return NULL;
}

static void changed(struct igmp *igmp, struct igmp_member *m, int leaving)
{
    uint32_t group_be = m->group_be;
    forget(m);
    m->group_be = group_be;
    m->leaving = (uint16_t)leaving;
    m->unsent = igmp->robustness;
    m->change_due = 0;
}

int igmp_join(struct igmp *igmp, uint32_t group_be)
{
    uint8_t first = (uint8_t)group_be;
    if (first >> 4 != 14 || group_be == address(224, 0, 0, 1) || group_be == address(224, 0, 0, 0))
        return -EINVAL;     /* 224.0.0.1 is never reported (RFC 3376 5) */
    struct igmp_member *m = find(igmp, group_be);
    if (m != NULL && joined(m))
        return 0;
    if (m == NULL && (m = find(igmp, 0)) == NULL)
        return -ENOSPC;
    m->group_be = group_be;
    changed(igmp, m, 0);
    return 0;
}

int igmp_leave(struct igmp *igmp, uint32_t group_be)
{
    struct igmp_member *m = group_be ? find(igmp, group_be) : NULL;
    if (m == NULL || !joined(m))
        return -ENOENT;
    changed(igmp, m, 1);
    return 0;
}

void igmp_init(struct igmp *igmp, uint32_t own_tag, uint64_t seed, uint64_t refresh_ns)
{
    *igmp = (struct igmp) {
        .general_due = NEVER, .own_tag = own_tag, .random = seed, .refresh_ns = refresh_ns,
        .interval_ns = INTERVAL, .robustness = ROBUSTNESS, .version = 3,
    };
    for (int i = 0; i < IGMP_GROUPS_MAX; i++)
        forget(&igmp->member[i]);
}

/* ---- versions ---- */

int igmp_version(struct igmp *igmp, uint64_t now)
{
    int version = now < igmp->v1_until ? 1 : now < igmp->v2_until ? 2 : 3;
    if (version == igmp->version)
        return version;
    igmp->version = version;
    igmp->general_due = NEVER;
    for (int i = 0; i < IGMP_GROUPS_MAX; i++) {
        struct igmp_member *m = &igmp->member[i];
        m->query_due = NEVER;
        if (m->sent == 0)
            continue;
        m->unsent = 0;
        m->change_due = NEVER;
        if (m->leaving)
            forget(m);
    }
    return version;
}

/* Max Resp Code and QQIC: a small number, or a float of 3 bits exponent and 4 bits mantissa (4.1.1). */
static uint64_t float_code(uint8_t code)
{
    return code < 128 ? code : (uint64_t)((code & 15) | 16) << ((code >> 4 & 7) + 3);
}

/* ---- queries ---- */

/* Whether an answer due then replaces one that is pending. */
static int sooner(const struct igmp *igmp, uint64_t due, uint32_t tag, uint64_t pending, uint32_t pending_tag)
{
    if (pending == NEVER)
        return 1;
    return tag == pending_tag ? due < pending : tag == igmp->own_tag;
}

static void set_query(struct igmp *igmp, struct igmp_member *m, uint64_t due, uint32_t tag)
{
    if (!sooner(igmp, due, tag, m->query_due, m->query_tag))
        return;
    m->query_due = due;
    m->query_tag = tag;
}

/* RFC 3376 5.2, rules 3 to 5: what is pending for sources only grows, up to the whole group. */
static void add_sources(struct igmp_member *m, const uint8_t *at, uint32_t n)
{
    int all = m->query_due != NEVER && m->sources == 0;
    if (m->query_due == NEVER)
        m->sources = 0;
    for (; n && !all; n--, at += 4) {
        uint32_t i = 0, source;
        memcpy(&source, at, 4);
        while (i < m->sources && m->source_be[i] != source)
            i++;
        all = i == IGMP_SOURCES;
        if (i == m->sources && !all)
            m->source_be[m->sources++] = source;
    }
    if (all)
        m->sources = 0;
}

static void ask_group(struct igmp *igmp, struct igmp_member *m, const uint8_t *sources, uint32_t n,
    uint64_t due, uint32_t tag)
{
    if (tag == igmp->general_tag && igmp->general_due <= due)
        return;         /* rule 1 */
    if (m->query_due != NEVER && m->query_tag != tag) {
        if (tag != igmp->own_tag)
            return;
        m->query_due = NEVER;
    }
    if (n == 0)
        m->sources = 0;
    else
        add_sources(m, sources, n);
    set_query(igmp, m, due, tag);
}

static void ask_all(struct igmp *igmp, int version, uint64_t now, uint64_t max, uint32_t tag)
{
    uint64_t due = soon(igmp, now, max);
    if (version == 3 && sooner(igmp, due, tag, igmp->general_due, igmp->general_tag)) {
        igmp->general_due = due;
        igmp->general_tag = tag;
    }
    for (int i = 0; i < IGMP_GROUPS_MAX && version < 3; i++)
        if (joined(&igmp->member[i]))
            set_query(igmp, &igmp->member[i], soon(igmp, now, max), tag);
}

/* RFC 3376 7.1: the version of a query is told by its length, and by the code; 7.2.1: which of them
 * make a host fall back. Returns the time to answer in. */
static uint64_t note_querier(struct igmp *igmp, const struct query *q, uint32_t len, int general, uint64_t now)
{
    if (len >= sizeof *q) {
        if (q->flags & 7)
            igmp->robustness = q->flags & 7;
        igmp->interval_ns = q->interval ? float_code(q->interval) * SECOND : INTERVAL;
        return float_code(q->code) * (SECOND / 10);
    }
    uint64_t max = q->code ? q->code * (SECOND / 10) : RESPONSE;
    uint64_t until = now + igmp->robustness * igmp->interval_ns + max;      /* 8.12 */
    if (q->code == 0)
        igmp->v1_until = until;
    else if (general)
        igmp->v2_until = until;
    return max;
}

int igmp_receive(struct igmp *igmp, const uint8_t *message, uint32_t len, uint32_t dst_be,
    uint32_t own_be, uint32_t tag, uint64_t now)
{
    const struct query *q = (const void *)message;
    uint32_t group_be, sources = 0;
    if (q->type != QUERY)
        return 0;
    if (len > 8) {
        if (len < sizeof *q)
            return -EBADMSG;
        sources = rd_be16(q->sources);
        if (sources > (len - sizeof *q) / 4)
            return -EBADMSG;
    }
    memcpy(&group_be, q->group, 4);
    if (group_be != 0 && q->group[0] >> 4 != 14)
        return -EBADMSG;
    /* 9.1: a general query is for all hosts; 4.1.12: others may be to any address of ours. */
    if (dst_be != address(224, 0, 0, 1) && (group_be == 0 || (dst_be != group_be && dst_be != own_be)))
        return 0;
    uint64_t max = note_querier(igmp, q, len, group_be == 0, now);
    int version = igmp_version(igmp, now);
    struct igmp_member *m = group_be ? find(igmp, group_be) : NULL;
    if (group_be == 0)
        ask_all(igmp, version, now, max, tag);
    else if (m != NULL && joined(m))
        ask_group(igmp, m, sources ? message + sizeof *q : NULL, sources, soon(igmp, now, max), tag);
    return 1;
}

/* ---- messages ---- */

static void finish(struct igmp_message *out)
{
    uint16_t sum = (uint16_t)~checksum_fold(checksum_add(0, out->byte, out->len));
    memcpy(out->byte + 2, &sum, 2);
}

static void begin_report(struct igmp_message *out, uint32_t tag)
{
    struct report report = { .type = REPORT_V3 };
    memcpy(out->byte, &report, sizeof report);
    out->len = sizeof report;
    out->dst_be = address(224, 0, 0, 22);
    out->tag = tag;
}

/* 0 when it does not fit. */
static int add_record(struct igmp_message *out, const struct igmp_member *m, int type, uint32_t sources)
{
    struct record record = { .type = (uint8_t)type, .sources = to_be16(sources), .group_be = m->group_be };
    uint8_t *count = out->byte + offsetof(struct report, records);
    if (out->len + sizeof record + 4 * sources > IGMP_MESSAGE_MAX)
        return 0;
    memcpy(out->byte + out->len, &record, sizeof record);
    memcpy(out->byte + out->len + sizeof record, m->source_be, 4 * sources);
    out->len += (uint32_t)sizeof record + 4 * sources;
    count[1]++;         /* at most IGMP_GROUPS_MAX */
    return 1;
}

/* The change was said once more. */
static void said(struct igmp *igmp, struct igmp_member *m, uint64_t now, uint64_t interval)
{
    m->sent = 1;
    m->change_due = --m->unsent ? soon(igmp, now, interval) : NEVER;
    if (m->leaving && m->unsent == 0)
        forget(m);
}

static void changes_v3(struct igmp *igmp, uint64_t now, struct igmp_message *out)
{
    begin_report(out, igmp->own_tag);
    for (struct igmp_member *m = igmp->member; m < igmp->member + IGMP_GROUPS_MAX; m++) {
        if (m->change_due > now || m->group_be == 0)
            continue;
        add_record(out, m, m->leaving ? TO_INCLUDE : TO_EXCLUDE, 0);
        out->leave |= m->leaving;
        said(igmp, m, now, UNSOLICITED);
    }
}

static void general_v3(struct igmp *igmp, struct igmp_message *out)
{
    begin_report(out, igmp->general_tag);
    for (struct igmp_member *m = igmp->member; m < igmp->member + IGMP_GROUPS_MAX; m++)
        if (joined(m))
            add_record(out, m, IS_EXCLUDE, 0);
    igmp->general_due = NEVER;
}

/* Groups that were asked about with the same tag go together. EXCLUDE {} answers a question about
 * sources with the whole of them (5.2). */
static void groups_v3(struct igmp *igmp, uint64_t now, struct igmp_message *out)
{
    out->len = 0;
    for (struct igmp_member *m = igmp->member; m < igmp->member + IGMP_GROUPS_MAX; m++) {
        if (m->query_due > now)
            continue;
        if (out->len == 0)
            begin_report(out, m->query_tag);
        if (out->tag != m->query_tag || !add_record(out, m, m->sources ? IS_INCLUDE : IS_EXCLUDE, m->sources))
            continue;
        m->query_due = NEVER;
        m->sources = 0;
    }
}

static void next_v3(struct igmp *igmp, uint64_t now, struct igmp_message *out)
{
    changes_v3(igmp, now, out);
    if (out->len == sizeof(struct report) && igmp->general_due <= now)
        general_v3(igmp, out);
    if (out->len == sizeof(struct report))      /* still without a record */
        groups_v3(igmp, now, out);
}

static void message_v2(struct igmp_message *out, int type, uint32_t group_be, uint32_t tag)
{
    struct message_v2 message = { .type = (uint8_t)type, .group_be = group_be };
    memcpy(out->byte, &message, sizeof message);
    out->len = sizeof message;
    out->leave = type == LEAVE_V2;
    out->dst_be = out->leave ? address(224, 0, 0, 2) : group_be;
    out->tag = tag;
}

/* Version 1 leaves without a word, version 2 says it once (RFC 2236 3). */
static void leave_v2(struct igmp *igmp, struct igmp_member *m, struct igmp_message *out)
{
    if (igmp->version == 2)
        message_v2(out, LEAVE_V2, m->group_be, igmp->own_tag);
    forget(m);
}

static void next_v2(struct igmp *igmp, uint64_t now, struct igmp_message *out)
{
    int type = igmp->version == 1 ? REPORT_V1 : REPORT_V2;
    for (struct igmp_member *m = igmp->member; m < igmp->member + IGMP_GROUPS_MAX && !out->len; m++) {
        if (m->group_be && m->change_due <= now && m->leaving) {
            leave_v2(igmp, m, out);
        } else if (m->group_be && m->change_due <= now) {
            message_v2(out, type, m->group_be, igmp->own_tag);
            said(igmp, m, now, UNSOLICITED_V2);
        } else if (m->query_due <= now) {
            message_v2(out, type, m->group_be, m->query_tag);
            m->query_due = NEVER;
        }
    }
}

static void refresh(struct igmp *igmp, uint64_t now)
{
    if (igmp->refresh_ns == 0)
        return;
    if (igmp->refresh_due != 0 && igmp->refresh_due <= now)
        ask_all(igmp, igmp->version, now, 0, igmp->own_tag);
    if (igmp->refresh_due <= now)
        igmp->refresh_due = now + igmp->refresh_ns;
}

void igmp_next(struct igmp *igmp, uint64_t now, struct igmp_message *out)
{
    int version = igmp_version(igmp, now);
    out->len = 0;
    out->leave = 0;
    refresh(igmp, now);
    if (version == 3)
        next_v3(igmp, now, out);
    else
        next_v2(igmp, now, out);
    if (out->len)
        finish(out);
}

uint64_t igmp_due(const struct igmp *igmp)
{
    uint64_t due = min(igmp->general_due, igmp->refresh_ns ? igmp->refresh_due : NEVER);
    for (int i = 0; i < IGMP_GROUPS_MAX; i++)
        due = min(due, min(igmp->member[i].change_due, igmp->member[i].query_due));
    return due;
}
