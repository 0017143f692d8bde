#include "source/interface.h"
#include "event.h"
#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef SOL_XDP
#define SOL_XDP 283
#endif
#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

int interface_open(struct netdev *interface, const char *name)
{
    *interface = (struct netdev){ .fd = -1, .index = (int)if_nametoindex(name) };
    if (interface->index == 0)
        return -ENODEV;
    interface->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    return interface->fd < 0 ? -errno : 0;
}

void interface_close(struct netdev *interface)
{
    if (interface->fd >= 0)
        close(interface->fd);
    interface->fd = -1;
}

/* netdevice(7): an index without an interface is ENODEV, also when it moved to another namespace. */
int interface_link(const struct netdev *interface)
{
    struct ifreq request = { .ifr_ifindex = interface->index };
    if (interface->fd < 0)
        return LINK_STATE_UNKNOWN;
    if (ioctl(interface->fd, SIOCGIFNAME, &request) < 0 || ioctl(interface->fd, SIOCGIFFLAGS, &request) < 0)
        return errno == ENODEV ? LINK_STATE_GONE : LINK_STATE_UNKNOWN;
    int up = IFF_UP | IFF_RUNNING;
    return (request.ifr_flags & up) == up ? LINK_STATE_UP : LINK_STATE_DOWN;
}

/* packet(7): undone by the kernel when the socket closes, however the process ends. */
static int ask(const struct netdev *interface, const struct packet_mreq *mreq)
{
    return setsockopt(interface->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, mreq, sizeof *mreq) < 0 ? -errno : 0;
}

int interface_accept(const struct netdev *interface, int what)
{
    struct packet_mreq mreq = { .mr_ifindex = interface->index };
    mreq.mr_type = what == INTERFACE_PROMISCUOUS ? PACKET_MR_PROMISC : PACKET_MR_ALLMULTI;
    return ask(interface, &mreq);
}

int interface_join(const struct netdev *interface, const uint8_t *mac)
{
    struct packet_mreq mreq = { .mr_ifindex = interface->index, .mr_type = PACKET_MR_MULTICAST, .mr_alen = 6 };
    memcpy(mreq.mr_address, mac, 6);
    return ask(interface, &mreq);
}

/* ---- sockets ---- */

static void note(struct sockets *all, int fd)
{
    int domain = 0;
    socklen_t len = sizeof domain;
    struct stat status;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 || (domain != AF_PACKET && domain != AF_XDP)
        || fstat(fd, &status) < 0 || all->count == SOCKETS_MAX)
        return;
    all->fd[all->count] = fd;
    all->domain[all->count] = domain;
    all->inode[all->count++] = status.st_ino;
}

void sockets_find(struct sockets *all)
{
    DIR *open = opendir("/proc/self/fd");
    all->count = 0;
    if (open == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(open)) != NULL;)
        if (entry->d_name[0] != '.')
            note(all, atoi(entry->d_name));
    closedir(open);
}

static int has(const struct sockets *all, uint64_t inode)
{
    for (uint32_t i = 0; i < all->count; i++)
        if (all->inode[i] == inode)
            return 1;
    return 0;
}

static int bound_to(const struct sockets *all, uint32_t i, int index)
{
    struct sockaddr_ll at = { 0 };
    socklen_t len = sizeof at;
    return all->domain[i] != AF_PACKET
        || (getsockname(all->fd[i], (struct sockaddr *)&at, &len) == 0 && at.sll_ifindex == index);
}

void sockets_since(struct sockets *new, const struct sockets *before, const struct netdev *interface)
{
    struct sockets all;
    sockets_find(&all);
    new->count = 0;
    for (uint32_t i = 0; i < all.count && before->count < SOCKETS_MAX; i++)
        if (!has(before, all.inode[i]) && bound_to(&all, i, interface->index)) {
            new->inode[new->count] = all.inode[i];
            new->fd[new->count] = all.fd[i];
            new->domain[new->count++] = all.domain[i];
        }
}

/* The option saves the kernel a copy, but means nothing to a socket in a fanout group, which
 * net_af_packet's are; the filter works on every socket. */
void sockets_ignore_outgoing(const struct sockets *sockets)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog program = { sizeof code / sizeof *code, code };
    int on = 1;
    for (uint32_t i = 0; i < sockets->count; i++) {
        if (sockets->domain[i] != AF_PACKET)
            continue;
        setsockopt(sockets->fd[i], SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on);
        setsockopt(sockets->fd[i], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
    }
}

static int packet_drops(int fd, uint64_t *drops)
{
    struct tpacket_stats stats;
    socklen_t len = sizeof stats;
    if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len) < 0)
        return -errno;
    *drops = stats.tp_drops;
    return 0;
}

/* An empty fill ring shows in rx_dropped too, where the kernel copies: net/xdp/xsk.c. */
static int xdp_drops(int fd, uint64_t *drops)
{
    struct xdp_statistics stats = { 0 };
    socklen_t len = sizeof stats;
    if (getsockopt(fd, SOL_XDP, XDP_STATISTICS, &stats, &len) < 0)
        return -errno;
    *drops = stats.rx_dropped + stats.rx_ring_full;
    return 0;
}

int sockets_dropped(const struct sockets *sockets, uint64_t *taken, uint64_t *total)
{
    uint64_t packet = 0, xdp = 0, drops = 0;
    for (uint32_t i = 0; i < sockets->count; i++) {
        int is_packet = sockets->domain[i] == AF_PACKET;
        int rc = is_packet ? packet_drops(sockets->fd[i], &drops) : xdp_drops(sockets->fd[i], &drops);
        if (rc < 0)
            return rc;
        *(is_packet ? &packet : &xdp) += drops;
    }
    *total = __atomic_add_fetch(taken, packet, __ATOMIC_RELAXED) + xdp;
    return 0;
}

int sockets_zero_copy(const struct sockets *sockets)
{
    struct xdp_options options;
    socklen_t len = sizeof options;
    for (uint32_t i = 0; i < sockets->count; i++)
        if (sockets->domain[i] == AF_XDP
            && getsockopt(sockets->fd[i], SOL_XDP, XDP_OPTIONS, &options, &len) == 0)
            return (options.flags & XDP_OPTIONS_ZEROCOPY) != 0;
    return -1;
}
