/*
 * Faults of a network, at tc egress of the sender's end: drop, corrupt a byte, duplicate.
 *
 * Built with clang -target bpf; testbed/faults.py loads it and reads both maps. Rates are per
 * million frames, drawn from the kernel's random numbers; the counters tell what was done.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#define SECTION(name) __attribute__((section(name), used))
#define MAP(name, value_type)                 \
    struct {                                  \
        int (*type)[BPF_MAP_TYPE_ARRAY];      \
        __u32 *key;                           \
        value_type *value;                    \
        int (*max_entries)[1];                \
    } name SECTION(".maps")

struct rates {
    __u32 drop, corrupt, duplicate;
    __u32 corrupt_from; /* the first byte of the frame that may be hit */
    __u32 group;        /* of the IPv4 frames to strike, big-endian as on the wire; 0 is every */
};

struct counts {
    __u64 seen, dropped, corrupted, duplicated; /* frames of the group; a copy is not seen */
    __u64 failed;                               /* too short to corrupt, or a copy refused */
};

MAP(rates, struct rates);
MAP(counts, struct counts);

static void *(*lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static __u32 (*random)(void) = (void *)BPF_FUNC_get_prandom_u32;
static long (*store)(struct __sk_buff *, __u32 at, const void *, __u32 size, __u64 flags) =
    (void *)BPF_FUNC_skb_store_bytes;
static long (*load)(const void *, __u32 at, void *, __u32 size) = (void *)BPF_FUNC_skb_load_bytes;
static long (*clone)(struct __sk_buff *, __u32 ifindex, __u64 flags) =
    (void *)BPF_FUNC_clone_redirect;

enum { ETHERTYPE = 12, IP_DESTINATION = 30, COPY = 0x54455354, MILLION = 1000000 };

#define COUNT(what) __sync_fetch_and_add(&counted->what, 1)

static __attribute__((always_inline)) int strikes(__u32 rate) {
    return rate && random() % MILLION < rate;
}

static __attribute__((always_inline)) int wanted(struct __sk_buff *frame, __u32 group) {
    __u16 ethertype = 0;
    __u32 to = 0;
    if (!group)
        return 1;
    return !load(frame, ETHERTYPE, &ethertype, 2) && ethertype == __builtin_bswap16(0x0800) &&
           !load(frame, IP_DESTINATION, &to, 4) && to == group;
}

static __attribute__((always_inline)) long corrupt(struct __sk_buff *frame, __u32 from) {
    __u8 byte = 0;
    __u32 at;
    if (frame->len <= from)
        return -1;
    at = from + random() % (frame->len - from);
    if (load(frame, at, &byte, 1))
        return -1;
    byte ^= 1 << (random() & 7);
    return store(frame, at, &byte, 1, 0);
}

SECTION("tc") int faults(struct __sk_buff *frame) {
    __u32 zero = 0;
    struct rates *rate = lookup(&rates, &zero);
    struct counts *counted = lookup(&counts, &zero);
    if (!rate || !counted || frame->mark == COPY || !wanted(frame, rate->group)) {
        if (frame->mark == COPY)
            frame->mark = 0;
        return TC_ACT_OK;
    }
    COUNT(seen);
    if (strikes(rate->drop)) {
        COUNT(dropped);
        return TC_ACT_STOLEN; /* TC_ACT_SHOT would be told to the sender as ENOBUFS */
    }
    if (strikes(rate->duplicate)) {
        frame->mark = COPY; /* the copy comes by here again */
        if (clone(frame, frame->ifindex, 0))
            COUNT(failed);
        else
            COUNT(duplicated);
        frame->mark = 0;
    }
    if (strikes(rate->corrupt)) {
        if (corrupt(frame, rate->corrupt_from))
            COUNT(failed);
        else
            COUNT(corrupted);
    }
    return TC_ACT_OK;
}

char terms[] SECTION("license") = "Dual BSD/GPL";
