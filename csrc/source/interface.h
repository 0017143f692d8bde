#pragma once
#include <stdint.h>

/* A kernel interface beside the driver that reads from it. For C only; makes system calls. */

struct netdev {
    int fd;         /* a packet socket that hears nothing: what it asks of the interface ends with it */
    int index;
};

enum { INTERFACE_PROMISCUOUS, INTERFACE_ALL_MULTICAST };

/* Both: 0 or a negative errno. The interface is known by its index from here on: another one
 * that takes its name later is another interface. Needs CAP_NET_RAW. */
int interface_open(struct netdev *interface, const char *name);
void interface_close(struct netdev *interface);
int interface_link(const struct netdev *interface);     /* enum link_state */
int interface_accept(const struct netdev *interface, int what);
int interface_join(const struct netdev *interface, const uint8_t *mac);

/* ---- the sockets that a driver opened: they are this process's ---- */

enum { SOCKETS_MAX = 64 };

struct sockets {
    uint64_t inode[SOCKETS_MAX];
    int fd[SOCKETS_MAX];
    int domain[SOCKETS_MAX];    /* AF_PACKET or AF_XDP */
    uint32_t count;
};

void sockets_find(struct sockets *all);     /* those now open */
/* Those opened since: of packet sockets only the ones bound to this interface. */
void sockets_since(struct sockets *new, const struct sockets *before, const struct netdev *interface);
void sockets_ignore_outgoing(const struct sockets *sockets);    /* what this host sends itself */
/* Frames that found no room since the last call: the kernel counts from 0 again for AF_PACKET,
 * and adds up for AF_XDP; `total` gets the sum of all calls. 0 or a negative errno. */
int sockets_dropped(const struct sockets *sockets, uint64_t *taken, uint64_t *total);
int sockets_zero_copy(const struct sockets *sockets);   /* of AF_XDP: 0, 1; -1 no such socket */
