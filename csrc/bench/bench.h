#pragma once
#include "arbiter/arbiter.h"
#include "book/book.h"
#include "net/frame.h"
#include "ring/ring.h"
#include "source/source.h"

/* Loops that `pydpdk bench` times from Python: what this host can do at best, and the parts of
 * the core one by one. Nothing of the product calls these. */

const char *bench_compiler(void);       /* that built this extension and the core */
const char *bench_flags(void);

/* ---- floors ---- */
uint64_t bench_sum(const uint8_t *bytes, uint64_t len);     /* reads all, prefetched as the walk is */
/* Reads one word of the link, IP, UDP and session header of each frame of plain Ethernet. */
uint64_t bench_touch(const struct packet *packets, uint64_t count);
/* A 64-byte store for each message, with its time and order reference read by overlay. */
uint64_t bench_overlay(const struct message *messages, uint64_t count, struct event *out, uint64_t out_mask);
/* Follows `steps` links; line i holds the index of the next in its first word. */
uint64_t bench_chase(const uint64_t *lines, uint64_t steps);
/* The same lines, but which comes next is known beforehand: loads overlap. */
uint64_t bench_gather(const uint64_t *lines, const uint32_t *order, uint64_t steps);
/* 64 bytes in and out of each of `mask` + 1 slots in turn. */
uint64_t bench_copy(struct event *slots, uint64_t mask, uint64_t count);

uint64_t bench_ticks(uint64_t reads);       /* reads the cycle counter so often */

/* ---- parts ---- */
uint64_t bench_walk(struct source *source, int burst);      /* to its end; frames */
/* The first `max` packets; their bytes must outlive the source's bursts (a plain capture's do). */
uint64_t bench_collect(struct source *source, struct packet *packets, uint64_t max);
uint64_t bench_frame(const struct packet *packets, uint64_t count, int policy);     /* datagrams */
/* Frame and session header of each; messages declared. */
uint64_t bench_session(const struct packet *packets, uint64_t count);
/* The same, then the arbiter. line_b: destination of line B, 4 bytes. Messages delivered. */
uint64_t bench_arbiter(const struct packet *packets, uint64_t count, const struct arbiter_config *config,
                       const uint8_t *line_b);
/* Splits tapped messages (feed.h); returns how many, at most `max`. */
uint64_t bench_messages(const uint8_t *tapped, uint64_t len, struct message *messages, uint64_t max);
/* Applies ITCH 5.0 order messages to the books, no events. Operations that were refused. With
 * `queue`, each add also asks for its place in the queue, as a strategy would of its own. */
uint64_t bench_books(struct books *books, const struct message *messages, uint64_t count, int queue);
/* `count` records through a ring on one thread, `batch` at a time; those read. */
uint64_t bench_ring(struct ring *writer, struct ring *reader, uint64_t count, uint64_t batch);

/* ---- between two cores ----
 * ns of each of `count` round trips. bench_ping and bench_echo bounce one word; bench_hop puts a
 * record and waits until `answer` is its number, with a rest before each in which the reader gets
 * back to its poll. They give up (returning the trips made) when nothing comes for a second. */
uint64_t bench_ping(uint64_t *word, uint64_t count, uint64_t *ns);
uint64_t bench_echo(uint64_t *word, uint64_t count);
uint64_t bench_hop(struct ring *ring, const uint64_t *answer, uint64_t count, uint64_t *ns);

/* For pcap_loop() of libpcap: (user, header, bytes). Counts in the word at `user`. */
void bench_on_pcap(uint8_t *user, const void *header, const uint8_t *bytes);
