#include "dpdk/eal.h"
#include "dpdk/impl.h"
#include <errno.h>
#include <rte_errno.h>
#include <rte_flow.h>
#include <stdio.h>
#include <string.h>

/* Which frames a device lets in, and to which queue. A refusal is an answer, not a failure: the
 * core looks at addresses itself, whatever a device does beforehand. */

/* --- steering: eth / ipv4 or ipv6 to the group / udp to the port -> queue --- */

struct rule {
    struct rte_flow_item_ipv4 ip4, ip4_mask;
    struct rte_flow_item_ipv6 ip6, ip6_mask;
    struct rte_flow_item_udp udp, udp_mask;
    struct rte_flow_action_queue queue;
    struct rte_flow_item pattern[4];
    struct rte_flow_action actions[2];
};

static void match_address(struct rule *rule, const struct address *address)
{
    if (address->len == 4) {
        memcpy(&rule->ip4.hdr.dst_addr, address->bytes, 4);
        memset(&rule->ip4_mask.hdr.dst_addr, 0xff, 4);
        rule->pattern[1] = (struct rte_flow_item){ .type = RTE_FLOW_ITEM_TYPE_IPV4, .spec = &rule->ip4,
                                                   .mask = &rule->ip4_mask };
    } else { /* 16 bytes; from DPDK 24.11 on a struct rte_ipv6_addr around them */
        memcpy(&rule->ip6.hdr.dst_addr, address->bytes, 16);
        memset(&rule->ip6_mask.hdr.dst_addr, 0xff, 16);
        rule->pattern[1] = (struct rte_flow_item){ .type = RTE_FLOW_ITEM_TYPE_IPV6, .spec = &rule->ip6,
                                                   .mask = &rule->ip6_mask };
    }
}

static void make_rule(struct rule *rule, const struct port *port, const struct address *address)
{
    *rule = (struct rule){ .queue.index = port->queue };
    rule->pattern[0].type = RTE_FLOW_ITEM_TYPE_ETH;
    match_address(rule, address);
    rule->udp.hdr.dst_port = rte_cpu_to_be_16(address->port);
    rule->udp_mask.hdr.dst_port = address->port != 0 ? 0xffff : 0;
    rule->pattern[2] = (struct rte_flow_item){ .type = RTE_FLOW_ITEM_TYPE_UDP, .spec = &rule->udp,
                                               .mask = &rule->udp_mask };
    rule->pattern[3].type = RTE_FLOW_ITEM_TYPE_END;
    rule->actions[0] = (struct rte_flow_action){ .type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &rule->queue };
    rule->actions[1].type = RTE_FLOW_ACTION_TYPE_END;
}

/* rte_flow_create() gives a rule or rte_errno; the rules go with the device. */
static int create_rule(uint16_t id, const struct rule *rule, struct rte_flow_error *error)
{
    const struct rte_flow_attr attr = { .ingress = 1 };
    int rc = rte_flow_validate(id, &attr, rule->pattern, rule->actions, error);
    if (rc == 0 && rte_flow_create(id, &attr, rule->pattern, rule->actions, error) == NULL)
        rc = rte_errno > 0 ? -rte_errno : -EIO;
    return rc;
}

int port_steer(struct source *source, const struct address *address, char *reason)
{
    struct port *port = (struct port *)source;
    struct rte_flow_error error = { 0 };
    struct rule rule;
    char log[REASON_SIZE] = "";
    if (address->len != 4 && address->len != 16) {
        snprintf(reason, REASON_SIZE, "an address has 4 or 16 bytes");
        return -EINVAL;
    }
    make_rule(&rule, port, address);
    eal_lock(log);
    int rc = create_rule(port->id, &rule, &error);
    eal_unlock();
    if (rc < 0)
        snprintf(reason, REASON_SIZE, "%.140s", error.message != NULL ? error.message
                 : log[0] != '\0' ? log : rte_strerror(-rc));
    return rc;
}

/* --- what is let in --- */

static int accepted(int rc) { return rc == 0 ? 1 : rc; }

void device_promiscuous(struct device *device)
{
    int by_interface = device->interface.fd >= 0;
    device->promiscuous = accepted(by_interface ? interface_accept(&device->interface, INTERFACE_PROMISCUOUS)
                                                : rte_eth_promiscuous_enable(device->id));
}

static void all_multicast(struct device *device)
{
    int by_interface = device->interface.fd >= 0;
    device->all_multicast = accepted(by_interface ? interface_accept(&device->interface, INTERFACE_ALL_MULTICAST)
                                                  : rte_eth_allmulticast_enable(device->id));
}

static int set_list(const struct device *device, const uint8_t *macs, uint32_t count)
{
    if (device->interface.fd < 0)
        return rte_eth_dev_set_mc_addr_list(device->id, (struct rte_ether_addr *)(uintptr_t)macs, count);
    int rc = 0;
    for (uint32_t i = 0; i < count && rc == 0; i++)
        rc = interface_join(&device->interface, macs + 6 * i);
    return rc;
}

static int let_in(struct device *device, const uint8_t *macs, uint32_t count)
{
    device->multicast_list = accepted(set_list(device, macs, count));
    if (device->multicast_list == 1)
        return SOURCE_GROUPS_LIST;
    all_multicast(device);
    if (device->all_multicast == 1)
        return SOURCE_GROUPS_ALL;
    device_promiscuous(device);
    return device->promiscuous == 1 ? SOURCE_GROUPS_PROMISCUOUS : device->promiscuous;
}
_Static_assert(sizeof(struct rte_ether_addr) == 6, "a list of them is our list of MACs");

int port_groups(struct source *source, const uint8_t *macs, uint32_t count, char *reason)
{
    char log[REASON_SIZE] = "";
    eal_lock(log);
    int rc = let_in(((struct port *)source)->device, macs, count);
    eal_unlock();
    if (rc < 0)
        snprintf(reason, REASON_SIZE, "%.140s", log[0] != '\0' ? log : rte_strerror(-rc));
    return rc;
}
