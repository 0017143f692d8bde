#include "port.h"
#include <errno.h>
#include <stdio.h>

/* Stands for port.c and eal.c in a build without DPDK. */

const char *port_dpdk_version(void) { return ""; }

int port_eal_init(int argc, char **argv)
{
    (void)argc, (void)argv;
    return -ENOSYS;
}

int port_open(const char *devargs, const char *name, unsigned mbufs, unsigned mbuf_size,
              unsigned descriptors, int flags, struct source **source, char *reason)
{
    (void)name, (void)mbufs, (void)mbuf_size, (void)descriptors, (void)flags;
    *source = NULL;
    snprintf(reason, 160, "%.100s: built without DPDK", devargs);
    return -ENOSYS;
}

int port_stats(struct source *source, struct port_stats *stats)
{
    (void)source, (void)stats;
    return -ENOSYS;
}
