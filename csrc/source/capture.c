#include "source/capture.h"
#include "source/pcapng.h"
#include <stdio.h>
#include <stdlib.h>

/* One walk per format over one window of bytes. The window is the file itself, mapped, or
 * the buffer that gzip and zstd are streamed into, so neither walk knows which. A record is
 * checked whole before its view is handed out, and only then is it passed: a burst that
 * meets a break returns the frames before it, the next burst meets it again and reports it.
 *
 * A captured length above the file's snap length (or above CAPLEN_MAX, where that says
 * nothing) is a break: the length is the only way to the next record, and what a wrong one
 * leads to looks like frames. */

enum {
    PCAP_FILE_HEADER = 24,      /* draft-ietf-opsawg-pcap, section 4 */
    PCAP_RECORD_HEADER = 16,    /* section 5 */
    PCAP_MAGIC_US = 0xa1b2c3d4,
    PCAP_MAGIC_NS = 0xa1b23c4d,
    PCAPNG_MAGIC = 0x0a0d0d0a,
    BLOCKS_PER_BURST = 4 * BURST_MAX,   /* so that a burst ends even in a file of blocks */
    NAME_MAX_SHOWN = 80,
};

struct capture {
    struct source source;       /* first: a source of this kind is a capture */
    struct capture_info info;
    struct window window;
    int swap;
    uint32_t ns_per_fraction;
    uint32_t caplen_max;
    struct pcapng ng;
};

/* The only loop over a burst's frames besides the walk itself. */
static void account(struct capture_info *info, const struct packet *packets, int n)
{
    if (info->frames == 0)
        info->ts_first = info->ts_last = packets[0].ts_recv;
    uint64_t last = info->ts_last;
    for (int i = 0; i < n; i++) {
        info->ts_regress += packets[i].ts_recv < last;
        last = packets[i].ts_recv;
    }
    info->ts_last = last;
    info->frames += (uint64_t)n;
}

/* A burst's return value: its frames if there are any, else why there are none. */
static int finish(struct capture *c, const struct packet *packets, int n, int rc)
{
    c->info.offset = c->ng.skip != 0 ? c->ng.skip_start : window_offset(&c->window);
    if (n > 0) {
        account(&c->info, packets, n);
        return n;
    }
    if (rc >= 0 || rc == -EAGAIN)
        return 0;
    if (rc != -ENODATA)
        c->info.error = rc;
    return rc;
}

/* The record at `at`, with `left` bytes from there on; 1, or as in walk.h. */
static inline int pcap_record(struct capture *c, const uint8_t *at, size_t left,
                              struct packet *packet)
{
    if (left < PCAP_RECORD_HEADER)
        return walk_short(&c->info, &c->window, window_offset(&c->window), "record header");
    uint32_t caplen = load32(at + 8, c->swap), wirelen = load32(at + 12, c->swap);
    if (caplen > c->caplen_max)
        return walk_broken(&c->info,
                           "record at offset %lu: captured length %u is above the limit of %u",
                           window_offset(&c->window), caplen, c->caplen_max);
    if (left - PCAP_RECORD_HEADER < caplen)
        return walk_short(&c->info, &c->window, window_offset(&c->window), "record");
    walk_prefetch(at, PCAP_RECORD_HEADER + caplen);
    *packet = (struct packet){
        .data = at + PCAP_RECORD_HEADER,
        .ts_recv = load32(at, c->swap) * 1000000000ull
            + (uint64_t)load32(at + 4, c->swap) * c->ns_per_fraction,
        .caplen = caplen, .wirelen = wirelen > caplen ? wirelen : caplen,
        .link = (uint16_t)c->info.link,
    };
    return 1;
}

static int pcap_burst(struct source *source, struct packet *packets, int max)
{
    struct capture *c = (struct capture *)source;
    int n = 0, rc = 0;
    window_advance(&c->window);
    while (n < max && (rc = pcap_record(c, c->window.at, window_left(&c->window), &packets[n])) > 0)
        c->window.at += PCAP_RECORD_HEADER + packets[n++].caplen;
    return finish(c, packets, n, rc);
}

static int pcapng_burst(struct source *source, struct packet *packets, int max)
{
    struct capture *c = (struct capture *)source;
    int n = 0, rc = 0;
    window_advance(&c->window);
    for (int block = 0; n < max && block < BLOCKS_PER_BURST; block++) {
        rc = pcapng_next(&c->ng, &c->window, &c->info, &packets[n]);
        if (rc < 0)
            break;
        n += rc;
    }
    return finish(c, packets, n, rc);
}

