#include "net/ethernet.h"
#include "packet.h"
#include "wire/inet.h"
#include "wire/read.h"

enum { TAGS_MAX = 2 };

_Static_assert(sizeof(struct ethernet) == 14 && sizeof(struct vlan_tag) == 4, "IEEE 802.3, 802.1Q");
_Static_assert(sizeof(struct sll) == 16 && sizeof(struct sll2) == 20, "LINKTYPE_LINUX_SLL, SLL2");

static int is_tag(unsigned type)
{
    return type == TYPE_8021Q || type == TYPE_8021AD || type == TYPE_QINQ;
}

static int ethertype_reason(unsigned type)
{
    if (type <= TYPE_LENGTH_MAX)
        return COUNT_drop_llc;
    switch (type) {
    case TYPE_ARP: return COUNT_drop_arp;
    case TYPE_LLDP: return COUNT_drop_lldp;
    case TYPE_MAC_CONTROL: return COUNT_drop_pause;
    case TYPE_MPLS:
    case TYPE_MPLS_UPSTREAM:
    case TYPE_PPPOE_DISCOVERY:
    case TYPE_PPPOE_SESSION: return COUNT_drop_encap;
    default: return COUNT_drop_ethertype;
    }
}

/* IEEE 802.1Q tags; the id of the outermost one is kept. */
static int tags(struct cursor *c, unsigned *type, uint16_t *vlan)
{
    for (int i = 0; is_tag(*type); i++) {
        int reason = i < TAGS_MAX ? lacks(c, sizeof(struct vlan_tag), COUNT_drop_vlan) : COUNT_drop_vlan;
        if (reason)
            return reason;
        const struct vlan_tag *tag = take(c, sizeof *tag);
        if (i == 0)
            *vlan = rd_be16(tag->tci) & 0xfff;
        *type = rd_be16(tag->type);
    }
    return 0;
}

/* Link types without an ethertype: the IP version stands for it. */
static int raw_type(const struct cursor *c, int link, unsigned *type)
{
    int reason = lacks(c, 1, COUNT_drop_frame_short);
    if (reason)
        return reason;
    int version = link == LINK_RAW ? *c->at >> 4 : link == LINK_IPV4 ? 4 : 6;
    *type = version == 4 ? TYPE_IPV4 : TYPE_IPV6;
    return version == 4 || version == 6 ? 0 : COUNT_drop_ip_version;
}

static int cooked_type(struct cursor *c, int link, unsigned *type)
{
    uint32_t len = link == LINK_SLL ? sizeof(struct sll) : sizeof(struct sll2);
    int reason = lacks(c, len, COUNT_drop_frame_short);
    if (reason)
        return reason;
    const void *header = take(c, len);
    const struct sll *sll = header;
    const struct sll2 *sll2 = header;
    *type = rd_be16(link == LINK_SLL ? sll->type : sll2->type);
    return 0;
}

static int ethernet_type(struct cursor *c, unsigned *type)
{
    int reason = lacks(c, sizeof(struct ethernet), COUNT_drop_frame_short);
    if (reason)
        return reason;
    const struct ethernet *header = take(c, sizeof *header);
    *type = rd_be16(header->type);
    return 0;
}

static int link_type(struct cursor *c, int link, unsigned *type)
{
    switch (link) {
    case LINK_ETHERNET: return ethernet_type(c, type);
    case LINK_SLL:
    case LINK_SLL2: return cooked_type(c, link, type);
    case LINK_RAW:
    case LINK_IPV4:
    case LINK_IPV6: return raw_type(c, link, type);
    default: return COUNT_drop_link_unknown;
    }
}

int link_layer(struct cursor *c, int link, unsigned *type, uint16_t *vlan)
{
    int reason = link_type(c, link, type);
    if (reason == 0)
        reason = tags(c, type, vlan);
    if (reason == 0 && *type != TYPE_IPV4 && *type != TYPE_IPV6)
        reason = ethertype_reason(*type);
    return reason;
}
