#define ALLOW_EXPERIMENTAL_API     /* rte_eth_read_clock */
#include "dpdk/impl.h"
#include <errno.h>
#include <time.h>

/* A device that stamps frames counts ticks of its own clock. Two readings some time apart give its
 * rate; from then on a control thread samples it, and utc.c maps stamps to UTC. */

enum { TRIES = 8, MEASURE_NS = 20000000, RATE_PPM = 500 };

struct reading { uint64_t ticks, utc_ns, bracket_ns; };

static uint64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The best of a few: the host's clock before and after is the bracket. */
static int read_clocks(uint16_t id, struct reading *best)
{
    best->bracket_ns = UINT64_MAX;
    for (int i = 0; i < TRIES; i++) {
        uint64_t ticks, before = wall_ns();
        int rc = rte_eth_read_clock(id, &ticks);
        uint64_t after = wall_ns();
        if (rc < 0)
            return rc;
        if (after >= before && after - before < best->bracket_ns)
            *best = (struct reading){ ticks, before + (after - before) / 2, after - before };
    }
    return best->bracket_ns == UINT64_MAX ? -EAGAIN : 0;
}

static int measure(uint16_t id, uint64_t *hz, struct reading *now)
{
    const struct timespec pause = { .tv_nsec = MEASURE_NS };
    struct reading begun;
    int rc = read_clocks(id, &begun);
    if (rc < 0)
        return rc;
    nanosleep(&pause, NULL);
    if ((rc = read_clocks(id, now)) < 0)
        return rc;
    if (now->utc_ns <= begun.utc_ns || now->ticks <= begun.ticks)
        return -EIO;
    *hz = (uint64_t)((unsigned __int128)(now->ticks - begun.ticks) * 1000000000u
                     / (now->utc_ns - begun.utc_ns));
    return *hz > 0 ? 0 : -EIO;
}

static void use_clock(struct device *device, const struct utc *clock)
{
    for (unsigned i = 0; i < device->count; i++) {
        device->queues[i]->device_clock = clock;
        if (clock == NULL)
            device->queues[i]->stamp_mask = 0;
    }
}

void device_clock_open(struct device *device)
{
    struct reading now;
    uint64_t hz;
    if (!(device->offloads & RTE_ETH_RX_OFFLOAD_TIMESTAMP) || device->flags & PORT_STAMPS)
        return;
    if (measure(device->id, &hz, &now) == 0 && utc_create(&device->clock) == 0) {
        utc_init(device->clock, hz, RATE_PPM);
        utc_sample(device->clock, now.ticks, now.utc_ns, now.bracket_ns);
    }
    use_clock(device, device->clock);
}

int port_tick(struct source *source)
{
    struct device *device = ((struct port *)source)->device;
    struct reading now;
    if (device->clock == NULL)
        return 0;
    int rc = read_clocks(device->id, &now);
    if (rc == 0)
        utc_sample(device->clock, now.ticks, now.utc_ns, now.bracket_ns);
    return rc;
}