/* The link type is the low 16 bits; above it are reserved bits and, at the top, whether and
 * how long an FCS follows each frame, which the IP length already tells apart. */
static int pcap_open(struct capture *c, int ns)
{
    struct window *w = &c->window;
    if (window_left(w) < PCAP_FILE_HEADER)
        return walk_short(&c->info, w, 0, "file header");
    unsigned major = load16(w->at + 4, c->swap), minor = load16(w->at + 6, c->swap);
    if (major != 2 || minor != 4)
        return walk_broken(&c->info, "pcap version %u.%u is not supported", major, minor);
    c->source.burst = pcap_burst;
    c->caplen_max = caplen_limit(load32(w->at + 16, c->swap));
    c->ns_per_fraction = ns ? 1 : 1000;
    c->info.precision_ns = ns ? 1 : 1000;
    c->info.link = load32(w->at + 20, c->swap) & 0xffff;
    strcpy(c->info.format, "pcap");
    w->at += PCAP_FILE_HEADER;
    return 0;
}

static int pcapng_open(struct capture *c)
{
    struct packet none;
    c->source.burst = pcapng_burst;
    strcpy(c->info.format, "pcapng");
    return pcapng_next(&c->ng, &c->window, &c->info, &none);    /* the section header */
}

static int format_open(struct capture *c)
{
    if (window_left(&c->window) < 4)
        return walk_short(&c->info, &c->window, 0, "file header");
    uint32_t magic = load32(c->window.at, 0);
    if (magic == PCAPNG_MAGIC)
        return pcapng_open(c);
    uint32_t other = __builtin_bswap32(magic);
    c->swap = other == PCAP_MAGIC_US || other == PCAP_MAGIC_NS;
    magic = load32(c->window.at, c->swap);
    if (magic != PCAP_MAGIC_US && magic != PCAP_MAGIC_NS)
        return walk_broken(&c->info, "neither pcap nor pcapng (magic %08x)", magic);
    return pcap_open(c, magic == PCAP_MAGIC_NS);
}

static void capture_close(struct source *source)
{
    window_close(&((struct capture *)source)->window);
    free(source);
}

static int capture_stats(struct source *source, struct source_stats *stats)
{
    *stats = (struct source_stats){
        .received = ((struct capture *)source)->info.frames, .oversize = UINT64_MAX,
    };
    return 0;
}

static int capture_told(struct source *source, struct source_told *told)
{
    (void)source;
    told->clock = SOURCE_CLOCK_CAPTURE;
    told->losses = SOURCE_LOSSES_FILE;
    return 0;
}

static const char *capture_problem(struct source *source)
{
    return ((struct capture *)source)->info.reason;
}

static const struct source_ops ops = {
    .close = capture_close, .stats = capture_stats, .told = capture_told, .problem = capture_problem,
};

/* "<path>: <what>", a long path shown by its end. */
static void say(char *reason, const char *path, const char *what)
{
    size_t length = strlen(path);
    int long_path = length > NAME_MAX_SHOWN;
    snprintf(reason, REASON_SIZE, "%s%s: %s", long_path ? "..." : "",
             long_path ? path + length - NAME_MAX_SHOWN : path, what);
}

int capture_open(const char *path, struct source **source, char *reason)
{
    const char *why = NULL;
    struct capture *c = calloc(1, sizeof(*c));
    *source = NULL;
    if (c == NULL) {
        say(reason, path, strerror(ENOMEM));
        return -ENOMEM;
    }
    c->source.ops = &ops;
    c->info.link = -1;
    int rc = window_open(&c->window, path, &why);
    if (rc == 0 && (rc = format_open(c)) < 0)
        why = rc == -ENODATA ? "the compressed file is empty inside" : c->info.reason;
    if (rc < 0) {
        say(reason, path, why != NULL ? why : strerror(-rc));
        capture_close(&c->source);
        return rc == -ENODATA ? -EBADMSG : rc;
    }
    c->info.offset = window_offset(&c->window);
    *source = &c->source;
    return 0;
}

const struct capture_info *capture_info(struct source *source)
{
    return source->ops == &ops ? &((struct capture *)source)->info : NULL;
}
