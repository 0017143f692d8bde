#include "dpdk/port.h"
#include <errno.h>
#include <stdio.h>

/* Stands for port*.c and eal.c in a build without DPDK. */

const char *port_dpdk_version(void) { return ""; }

int port_eal_init(int argc, char **argv)
{
    (void)argc, (void)argv;
    return -ENOSYS;
}

int port_open(const struct port_config *config, struct source **sources, char *reason)
{
    (void)sources;
    snprintf(reason, 160, "%.100s: built without DPDK", config->devargs);
    return -ENOSYS;
}

int port_stats(struct source *source, struct source_stats *stats)
{
    (void)source, (void)stats;
    return -ENOSYS;
}

int port_mbufs(struct source *source)
{
    (void)source;
    return 0;
}

int port_known(struct source *source, struct source_told *known)
{
    (void)source, (void)known;
    return -ENOSYS;
}

int port_link(struct source *source)
{
    (void)source;
    return LINK_STATE_UNKNOWN;
}

int port_tick(struct source *source)
{
    (void)source;
    return -ENOSYS;
}

int port_steer(struct source *source, const struct address *address, char *reason)
{
    (void)source, (void)address;
    snprintf(reason, 160, "built without DPDK");
    return -ENOSYS;
}

int port_groups(struct source *source, const uint8_t *macs, uint32_t count, char *reason)
{
    (void)source, (void)macs, (void)count;
    snprintf(reason, 160, "built without DPDK");
    return -ENOSYS;
}

int port_hold(struct source *source, uint32_t count)
{
    (void)source, (void)count;
    return -ENOSYS;
}

int port_poll(struct source *source, int max)
{
    (void)source, (void)max;
    return -ENOSYS;
}

int port_thread_begin(void) { return 0; }
void port_thread_end(void) {}
